//! Verdicts and waiting crops on disk, with what is known of each in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use spotter_models::{
    Generation, Kind,
    feedback::{Feedback, Judgement, MAX_PICTURES, Picture, SCHEMA, Verdict},
};

use super::{Facts, Limits, Said, Shot, Taken, Told, Wish, facts};
use crate::{
    alert::rfc3339,
    bounded,
    erase::Trace,
    error::{Error, Result},
    picture,
    sighting::Event,
};

/// Folder of what waits; the trainer passes over names with a dot.
const PENDING: &str = ".pending";
const FACTS: &str = "sighting.json";
/// Largest `sighting.json` that is read, and largest picture, in bytes.
const MAX_FACTS: u64 = 64 << 10;
const MAX_JPEG: u64 = 16 << 20;
/// Quality of a crop's JPEG, as of a snapshot's.
const JPEG_QUALITY: u8 = 85;

/// The folder of verdicts of a state folder.
pub struct Shelf {
    pub(super) folder: PathBuf,
    pub(super) limits: Limits,
    /// Tells tracks of this run of the daemon from those of others.
    run: String,
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    /// By sighting, and so by time.
    pub(super) entries: BTreeMap<String, Entry>,
    /// Folders that are no verdict although they should be.
    broken: Vec<PathBuf>,
}

pub(super) struct Entry {
    pub(super) facts: Facts,
    /// Bytes of the crops that wait.
    pub(super) waiting: u64,
    pub(super) verdict: Option<Kept>,
}

pub(super) struct Kept {
    pub(super) judgement: Judgement,
    pub(super) at: Timestamp,
    pub(super) pictures: usize,
    pub(super) bytes: u64,
}

impl Entry {
    pub(super) fn bytes(&self) -> u64 {
        self.waiting + self.verdict.as_ref().map_or(0, |kept| kept.bytes)
    }
}

impl Inner {
    pub(super) fn bytes(&self) -> u64 {
        self.entries.values().map(Entry::bytes).sum()
    }
}

/// What became of what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on disk.
    Kept {
        /// With so many pictures.
        pictures: usize,
        /// In the place of an earlier verdict.
        replaced: bool,
        /// Views of the track that were not good enough, by cause.
        left_out: BTreeMap<String, u32>,
    },
    /// Who is on the way is remembered.
    Taken,
    /// Nothing is known here of that sighting.
    Unknown,
}

/// What an erasure takes, or would take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Verdicts.
    pub verdicts: usize,
    /// Their pictures.
    pub pictures: usize,
    /// Crops that wait for a verdict.
    pub waiting: usize,
    /// Folders that cannot be read, of which nobody can say who is in them.
    pub damaged: usize,
    /// Such folders that stay.
    pub unreadable: usize,
    /// The sightings.
    pub sightings: BTreeSet<String>,
}

impl Shelf {
    /// Opens what is there; with `only_look` nothing is changed, not even what a crash left. `now` names this
    /// run.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be read or written.
    pub fn open(folder: PathBuf, limits: Limits, only_look: bool, now: Timestamp) -> Result<Self> {
        let mut inner = Inner::default();
        if folder.is_dir() {
            if !only_look {
                clear(&folder)?;
                Feedback::create(&folder)?;
            }
            read_verdicts(&folder, &mut inner)?;
            read_pending(&folder.join(PENDING), &mut inner, only_look)?;
        }
        let run = format!("{:x}", now.as_millisecond());
        Ok(Self { folder, limits, run, inner: Mutex::new(inner) })
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self, sighting: &str) -> PathBuf {
        self.folder.join(PENDING).join(sighting)
    }

    /// A sighting is told: keeps the best of its crops until a verdict comes. What the disk does not take is
    /// counted.
    pub fn told(&self, told: &Told, now: Timestamp) {
        let mut inner = self.inner();
        let name = told.sighting.id.to_string();
        if !inner.entries.contains_key(&name) {
            // What ends and was never there was erased, or had no room.
            let is_over = told.sighting.event == Event::End;
            let Some(bundle) = told.sighting.bundle.parse::<Generation>().ok().filter(|_| !is_over)
            else {
                return;
            };
            let facts = Facts::new(told, &self.run, bundle, now);
            inner.entries.insert(name.clone(), Entry { facts, waiting: 0, verdict: None });
        }
        let Some(entry) = inner.entries.get_mut(&name) else { return };
        let may_grow = self.may_grow(entry.verdict.is_some(), told);
        entry.facts.learn(told);
        if entry.facts.text.is_empty() {
            entry.facts.text.clone_from(&told.text);
        }
        let shots: &[Shot] = if may_grow { &told.shots } else { &[] };
        if let Err(error) = self.write(entry, shots) {
            let is_full = error.kind() == Kind::Exhausted;
            let cause = if is_full { "disk_full" } else { "failed" };
            super::left_out(cause, shots.len() as u64);
            tracing::warn!(sighting = name, %error, "Crops of a sighting are not on disk.");
        }
    }

