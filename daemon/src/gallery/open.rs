//! Opening a folder: what is whole is taken, what a crash left half done is finished.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use super::{
    Counts, Gallery, Settings, Shared, Writer,
    hold::Holds,
    ids::Numbers,
    layout::Place,
    pictures::Pictures,
    retain::Told,
    segment::{Findings, Segment},
};
use crate::{
    clock::{Clock, Stop},
    error::{Error, Result},
};

/// How long to wait for another process that may be just ending, and between two tries.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

impl Gallery {
    /// Opens the gallery of a folder, or a new one. Reads every record, no portrait. What a crash left
    /// of the last record is cut off, damaged records are passed over, both counted and logged; an
    /// erasure that a crash cut short is finished before anything can be found. With
    /// [`Settings::only_read`] all that is only counted.
    ///
    /// # Errors
    /// [`Error::Config`] for files of a newer version, or a folder that another process has open;
    /// [`Error::Io`] where the folder cannot be read or written.
    pub fn open(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self> {
        let folder = &settings.folder;
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let lock = lock(folder)?;
        let mut shared = Shared {
            segments: Vec::new(),
            cameras: Vec::new(),
            rotations: BTreeMap::new(),
            pictures: Pictures::new(folder, &numbers(folder, "pictures")?)?,
            holds: Holds::open(folder.join("holds.json"))?,
            counts: Counts::default(),
            headless: 0,
        };
        let tracks = numbers(folder, "tracks")?;
        let last_file = tracks.last().copied().unwrap_or(0);
        let mut found = Vec::new();
        for number in tracks {
            if let Some((segment, findings)) = open_segment(&mut shared, &settings, number)? {
                found.push((Arc::new(segment), findings));
            }
        }
        let newest = found.iter().map(|(segment, findings)| {
            findings.newest_id.max(segment.head.first_id.saturating_sub(1))
        });
        let numbers = Numbers::open(&folder.join("ids"), newest.max().unwrap_or(0))?;
        let mut writer = Writer {
            numbers,
            active: BTreeMap::new(),
            dirty: false,
            last_file,
            synced_at: clock.now(),
            damaged: Vec::new(),
            is_short: false,
            told: Told::default(),
        };
        settle(&mut shared, &mut writer, found, &settings)?;
        tracing::info!(
            folder = %folder.display(),
            records = shared.segments.iter().map(|segment| segment.rows().live).sum::<usize>(),
            damaged = shared.counts.damaged, torn = shared.counts.torn,
            "Gallery opened."
        );
        Ok(Self {
            settings,
            clock,
            writer: Mutex::new(writer),
            shared: RwLock::new(shared),
            _lock: lock,
        })
    }
}

/// Keeps a second process out of the folder.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(Error::io(&path))?;
    let is_taken = || matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    let tries = LOCK_WAIT.as_millis() / LOCK_PAUSE.as_millis();
    // A process that is just ending, or that is being started and has our files for a moment.
    for _ in 0..tries {
        if !is_taken() {
            break;
        }
        Stop::default().wait(LOCK_PAUSE);
    }
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::in_use(folder.display().to_string(), "gallery"))
        }
        Err(TryLockError::Error(error)) => Err(Error::io(&path)(error)),
    }
}

/// Numbers of the files of one kind, rising.
fn numbers(folder: &Path, kind: &str) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = PathBuf::from(entry.map_err(Error::io(folder))?.file_name());
        let is_kind = path.extension().is_some_and(|extension| extension == kind);
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|s| s.parse().ok());
        numbers.extend(number.filter(|number: &u32| is_kind && *number > 0));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Opens a file of tracks; one whose head is damaged is set aside by name.
fn open_segment(
    shared: &mut Shared,
    settings: &Settings,
    number: u32,
) -> Result<Option<(Segment, Findings)>> {
    let path = settings.folder.join(format!("{number:08}.tracks"));
    let opened =
        Segment::open(&path, number, settings.only_read, &mut |camera| shared.intern(camera));
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(Error::Model(error @ spotter_models::Error::Corrupt { .. })) => {
            shared.counts.damaged += 1;
            if settings.only_read {
                shared.headless += 1;
                return Ok(None);
            }
            let aside = path.with_extension("tracks.damaged");
            fs::rename(&path, &aside).map_err(Error::io(&path))?;
            tracing::error!(%error, aside = %aside.display(), "A file of tracks is set aside.");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Finishes what a crash cut short, and makes the files ready to be searched and appended to.
fn settle(
    shared: &mut Shared,
    writer: &mut Writer,
    found: Vec<(Arc<Segment>, Findings)>,
    settings: &Settings,
) -> Result<()> {
    let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
    for (segment, findings) in &found {
        for place in &findings.pictures {
            let end = ends.entry(place.file).or_default();
            *end = (*end).max(place.offset.saturating_add(u64::from(place.length)));
        }
        for row in segment.rows().list.iter().filter(|row| row.picture != 0) {
            if let Some(known) = shared.pictures.files.get_mut(&row.picture) {
                known.live += 1;
            }
        }
    }
    for (segment, findings) in &found {
        let io = || Error::io(&segment.path);
        if findings.torn > 0 {
            shared.counts.torn += 1;
            let (path, bytes) = (segment.path.display(), findings.torn);
            tracing::warn!(%path, bytes, "A record that was being written is not whole: left out.");
        }
        if !findings.damaged.is_empty() {
            shared.counts.damaged += findings.damaged.len() as u64;
            let (path, parts) = (segment.path.display(), findings.damaged.len());
            tracing::error!(%path, parts, "Damaged records are passed over.");
        }
        if !settings.only_read {
            finish(shared, segment, findings)?;
        }
        let damaged = findings.damaged.iter().map(|(from, to)| (segment.clone(), *from, *to));
        writer.damaged.extend(damaged);
        if !findings.unfinished.is_empty() && !settings.only_read {
            segment.sync().map_err(io())?;
        }
    }
    if !settings.only_read {
        shared.pictures.settle(&ends)?;
    }
    for (segment, findings) in found {
        shared.segments.push(segment.clone());
        writer.active.insert(segment.head.generation, (segment, findings.length));
    }
    let has_room = |segment: &Segment, length: u64| {
        length < settings.tracks_roll() && segment.rows().list.len() < settings.file_records
    };
    writer.active.retain(|_, (segment, length)| has_room(segment, *length));
    let active: Vec<u32> = writer.active.values().map(|(segment, _)| segment.number).collect();
    for segment in shared.segments.clone() {
        if !active.contains(&segment.number) {
            segment.seal(&shared.rotation(segment.head.size));
        }
    }
    Ok(())
}

/// Finishes erasures: their records say that they are erased and still have their bytes.
fn finish(shared: &mut Shared, segment: &Segment, findings: &Findings) -> Result<()> {
    let io = || Error::io(&segment.path);
    let places: Vec<Place> = findings.unfinished.iter().map(|(_, head)| head.picture).collect();
    for place in places.iter().filter(|place| place.file != 0) {
        // An erased record is not counted among the living of its file, which `erase` takes one from.
        if let Some(known) = shared.pictures.files.get_mut(&place.file) {
            known.live += 1;
        }
    }
    shared.pictures.erase(&places)?;
    for (at, head) in &findings.unfinished {
        let body = at + super::layout::HEAD as u64;
        segment.zero(body, body + head.length as u64).map_err(io())?;
    }
    if !findings.unfinished.is_empty() {
        tracing::warn!(records = findings.unfinished.len(), "An erasure is finished.");
    }
    Ok(())
}
