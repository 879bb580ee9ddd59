//! Generations of a bundle side by side, one of them current.
//!
//! ```text
//! ROOT/generations/<id>/   bundles, with their signature or the delta they were folded from; a name with
//!                          a dot is unfinished or half removed
//! ROOT/current             symbolic link to generations/<id>
//! ROOT/candidate           symbolic link to the one that is to be compared with the current one before it serves
//! ROOT/judged              ids of candidates that were turned down
//! ROOT/history             ids in the order of their promotion, the last one current or about to be
//! ```
//! Every step is one rename, so a crash leaves the state before or after it. What a crash leaves
//! besides is removed by the next change.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Bundle,
    aside::{self, Aside},
    delta::{self, Delta},
    folder::Folder,
    pack::Pack,
    read_manifest,
    trust::{self, SIGNATURE_FILE, Signer},
};
use crate::{
    Error, Generation, Result,
    manifest::{self, Manifest},
    signature::Keys,
};

/// Name of the link to the current generation.
pub(super) const CURRENT: &str = "current";

/// Name of the folder that holds the bundles.
pub(super) const GENERATIONS: &str = "generations";

/// Name of the link to the generation that is tried before it is promoted.
const CANDIDATE: &str = "candidate";

const HISTORY: &str = "history";

/// Name of the list of generations that were turned down.
const JUDGED: &str = "judged";

/// Promotions that are remembered; older ones cannot be rolled back to in one step each.
const MOST_HISTORY: usize = 64;

/// A folder with generations of a bundle. Opening it reads nothing.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// Where somebody must vouch for every generation that is opened: who may.
    keys: Option<Arc<Keys>>,
}

/// One generation in a store, as [`Store::list`] sees it.
#[derive(Debug)]
pub struct Installed {
    /// Its identity and the name of its folder.
    pub generation: Generation,
    /// Whether `current` points at it.
    pub current: bool,
    /// Its manifest, or why it is none. Its other files were not looked at.
    pub manifest: Result<Manifest>,
    /// Who vouches for it, where the store was given keys; else the key that its signature claims to
    /// be of. `None` where it is not signed and need not be.
    pub signer: Result<Option<String>>,
}