    /// Whether more pictures may be written: a disk that is nearly full is left to sightings and alerts.
    fn may_grow(&self, is_judged: bool, told: &Told) -> bool {
        if is_judged || told.shots.is_empty() {
            return false;
        }
        let parent = self.folder.parent().unwrap_or(Path::new("."));
        let room = rustix::fs::statvfs(parent).map(|disk| disk.f_bavail * disk.f_frsize);
        if room.is_ok_and(|room| room < super::RESERVE_BYTES) {
            super::left_out("disk_full", told.shots.len() as u64);
            return false;
        }
        true
    }

    /// Writes the best of the crops that are there and these.
    fn write(&self, entry: &mut Entry, shots: &[Shot]) -> Result<()> {
        let folder = self.pending(&entry.facts.sighting);
        if !folder.is_dir() {
            // Marked first: what has no mark is not read.
            Feedback::create(&self.folder)?;
            fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        }
        let name = |shot: &Shot| format!("{}.jpg", shot.number);
        let known = |shot: &&Shot| entry.facts.pictures.iter().any(|old| old.file == name(shot));
        let new: Vec<&Shot> = shots.iter().filter(|shot| !known(shot)).collect();
        let mut all = entry.facts.pictures.clone();
        all.extend(new.iter().map(|shot| Picture {
            file: name(shot),
            size: [shot.crop.width(), shot.crop.height()],
            quality: shot.quality,
        }));
        all.sort_by(|one, other| other.quality.total_cmp(&one.quality));
        let gone = all.split_off(all.len().min(MAX_PICTURES));
        let is_in = |list: &[Picture], shot: &Shot| list.iter().any(|one| one.file == name(shot));
        for shot in new.into_iter().filter(|shot| is_in(&all, shot)) {
            let path = folder.join(name(shot));
            let jpeg = picture::jpeg(&shot.crop, JPEG_QUALITY)?;
            fs::write(&path, &jpeg).map_err(Error::io(&path)).inspect_err(|_| {
                // Half a picture is none, and takes room.
                drop(fs::remove_file(&path));
            })?;
            entry.waiting += jpeg.len() as u64;
            // One by one: what a full disk took is known, and so can be erased.
            let picture = all.iter().find(|one| one.file == name(shot)).cloned();
            entry.facts.pictures.extend(picture);
        }
        entry.facts.pictures = all;
        write_facts(&folder, &entry.facts)?;
        for old in gone.iter().filter(|old| folder.join(&old.file).exists()) {
            entry.waiting = entry.waiting.saturating_sub(remove_file(&folder.join(&old.file))?);
        }
        Ok(())
    }

    /// Keeps what staff say; the last word counts.
    ///
    /// # Errors
    /// Where the disk does not take it: nothing has changed then.
    pub fn judge(&self, wish: &Wish, now: Timestamp) -> Result<Outcome> {
        let mut inner = self.inner();
        let name = wish.sighting.to_string();
        let Some(entry) = inner.entries.get_mut(&name) else { return Ok(Outcome::Unknown) };
        let judgement = match wish.said {
            Said::Judged(judgement) => judgement,
            Said::Taken => {
                entry.facts.taken = Some(Taken { by: wish.by.clone(), at: rfc3339(now) });
                // Best effort: it is told to others by the message itself.
                if let Err(error) = self.write(entry, &[]) {
                    tracing::warn!(sighting = name, %error, "Who is on the way is not on disk.");
                }
                return Ok(Outcome::Taken);
            }
        };
        let replaced = entry.verdict.is_some();
        let (pictures, jpegs) = self.pictures(entry);
        let verdict = verdict(&entry.facts, wish, judgement, pictures, now);
        let feedback = Feedback::create(&self.folder)?;
        let bytes = jpegs.iter().map(|jpeg| jpeg.len() as u64).sum();
        feedback.put(&verdict, &jpegs)?;
        let pictures = jpegs.len();
        entry.verdict = Some(Kept { judgement, at: now, pictures, bytes });
        self.hand_over(entry);
        inner.broken.retain(|path| *path != self.folder.join(&name));
        let left_out = inner.entries.get(&name).map(|entry| entry.facts.left_out.clone());
        Ok(Outcome::Kept { pictures, replaced, left_out: left_out.unwrap_or_default() })
    }

