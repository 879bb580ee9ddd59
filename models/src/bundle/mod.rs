//! A model bundle: a folder with a manifest, two towers and a probe.
//!
//! `Bundle` opens and verifies one, `write` makes one, `pack` and `fold` carry one in a fraction of its
//! size, `delta` what a site trained; `Store` keeps several bundles and says which is current. Nothing
//! here runs a model.

pub(crate) mod aside;
pub mod delta;
mod folder;
mod pack;
mod store;
mod trust;
mod write;

use std::path::{Path, PathBuf};

pub use delta::Delta;
pub use pack::{Changed, Pack, fold, is_pack, pack, pack_with_vocabulary};
pub use store::{Installed, Store};
pub use trust::{SIGNATURE_FILE, Signer, sign};
pub use write::{Draft, write, write_with_cohort, write_with_vocabulary};

use crate::{
    Error, Generation, Result,
    digest::hash_stream,
    manifest::{self, FileRecord, Manifest},
    signature::{self, Keys},
};
use folder::Folder;

/// An open bundle whose every file was verified.
///
/// It keeps the folder open, so a later change of a store's current generation does not mix files of
/// two bundles.
#[derive(Debug)]
pub struct Bundle {
    folder: Folder,
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    generation: Generation,
    /// The content of its signature's file, not yet checked.
    signature: Option<Vec<u8>>,
}

impl Bundle {
    /// Opens a bundle's folder, or the current generation of a store, and verifies the size and
    /// hash of every file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] that names the file which is missing, too many, changed, cut or a link;
    /// [`Error::Unavailable`] where a store has no current generation; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        // Whatever the kind of entry: a manifest that is a link is refused by name further down.
        let is_there = |name: &str| path.join(name).symlink_metadata().is_ok();
        if !is_there(manifest::FILE) && (is_there(store::CURRENT) || is_there(store::GENERATIONS)) {
            let store = Store::new(path);
            return match store.current()? {
                Some(generation) => store.open(generation),
                None => Err(Error::Unavailable {
                    what: format!("a current generation in {}", path.display()),
                    reason: "none was promoted; run `spotterd bundle promote`".into(),
                }),
            };
        }
        Self::open_folder(path)
    }

    /// As [`Bundle::open`], for a bundle that somebody with one of the keys vouches for.
    ///
    /// # Errors
    /// As [`Bundle::open`] and [`Bundle::signer`].
    pub fn open_signed(path: &Path, keys: &Keys) -> Result<(Self, Signer)> {
        let bundle = Self::open(path)?;
        let signer = bundle.signer(keys)?;
        Ok((bundle, signer))
    }

    /// Who vouches for it: the vendor, by a signature of the manifest, or, where it lies in a store and
    /// was folded from a delta, the vendor or the site by a signature of that.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is not signed, [`Error::Corrupt`] where the signature is of another
    /// bundle, of an unknown key or of a site's, or the delta does not give this bundle.
    pub fn signer(&self, keys: &Keys) -> Result<Signer> {
        // A generation may be trusted by its parent, which lies beside it.
        trust::signer(self, keys, Store::of_generation(self.path()).as_ref())
    }

    /// The key that its signature claims to be of, in words; nothing is checked. `None`: not signed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the signature's file is none.
    pub fn claimed_signer(&self) -> Result<Option<String>> {
        trust::claimed(&self.folder)
    }

    fn open_folder(path: &Path) -> Result<Self> {
        let folder = Folder::open(path)?;
        let (manifest, manifest_bytes) = read_manifest(&folder)?;
        check_names(&folder, &manifest)?;
        let generation = Generation::of_manifest(&manifest_bytes);
        let signature = folder.read_if_there(SIGNATURE_FILE, signature::MAX_BYTES)?;
        let bundle = Self { folder, manifest, manifest_bytes, generation, signature };
        for name in bundle.manifest.files.keys() {
            bundle.stream(name, |_| Ok(()))?;
        }
        Ok(bundle)
    }

    /// The folder it was opened from.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its identity.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Where a file of the bundle lies, for error messages.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.folder.path_of(name)
    }

    /// The content of a file. These very bytes are hashed, so a change since the bundle was opened
    /// cannot slip in.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not in the manifest, [`Error::Corrupt`] where the file
    /// changed, [`Error::Io`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let length = usize::try_from(self.record(name)?.bytes).unwrap_or(usize::MAX);
        self.stream(name, |part| {
            if bytes.is_empty() {
                // Only now, when the file is known to be as long as the manifest says.
                bytes.try_reserve_exact(length).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
            }
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn record(&self, name: &str) -> Result<&FileRecord> {
        self.manifest.files.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.manifest.files.keys().map(String::as_str).collect();
            Error::invalid(
                format!("file `{name}` of bundle {}", self.manifest.name),
                format!("is not in it; it holds {}", names.join(", ")),
            )
        })
    }

    /// Hands a file to `sink` piece by piece; what was handed over counts only if this succeeds.
    fn stream(&self, name: &str, sink: impl FnMut(&[u8]) -> std::io::Result<()>) -> Result<()> {
        let record = self.record(name)?;
        let path = self.path_of(name);
        let (file, length) = self.folder.open_file(name)?;
        if length != record.bytes {
            return Err(Error::corrupt(
                path,
                format!("has {length} bytes, not the {} of the manifest; {AGAIN}", record.bytes),
            ));
        }
        let (digest, length) = hash_stream(file, record.bytes, sink).map_err(Error::io(&path))?;
        if digest != record.sha256 || length != record.bytes {
            return Err(Error::corrupt(
                path,
                format!("has sha256 {digest}, not the {} of the manifest; {AGAIN}", record.sha256),
            ));
        }
        Ok(())
    }
}

/// What to do about a damaged bundle.
const AGAIN: &str = "copy or export the bundle again";

/// Reads and checks the manifest of a folder, nothing else.
fn read_manifest(folder: &Folder) -> Result<(Manifest, Vec<u8>)> {
    let path = folder.path_of(manifest::FILE);
    let (file, _) = folder.open_file(manifest::FILE)?;
    let mut bytes = Vec::new();
    hash_stream(file, manifest::MAX_BYTES, |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })
    .map_err(Error::io(&path))?;
    Ok((Manifest::parse(&path, &bytes)?, bytes))
}

/// Refuses a folder that holds other files than the manifest lists.
fn check_names(folder: &Folder, manifest: &Manifest) -> Result<()> {
    let present = folder.names()?;
    let is_of_delta = present.iter().any(|name| name == delta::FILE);
    let listed = |name: &str| {
        name == manifest::FILE
            || name == SIGNATURE_FILE
            || manifest.files.contains_key(name)
            || is_of_delta && delta::KEPT.contains(&name)
    };
    let extra: Vec<String> = present
        .iter()
        .filter(|name| !listed(name))
        .map(|name| format!("`{}`", manifest::printable(name)))
        .collect();
    let missing: Vec<String> = manifest
        .files
        .keys()
        .filter(|name| !present.contains(name))
        .map(|name| format!("`{name}`"))
        .collect();
    let mut faults = Vec::new();
    if !missing.is_empty() {
        faults.push(format!("lacks {}", missing.join(", ")));
    }
    if !extra.is_empty() {
        faults.push(format!("holds {}, which its manifest does not list", extra.join(", ")));
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::corrupt(folder.path(), format!("{}; {AGAIN}", faults.join("; "))))
}