impl Store {
    /// The store in a folder, which the first [`Store::install`] makes.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), keys: None }
    }

    /// The same store, which from now on takes in and opens only what somebody with one of these keys
    /// vouches for: the vendor for a bundle, the vendor or the site for a delta of the vendor's bundle.
    pub fn requiring(mut self, keys: Keys) -> Self {
        self.keys = Some(Arc::new(keys));
        self
    }

    /// The store that a generation's folder lies in.
    pub(super) fn of_generation(folder: &Path) -> Option<Self> {
        let folder = folder.canonicalize().ok()?;
        folder.file_name()?.to_str()?.parse::<Generation>().ok()?;
        let generations = folder.parent().filter(|parent| parent.ends_with(GENERATIONS))?;
        Some(Self::new(generations.parent()?))
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Copies a bundle with its signature into the store, verified, and returns its generation. Does not
    /// promote it.
    ///
    /// Installing what is there already changes nothing; where the copy in the store is damaged, it
    /// is replaced.
    ///
    /// # Errors
    /// As [`Bundle::open`], and as [`Bundle::signer`] where the store has keys; [`Error::Unavailable`]
    /// where the store cannot be written or another process is changing it; [`Error::Io`].
    pub fn install(&self, source: &Path) -> Result<Generation> {
        let bundle = Bundle::open(source)?;
        if let Some(keys) = &self.keys {
            // For itself: a delta is folded here, not copied from where somebody else did it.
            trust::signer(&bundle, keys, None)?;
        }
        let generations = self.root.join(GENERATIONS);
        std::fs::create_dir_all(&generations).map_err(aside::writing(&generations))?;
        let _change = self.begin_change()?;
        let generation = bundle.generation();
        let has_signature =
            |there: Bundle| bundle.signature.is_none() || bundle.signature == there.signature;
        if self.open(generation).is_ok_and(has_signature) {
            return Ok(generation);
        }
        let aside = Aside::create(generations.join(".installing"))?;
        for name in bundle.manifest().files.keys() {
            aside.file(name, |file| {
                bundle.stream(name, |part| std::io::Write::write_all(file, part))
            })?;
        }
        if let Some(signature) = &bundle.signature {
            aside.bytes(SIGNATURE_FILE, signature)?;
        }
        aside.bytes(manifest::FILE, &bundle.manifest_bytes)?;
        aside.finish(&self.folder_of(generation))?;
        Ok(generation)
    }

    /// Folds a delta onto its parent's pack and keeps the bundle, with the delta beside it. Does not
    /// promote it. The folding is done here, so that a delta cannot bring in anything but trained tensors.
    /// `check` sees the bundle before it has its name in the store: there its probe is computed.
    ///
    /// Applying what is there already changes nothing, and does not fold.
    ///
    /// # Errors
    /// As [`Delta::open`] and [`delta::apply`]; where the store has keys, as [`Delta::signer`], and
    /// [`Error::Invalid`] where the parent is not installed with the vendor's signature; those of `check`;
    /// [`Error::Unavailable`] and [`Error::Io`] as [`Store::install`].
    pub fn apply(
        &self,
        delta: &Path,
        pack: &Path,
        check: impl FnOnce(&Bundle) -> Result<()>,
    ) -> Result<Generation> {
        let delta = Delta::open(delta)?;
        let parent = self.parent_of(&delta)?;
        let generations = self.root.join(GENERATIONS);
        std::fs::create_dir_all(&generations).map_err(aside::writing(&generations))?;
        let _change = self.begin_change()?;
        let generation = delta.record().result;
        if self.open(generation).is_ok_and(|there| delta.is_in(&there.folder)) {
            return Ok(generation);
        }
        let pack = Pack::open(pack)?;
        if let Some(parent) = parent {
            pack.check_is_of(&parent, delta.record().parent)?;
        }
        let aside = Aside::create(generations.join(".installing"))?;
        delta.fold(pack, |name, bytes| aside.bytes(name, bytes))?;
        delta.keep(|name, bytes| aside.bytes(name, bytes))?;
        let bundle = Bundle::open_folder(aside.path())?;
        if let Some(keys) = &self.keys {
            trust::signer(&bundle, keys, Some(self))?;
        }
        check(&bundle)?;
        aside.finish(&self.folder_of(generation))?;
        Ok(generation)
    }

    /// The parent's manifest. Without keys a parent that is not here is none; with them it is an error,
    /// as is a delta that nobody signed who may.
    fn parent_of(&self, delta: &Delta) -> Result<Option<Manifest>> {
        match &self.keys {
            Some(keys) => {
                delta.signer(keys)?;
                trust::vendors_parent(delta.record(), keys, self).map(Some)
            }
            None => {
                let folder = self.folder(delta.record().parent)?;
                Ok(folder
                    .map(|folder| read_manifest(&folder))
                    .transpose()?
                    .map(|(parent, _)| parent))
            }
        }
    }

    /// Who vouches for an installed generation. Reads its manifest and signature only.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is not installed or nobody signed it, [`Error::Corrupt`] where a
    /// signature does not hold.
    pub fn signer(&self, generation: Generation, keys: &Keys) -> Result<Signer> {
        let folder = self.folder(generation)?.ok_or_else(|| self.is_absent(generation))?;
        let (manifest, bytes) = read_manifest(&folder)?;
        trust::signer_of(&folder, (&manifest, &bytes), keys, Some(self))
    }

    fn is_absent(&self, generation: Generation) -> Error {
        Error::invalid(
            format!("generation {generation}"),
            format!("is not installed in {}; install it first", self.root.display()),
        )
    }

    /// The folder of a generation, if it is here.
    pub(super) fn folder(&self, generation: Generation) -> Result<Option<Folder>> {
        let path = self.folder_of(generation);
        match path.symlink_metadata() {
            Ok(status) if status.is_dir() => Folder::open(&path).map(Some),
            Ok(_) => Err(Error::corrupt(&path, "is no folder; remove it and install again")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// Makes a generation the current one, after verifying it.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is not installed, [`Error::Corrupt`] where it is damaged,
    /// [`Error::Unavailable`] and [`Error::Io`] as [`Store::install`].
    pub fn promote(&self, generation: Generation) -> Result<()> {
        self.open(generation)?;
        let _change = self.begin_change()?;
        let current = self.current()?;
        if current == Some(generation) {
            return Ok(());
        }
        // The history first: if the switch below does not happen, `previous` still finds the
        // predecessor of what is current then.
        let mut history = self.history()?;
        if let Some(end) = current.and_then(|id| history.iter().position(|other| *other == id)) {
            history.truncate(end + 1);
        }
        history.retain(|other| *other != generation);
        history.push(generation);
        self.write_list(HISTORY, &history)?;
        self.switch(generation)?;
        self.end_candidacy()
    }

    /// What is current is no candidate, also once another one is current again.
    fn end_candidacy(&self) -> Result<()> {
        match (self.current(), self.link(CANDIDATE)) {
            (Ok(Some(current)), Ok(Some(candidate))) if current == candidate => {
                aside::remove(&self.root.join(CANDIDATE))
            }
            _ => Ok(()),
        }
    }

    /// Has whoever serves compare a generation with the current one before it is promoted, after verifying it; in the
    /// place of another candidate.
    ///
    /// # Errors
    /// As [`Store::promote`], and [`Error::Invalid`] where it is the current one or none is.
    pub fn nominate(&self, generation: Generation) -> Result<()> {
        self.open(generation)?;
        let _change = self.begin_change()?;
        match self.current()? {
            Some(current) if current != generation => {
                aside::replace_link(&self.root.join(CANDIDATE), &target_of(generation))
            }
            Some(_) => Err(Error::invalid(
                format!("generation {generation}"),
                "is the current one: there is nothing to compare it with",
            )),
            None => Err(Error::invalid(
                format!("store {}", self.root.display()),
                "has no current generation to compare a candidate with; promote one",
            )),
        }
    }

    /// The generation that was nominated and is not current by now.
    ///
    /// # Errors
    /// As [`Store::current`].
    pub fn candidate(&self) -> Result<Option<Generation>> {
        let candidate = self.link(CANDIDATE)?;
        Ok(candidate
            .filter(|candidate| !matches!(self.current(), Ok(Some(id)) if id == *candidate)))
    }

    /// Whether a generation was neither promoted nor turned down here yet, as far back as that is remembered.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn is_fresh(&self, generation: Generation) -> Result<bool> {
        Ok(!self.history()?.contains(&generation) && !self.list_of(JUDGED)?.contains(&generation))
    }

    /// A generation is turned down: it is no candidate any more, where it was, and [not fresh](Store::is_fresh).
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Io`] as [`Store::install`].
    pub fn withdraw(&self, generation: Generation) -> Result<()> {
        let _change = self.begin_change()?;
        let mut judged = self.list_of(JUDGED)?;
        judged.retain(|other| *other != generation);
        judged.push(generation);
        self.write_list(JUDGED, &judged)?;
        match self.link(CANDIDATE) {
            Ok(candidate) if candidate != Some(generation) => Ok(()),
            // What is no link to a generation is nobody's candidate either.
            Ok(_) | Err(_) => aside::remove(&self.root.join(CANDIDATE)),
        }
    }

    /// Goes back to the generation that was current before, and returns it.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is none, otherwise as [`Store::promote`].
    pub fn rollback(&self) -> Result<Generation> {
        let _change = self.begin_change()?;
        let previous = self.previous()?.ok_or_else(|| {
            Error::invalid(
                format!("store {}", self.root.display()),
                "holds no generation that was current before; promote one by its id",
            )
        })?;
        self.open(previous)?;
        self.switch(previous)?;
        Ok(previous)
    }

    /// Makes a generation current again that was open all the time, as [`Store::rollback`] does, where `from` is current.
    /// Nothing of it is read.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is not installed, [`Error::Unavailable`] and [`Error::Io`] as [`Store::install`].
    pub fn return_from(&self, from: Generation, to: Generation) -> Result<()> {
        if !self.has(to) {
            return Err(self.is_absent(to));
        }
        let _change = self.begin_change()?;
        if self.current()? == Some(from) {
            self.switch(to)?;
        }
        Ok(())
    }

    /// Whether a generation is installed; nothing of it is read.
    pub fn has(&self, generation: Generation) -> bool {
        self.folder_of(generation).symlink_metadata().is_ok()
    }

    /// The generations that were current before the one that is and are installed still, the last one first.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Corrupt`] where `current` is no link to a generation.
    pub fn earlier(&self) -> Result<Vec<Generation>> {
        let Some(current) = self.current()? else { return Ok(Vec::new()) };
        let history = self.history()?;
        // One that nobody promoted came after all that were.
        let at = history.iter().position(|id| *id == current).unwrap_or(history.len());
        Ok(history.into_iter().take(at).rev().filter(|id| self.has(*id)).collect())
    }

    /// What is installed, sorted by id. A damaged manifest is an entry, not an error.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Corrupt`] where `current` is no link to a generation.
    pub fn list(&self) -> Result<Vec<Installed>> {
        let current = self.current()?;
        let mut installed: Vec<Installed> = self
            .ids()?
            .into_iter()
            .map(|generation| Installed {
                generation,
                current: current == Some(generation),
                manifest: Folder::open(&self.folder_of(generation))
                    .and_then(|folder| read_manifest(&folder))
                    .map(|(manifest, _)| manifest),
                signer: self.who_signed(generation),
            })
            .collect();
        installed.sort_by_key(|entry| entry.generation);
        Ok(installed)
    }

    fn who_signed(&self, generation: Generation) -> Result<Option<String>> {
        match &self.keys {
            Some(keys) => Ok(Some(self.signer(generation, keys)?.to_string())),
            None => match self.folder(generation)? {
                Some(folder) => trust::claimed(&folder),
                None => Ok(None),
            },
        }
    }

    /// Removes all but the current generation, the one that [`Store::rollback`] would go back to, the candidate,
    /// the `keep` others that were installed last, and the parents of deltas among these, by which they
    /// are trusted. Returns what was removed.
    ///
    /// # Errors
    /// As [`Store::install`].
    pub fn prune(&self, keep: usize) -> Result<Vec<Generation>> {
        let _change = self.begin_change()?;
        let mut kept: BTreeSet<Generation> =
            [self.current()?, self.previous()?, self.candidate()?].into_iter().flatten().collect();
        let mut others = Vec::new();
        for generation in self.ids()? {
            if !kept.contains(&generation) {
                let path = self.folder_of(generation);
                let installed = path.metadata().and_then(|status| status.modified());
                others.push((installed.map_err(Error::io(&path))?, generation));
            }
        }
        others.sort_unstable();
        let newest = others.split_off(others.len().saturating_sub(keep));
        kept.extend(newest.into_iter().map(|(_, generation)| generation));
        let parents: Vec<Generation> =
            kept.iter().filter_map(|id| self.parent_by_delta(*id)).collect();
        kept.extend(parents);
        let mut removed = Vec::new();
        for (_, generation) in others.into_iter().filter(|(_, id)| !kept.contains(id)) {
            // Renamed first: nobody sees a bundle that is half gone.
            let path = self.folder_of(generation);
            let hidden = self.root.join(GENERATIONS).join(format!(".removing-{generation}"));
            std::fs::rename(&path, &hidden).map_err(aside::writing(&path))?;
            aside::sync_parent(&path)?;
            aside::remove(&hidden)?;
            removed.push(generation);
        }
        Ok(removed)
    }

    /// The generation that `current` points at.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where `current` is something else than a link to a generation,
    /// [`Error::Io`].
    pub fn current(&self) -> Result<Option<Generation>> {
        self.link(CURRENT)
    }

    fn link(&self, name: &str) -> Result<Option<Generation>> {
        let link = self.root.join(name);
        let target = match std::fs::read_link(&link) {
            Ok(target) => target,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                return Err(Error::corrupt(&link, "is no symbolic link; remove it and promote"));
            }
            Err(error) => return Err(Error::io(&link)(error)),
        };
        // Only this form, so that the link cannot lead out of the store.
        target
            .to_str()
            .and_then(|target| target.strip_prefix(GENERATIONS)?.strip_prefix('/'))
            .and_then(|id| id.parse().ok())
            .map(Some)
            .ok_or_else(|| {
                Error::corrupt(
                    &link,
                    format!(
                        "points at `{}`, which is no generation; promote one by its id",
                        manifest::printable(&target.to_string_lossy())
                    ),
                )
            })
    }

    /// Opens and verifies an installed generation.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is not installed, otherwise as [`Bundle::open`], and as
    /// [`Store::signer`] where the store has keys.
    pub fn open(&self, generation: Generation) -> Result<Bundle> {
        if self.folder(generation)?.is_none() {
            return Err(self.is_absent(generation));
        }
        let path = self.folder_of(generation);
        let bundle = Bundle::open_folder(&path)?;
        if bundle.generation() != generation {
            return Err(Error::corrupt(
                path.join(manifest::FILE),
                format!("is that of {}; install the bundle again", bundle.generation()),
            ));
        }
        if let Some(keys) = &self.keys {
            trust::signer(&bundle, keys, Some(self))?;
        }
        Ok(bundle)
    }

    /// The records of the deltas that generations were folded from, sorted by generation; one that cannot be
    /// read is an entry, not an error. A folder that is no store has none.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn deltas(&self) -> Result<Vec<(Generation, Result<delta::Record>)>> {
        if !self.root.join(GENERATIONS).is_dir() {
            return Ok(Vec::new());
        }
        let mut ids = self.ids()?;
        ids.sort_unstable();
        let mut deltas = Vec::new();
        for generation in ids {
            let path = self.folder_of(generation).join(delta::FILE);
            if path.symlink_metadata().is_err() {
                continue;
            }
            let record = Folder::open(&self.folder_of(generation))
                .and_then(|folder| folder.read(delta::FILE, manifest::MAX_BYTES))
                .and_then(|bytes| delta::Record::parse(&path, &bytes));
            deltas.push((generation, record));
        }
        Ok(deltas)
    }

    /// The parent of a generation that was folded from a delta.
    fn parent_by_delta(&self, generation: Generation) -> Option<Generation> {
        let folder = self.folder(generation).ok()??;
        let bytes = folder.read(delta::FILE, manifest::MAX_BYTES).ok()?;
        let record = delta::Record::parse(&folder.path_of(delta::FILE), &bytes).ok()?;
        Some(record.parent)
    }

    /// What rollback goes back to: the last promoted before the current one that is still here.
    fn previous(&self) -> Result<Option<Generation>> {
        Ok(self.earlier()?.into_iter().next())
    }

    fn switch(&self, generation: Generation) -> Result<()> {
        aside::replace_link(&self.root.join(CURRENT), &target_of(generation))
    }

    fn folder_of(&self, generation: Generation) -> PathBuf {
        self.root.join(GENERATIONS).join(generation.to_string())
    }

    /// Ids in the order of promotion, each once. Lines that are no id are skipped: the history only
    /// serves rollback, and a damaged one must not stand in the way of a promotion.
    fn history(&self) -> Result<Vec<Generation>> {
        self.list_of(HISTORY)
    }

    fn write_list(&self, name: &str, ids: &[Generation]) -> Result<()> {
        let forgotten = ids.len().saturating_sub(MOST_HISTORY);
        let lines: String = ids.iter().skip(forgotten).map(|id| format!("{id}\n")).collect();
        aside::replace_file(&self.root.join(name), lines.as_bytes())
    }

    fn list_of(&self, name: &str) -> Result<Vec<Generation>> {
        // A generation has 32 digits and a line end.
        const MOST_BYTES: u64 = MOST_HISTORY as u64 * 33;
        let path = self.root.join(name);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(&path)(error)),
        }
        let mut history: Vec<Generation> = Vec::new();
        for id in String::from_utf8_lossy(&bytes).lines().filter_map(|line| line.parse().ok()) {
            if !history.contains(&id) {
                history.push(id);
            }
        }
        Ok(history)
    }

    /// Ids of the folders in `generations`; other names are none of ours and left alone.
    fn ids(&self) -> Result<Vec<Generation>> {
        let path = self.root.join(GENERATIONS);
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(Error::io(&path))? {
            let entry = entry.map_err(Error::io(&path))?;
            ids.extend(entry.file_name().to_str().and_then(|name| name.parse::<Generation>().ok()));
        }
        Ok(ids)
    }

    /// Locks the store against other writers and removes what a crash left. Dropping the file ends
    /// the change.
    fn begin_change(&self) -> Result<File> {
        let root = File::open(&self.root).map_err(Error::io(&self.root))?;
        if !aside::lock(&root, &self.root)? {
            return Err(Error::Unavailable {
                what: format!("store {}", self.root.display()),
                reason: "another process is changing it; try again when that has ended".into(),
            });
        }
        let generations = self.root.join(GENERATIONS);
        for entry in std::fs::read_dir(&generations).map_err(Error::io(&generations))? {
            let entry = entry.map_err(Error::io(&generations))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                aside::remove(&entry.path())?;
            }
        }
        self.end_candidacy()?;
        Ok(root)
    }
}

/// What a link to a generation holds: from the store's folder.
fn target_of(generation: Generation) -> PathBuf {
    Path::new(GENERATIONS).join(generation.to_string())
}