    /// The crops are in the verdict: they wait no longer.
    fn hand_over(&self, entry: &mut Entry) {
        let folder = self.pending(&entry.facts.sighting);
        let waiting = std::mem::take(&mut entry.facts.pictures);
        entry.waiting = 0;
        let written = self.write(entry, &[]).and_then(|()| {
            waiting.iter().try_for_each(|old| remove_file(&folder.join(&old.file)).map(drop))
        });
        if let Err(error) = written {
            tracing::warn!(%error, "Crops of a verdict are there twice until the next start.");
        }
    }

    /// The pictures of a verdict: those that wait, or those of the verdict before. What cannot be read is left
    /// out.
    fn pictures(&self, entry: &Entry) -> (Vec<Picture>, Vec<Vec<u8>>) {
        let (folder, listed) = match entry.verdict {
            None => (self.pending(&entry.facts.sighting), entry.facts.pictures.clone()),
            Some(_) => {
                let folder = self.folder.join(&entry.facts.sighting);
                let before = bounded::read(&folder.join("verdict.json"), MAX_FACTS).ok();
                let before = before.and_then(|json| serde_json::from_slice::<Verdict>(&json).ok());
                // Without it nobody knows which pictures they are.
                (folder, before.map(|before| before.pictures).unwrap_or_default())
            }
        };
        let (mut pictures, mut jpegs) = (Vec::new(), Vec::new());
        for picture in listed {
            let jpeg = bounded::read(&folder.join(&picture.file), MAX_JPEG);
            let is_whole =
                |jpeg: &Vec<u8>| jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]);
            match jpeg.ok().filter(is_whole) {
                Some(jpeg) => {
                    let file = format!("{}.jpg", jpegs.len());
                    pictures.push(Picture { file, ..picture });
                    jpegs.push(jpeg);
                }
                // A power cut took it.
                None => super::left_out("failed", 1),
            }
        }
        (pictures, jpegs)
    }

    /// Who is known here.
    pub fn traces(&self) -> Vec<Trace> {
        self.inner().entries.values().map(|entry| entry.facts.trace()).collect()
    }

    /// Whether anything is known of a sighting.
    pub fn knows(&self, sighting: &str) -> bool {
        self.inner().entries.contains_key(sighting)
    }

    /// Removes verdicts and crops of who is meant, and what cannot be read where `with_damaged`; with
    /// `dry_run` only says what would go.
    ///
    /// # Errors
    /// [`Error::Io`]: what went by then is gone; the same may be said again.
    pub fn erase(
        &self,
        is_meant: impl Fn(&Trace) -> bool,
        with_damaged: bool,
        dry_run: bool,
    ) -> Result<Erased> {
        let mut inner = self.inner();
        let meant = inner.entries.iter().filter(|(_, entry)| is_meant(&entry.facts.trace()));
        let meant: Vec<String> = meant.map(|(name, _)| name.clone()).collect();
        let mut erased = Erased::default();
        for name in meant {
            let Some(entry) = inner.entries.get(&name) else { continue };
            erased.verdicts += usize::from(entry.verdict.is_some());
            erased.pictures += entry.verdict.as_ref().map_or(0, |kept| kept.pictures);
            erased.waiting += entry.facts.pictures.len();
            if !dry_run {
                self.remove(&mut inner, &name)?;
            }
            erased.sightings.insert(name);
        }
        match with_damaged {
            true => erased.damaged = inner.broken.len(),
            false => erased.unreadable = inner.broken.len(),
        }
        if with_damaged && !dry_run {
            for path in std::mem::take(&mut inner.broken) {
                fs::remove_dir_all(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(erased)
    }

    /// Removes all that is kept of a sighting.
    pub(super) fn remove(&self, inner: &mut Inner, name: &str) -> Result<()> {
        // Also one that cannot be read.
        let verdict = self.folder.join(name);
        if verdict.is_dir() {
            Feedback::create(&self.folder)?.remove(name)?;
            inner.broken.retain(|path| *path != verdict);
        }
        // A crash may have left it in the making.
        for path in [self.pending(name), self.folder.join(format!(".{name}.partial"))] {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(&path)(error));
                }
                _ => {}
            }
        }
        inner.entries.remove(name);
        Ok(())
    }
}

