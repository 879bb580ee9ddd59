//! Who vouches for a bundle, and what each may vouch for.
//!
//! The vendor's key signs a bundle's manifest, which lists the hash of every file. A site's key signs
//! deltas only: a generation that was folded from one is accepted where `delta.json` is signed, says that
//! this generation comes out, and its parent lies in the same store with the vendor's signature; and what a
//! delta cannot change is as in the parent. So whoever holds a site's key cannot bring in another base,
//! configuration or tokenizer through this program. Towers are not folded again when they are opened: who
//! can also write into the store's folder is not kept out by this.

use std::path::Path;

use super::{
    Bundle, Store, aside,
    delta::{self, Record},
    folder::Folder,
    read_manifest,
};
use crate::{
    Error, Generation, Result,
    manifest::{self, COHORT_FILE, Manifest, PROBE_FILE, VOCABULARY_FILE},
    signature::{self, Keys, Role, SecretKey, Signature},
};

/// Name of the signature's file of a bundle; the manifest does not list it.
pub const SIGNATURE_FILE: &str = "manifest.json.minisig";

/// Who vouches for a bundle or a delta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Whose key.
    pub role: Role,
    /// Which one, as minisign prints it.
    pub key: String,
    /// Where it vouches for a delta: the vendor's bundle that this applies to.
    pub parent: Option<Generation>,
}

impl std::fmt::Display for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.role {
            Role::Vendor => write!(f, "the vendor's key {}", self.key)?,
            Role::Site => write!(f, "the site's key {}", self.key)?,
        }
        match self.parent {
            Some(parent) => write!(f, ", as a delta of {parent}"),
            None => Ok(()),
        }
    }
}

/// Signs the bundle or delta in a folder and returns the signature's file. One that is there is replaced.
///
/// # Errors
/// As [`Bundle::open`] or [`delta::Delta::open`]: what is damaged is not signed;
/// [`Error::Unavailable`] where the folder cannot be written.
pub fn sign(folder: &Path, key: &SecretKey) -> Result<std::path::PathBuf> {
    if delta::is_delta(folder) {
        let path = folder.join(delta::SIGNATURE_FILE);
        aside::remove(&aside::beside(&path)?)?;
        let delta = delta::Delta::open(folder)?;
        let Record { parent, result, .. } = delta.record();
        let comment = format!("spotter delta of {parent} to {result}");
        let text = signature::sign(&delta.bytes, key, &comment)?;
        aside::replace_file(&path, text.as_bytes())?;
        return Ok(path);
    }
    // What a crash while signing left would be one file too many.
    aside::remove(&aside::beside(&folder.join(SIGNATURE_FILE))?)?;
    let bundle = Bundle::open(folder)?;
    let path = bundle.path_of(SIGNATURE_FILE);
    let comment = format!("spotter bundle {}", bundle.generation());
    let text = signature::sign(&bundle.manifest_bytes, key, &comment)?;
    aside::replace_file(&path, text.as_bytes())?;
    Ok(path)
}

/// The key that a folder's signature claims to be of, in words; nothing is checked.
pub(super) fn claimed(folder: &Folder) -> Result<Option<String>> {
    let key = |name: &str| -> Result<Option<String>> {
        let bytes = folder.read_if_there(name, signature::MAX_BYTES)?;
        let parse = |bytes: Vec<u8>| Signature::parse(&folder.path_of(name), &bytes);
        Ok(bytes.map(parse).transpose()?.map(|signature| format!("key {}", signature.key_id())))
    };
    Ok(match key(SIGNATURE_FILE)? {
        Some(key) => Some(key),
        None => key(delta::SIGNATURE_FILE)?.map(|key| format!("{key}, for its delta")),
    })
}

/// Who vouches for an open bundle, which lies in `store` if in any.
pub(super) fn signer(bundle: &Bundle, keys: &Keys, store: Option<&Store>) -> Result<Signer> {
    signer_of(&bundle.folder, (&bundle.manifest, &bundle.manifest_bytes), keys, store)
}

/// [`signer`] of a folder of which the manifest alone was read: other files were not looked at.
pub(super) fn signer_of(
    folder: &Folder,
    (manifest, bytes): (&Manifest, &[u8]),
    keys: &Keys,
    store: Option<&Store>,
) -> Result<Signer> {
    if let Some(signature) = folder.read_if_there(SIGNATURE_FILE, signature::MAX_BYTES)? {
        return vendor_of(folder, bytes, &signature, keys);
    }
    let shown = folder.path().display();
    if !folder.has(delta::FILE)? {
        let reason = format!(
            "is not signed, and signatures are required here: ask whoever made it for \
             {SIGNATURE_FILE}, or sign it with `spotterd bundle sign {shown} --key FILE`"
        );
        return Err(Error::invalid(format!("bundle {shown}"), reason));
    }
    let Some(store) = store else {
        let reason = "was made from a delta and is trusted only in the store that holds its parent; bring \
                      the delta itself in with `spotterd bundle apply`";
        return Err(Error::invalid(format!("bundle {shown}"), reason));
    };
    let delta = folder.read(delta::FILE, manifest::MAX_BYTES)?;
    let record = Record::parse(&folder.path_of(delta::FILE), &delta)?;
    let signature = folder.read_if_there(delta::SIGNATURE_FILE, signature::MAX_BYTES)?;
    let signer = signer_of_delta(folder.path(), &record, &delta, &signature, keys)?;
    delta::read_checked(folder, delta::TENSORS_FILE, &record.tensors)?;
    let parent = vendors_parent(&record, keys, store)?;
    check_result(folder, (manifest, bytes), &record, &parent)?;
    Ok(signer)
}