fn verdict(
    facts: &Facts,
    wish: &Wish,
    verdict: Judgement,
    pictures: Vec<Picture>,
    now: Timestamp,
) -> Verdict {
    Verdict {
        schema: SCHEMA,
        sighting: facts.sighting.clone(),
        verdict,
        by: wish.by.clone(),
        at: rfc3339(now),
        alert: facts.alert.clone(),
        text: facts.text.clone(),
        corrected: wish.text.clone(),
        note: wish.note.clone(),
        camera: facts.camera.to_string(),
        track: facts.track.clone(),
        seen: rfc3339(facts.seen),
        bundle: facts.bundle,
        pictures,
    }
}

fn write_facts(folder: &Path, facts: &Facts) -> Result<()> {
    let json = serde_json::to_vec(facts).map_err(|error| Error::internal(FACTS, error))?;
    let (path, part) = (folder.join(FACTS), folder.join("sighting.part"));
    let written = fs::write(&part, json).and_then(|()| fs::rename(&part, &path));
    written.map_err(Error::io(&path))
}

/// Removes a file; how many bytes it had. One that is gone had none.
fn remove_file(path: &Path) -> Result<u64> {
    let bytes = fs::metadata(path).map_or(0, |file| file.len());
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(bytes),
    }
}

/// Removes what a crash left in the making: pictures of somebody whom no erasure would find.
fn clear(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') || name == PENDING {
            continue;
        }
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(Error::io(&path))?;
    }
    Ok(())
}

fn read_verdicts(folder: &Path, inner: &mut Inner) -> Result<()> {
    // Without a mark nothing was kept yet.
    if !folder.join("feedback.json").is_file() {
        return Ok(());
    }
    let feedback = Feedback::open(folder)?;
    let (verdicts, broken) = feedback.all()?;
    inner.broken = broken.into_iter().map(|broken| broken.path).collect();
    for verdict in verdicts {
        let path = folder.join(&verdict.sighting);
        let facts = Facts::of_verdict(&verdict);
        let Some((facts, at)) = facts.zip(verdict.at.parse().ok()) else {
            inner.broken.push(path);
            continue;
        };
        let size =
            |picture: &Picture| fs::metadata(path.join(&picture.file)).map_or(0, |f| f.len());
        let bytes = verdict.pictures.iter().map(size).sum();
        let pictures = verdict.pictures.len();
        let kept = Kept { judgement: verdict.verdict, at, pictures, bytes };
        inner.entries.insert(verdict.sighting, Entry { facts, waiting: 0, verdict: Some(kept) });
    }
    for path in &inner.broken {
        tracing::warn!(path = %path.display(), "A verdict of staff cannot be read and is not used.");
    }
    Ok(())
}

fn read_pending(folder: &Path, inner: &mut Inner, only_look: bool) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = bounded::read(&path.join(FACTS), MAX_FACTS).ok();
        let facts = bytes.and_then(|bytes| serde_json::from_slice::<Facts>(&bytes).ok());
        let Some(mut facts) =
            facts.filter(|facts| facts.schema == facts::SCHEMA && facts.sighting == name)
        else {
            if !only_look {
                // Nobody could find or erase who is in it.
                tracing::warn!(path = %path.display(), "Crops without their sighting are deleted.");
                let removed =
                    if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.map_err(Error::io(&path))?;
            }
            continue;
        };
        if inner.entries.get(&name).is_some_and(|entry| entry.verdict.is_some()) {
            facts.pictures.clear();
        }
        let waiting = match tidy(&path, &mut facts, only_look) {
            // A running daemon has taken it away meanwhile.
            Err(_) if only_look => continue,
            done => done?,
        };
        let verdict = inner.entries.remove(&name).and_then(|entry| entry.verdict);
        inner.entries.insert(name, Entry { facts, waiting, verdict });
    }
    Ok(())
}

/// Brings the list of crops and the files together; their bytes.
fn tidy(folder: &Path, facts: &mut Facts, only_look: bool) -> Result<u64> {
    facts.pictures.retain(|picture| {
        let is_name = !picture.file.contains('/') && picture.file.ends_with(".jpg");
        is_name && folder.join(&picture.file).is_file()
    });
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if facts.pictures.iter().any(|picture| picture.file == name) {
            bytes += fs::metadata(&path).map_or(0, |file| file.len());
        } else if name != FACTS && !only_look {
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(bytes)
}