/// Who signed a bundle's manifest; only the vendor may.
fn vendor_of(folder: &Folder, bytes: &[u8], signature: &[u8], keys: &Keys) -> Result<Signer> {
    let path = folder.path_of(SIGNATURE_FILE);
    let signature = Signature::parse(&path, signature)?;
    match keys.signer(bytes, &signature)? {
        (role @ Role::Vendor, key) => Ok(Signer { role, key, parent: None }),
        (Role::Site, key) => {
            let reason = format!(
                "is by the site's key {key}, and a site's key signs deltas only: have the vendor sign \
                 this bundle, or bring in what the site trained with `spotterd bundle apply`"
            );
            Err(Error::corrupt(path, reason))
        }
    }
}

/// Who signed a delta.
pub(super) fn signer_of_delta(
    path: &Path,
    record: &Record,
    bytes: &[u8],
    signature: &Option<Vec<u8>>,
    keys: &Keys,
) -> Result<Signer> {
    let Some(signature) = signature else {
        let reason = "is not signed, and signatures are required here: sign the delta with `spotterd bundle \
             sign DELTA --key FILE`, by the vendor's or the site's key, and apply it again";
        return Err(Error::invalid(format!("delta {}", path.display()), reason));
    };
    let signature = Signature::parse(&path.join(delta::SIGNATURE_FILE), signature)?;
    let (role, key) = keys.signer(bytes, &signature)?;
    Ok(Signer { role, key, parent: Some(record.parent) })
}

/// The manifest of a delta's parent, which must lie in the store with the vendor's own signature.
pub(super) fn vendors_parent(record: &Record, keys: &Keys, store: &Store) -> Result<Manifest> {
    let parent = record.parent;
    let what = || format!("parent {parent} of the delta `{}`", manifest::printable(&record.name));
    let Some(folder) = store.folder(parent)? else {
        let reason = format!(
            "is not in {}; install the vendor's bundle of that number first, with `spotterd bundle \
             promote`",
            store.root().display()
        );
        return Err(Error::invalid(what(), reason));
    };
    let (manifest, bytes) = read_manifest(&folder)?;
    if Generation::of_manifest(&bytes) != parent {
        let reason = "is not the bundle of its number; install it again";
        return Err(Error::corrupt(folder.path_of(manifest::FILE), reason));
    }
    let Some(signature) = folder.read_if_there(SIGNATURE_FILE, signature::MAX_BYTES)? else {
        let reason = "is not signed by the vendor, and a delta is trusted only on a bundle that is; \
                      install the vendor's signed bundle";
        return Err(Error::invalid(what(), reason));
    };
    vendor_of(&folder, &bytes, &signature, keys)?;
    Ok(manifest)
}

/// Whether a generation is what its delta says, and has from its parent what a delta cannot change. Both
/// were checked when it was folded; this is for folders that came into a store in another way.
fn check_result(
    folder: &Folder,
    (manifest, bytes): (&Manifest, &[u8]),
    record: &Record,
    parent: &Manifest,
) -> Result<()> {
    let words = |manifest: &Manifest| manifest.files.get(VOCABULARY_FILE).cloned();
    let file = |name: &str| manifest.files.get(name);
    let same = [
        ("generation", Generation::of_manifest(bytes) == record.result),
        ("parent", manifest.parent == Some(record.parent)),
        ("base", manifest.lineage.base == parent.lineage.base),
        ("base", record.lineage == parent.lineage),
        ("tensors", manifest.lineage.adapters == Some(record.tensors.sha256)),
        ("config", manifest.config == parent.config),
        ("preprocess", manifest.preprocess == parent.preprocess),
        ("tokenizer", manifest.tokenizer == parent.tokenizer),
        ("licence", manifest.licence == parent.licence),
        ("data", manifest.data == parent.data),
        ("intended_use", manifest.intended_use == parent.intended_use),
        ("vocabulary", words(manifest) == words(parent)),
        ("probe", file(PROBE_FILE) == Some(&record.probe)),
        ("cohort", file(COHORT_FILE) == record.cohort.as_ref()),
    ];
    match same.iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((what, _)) => Err(Error::corrupt(
            folder.path(),
            format!(
                "is not what its {} gives on the parent {}: the {what} differs; remove it and apply the \
                 delta again",
                delta::FILE,
                record.parent
            ),
        )),
    }
}
