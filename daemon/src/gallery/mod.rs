//! The gallery: what the cameras saw, on disk, to be searched backwards and erased for real.
//!
//! One [`Record`] for each track that ended: when and where, its embeddings, its best picture. A text
//! that is armed today is compared with everybody of the last weeks ([`Gallery::search`]); a calibration
//! takes the newest looks ([`Gallery::recent`]). Records lie in files that only grow (`*.tracks`, and
//! `*.pictures` for the portraits); memory has 46 bytes and one bit for each component of a record's
//! pooled embedding. Whatever is erased is overwritten before [`Gallery::erase`] returns.
//! docs/design/gallery.md has the formats and the measurements behind them.
//!
//! All methods take `&self` and may be called by any thread. What writes waits for what writes; a
//! search locks one file at a time, and only while it looks through it.

mod erase;
mod hold;
mod holdings;
mod ids;
mod layout;
mod open;
mod pictures;
mod recent;
mod record;
mod retain;
mod search;
mod segment;
mod selection;
mod survey;

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

pub use erase::Erased;
use hold::Holds;
pub use hold::{Ended, Hold, HoldId, MAX_HOLDS, MAX_NAME, MAX_REASON, Placed, Release, Why};
pub use holdings::{Holding, Holdings};
use ids::Numbers;
use layout::{FileHead, Place};
use pictures::Pictures;
pub use recent::{Recent, RecentLooks};
use record::Stored;
pub use record::{Look, MAX_LOOKS, MAX_PORTRAIT, MAX_SIGHTINGS, MAX_SIZE, Record, RecordId};
use retain::Told;
pub use search::Hit;
use search::Search;
use segment::{Row, Segment};
use selection::RowFilter;
pub use selection::{Filter, Selection};
use spotter_models::{Embedding, Generation, kernel::Rotation};
pub use survey::{Person, Survey};

use crate::{
    clock::{Clock, Mono},
    config::Config,
    error::{Error, Result},
    frame::CameraId,
};

/// Seed of the rotation: any number does, and codes are made anew at every start.
const ROTATION_SEED: u64 = 0x5370_6f74_7465_7221;
/// Most hits that are asked for at once.
pub const MAX_HITS: usize = 1000;

/// Where the gallery lies and what it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of its files; made where it is missing.
    pub folder: PathBuf,
    /// Records last seen longer ago are deleted.
    pub max_age: Duration,
    /// Records that are kept; the oldest go first.
    pub max_tracks: usize,
    /// Bytes of the tracks' files.
    pub max_bytes: u64,
    /// Bytes of the portraits' files.
    pub max_picture_bytes: u64,
    /// How long a power cut may reach back.
    pub sync_every: Duration,
    /// Bytes from which on a file is full.
    pub file_bytes: u64,
    /// Records from which on a file of tracks is full. Those of the last file are compared one by one.
    pub file_records: usize,
    /// Whether no file is changed: not even what a crash left half done is finished.
    pub only_read: bool,
}

impl Settings {
    /// As a configuration says.
    pub fn of(config: &Config) -> Self {
        let kept = &config.gallery;
        Self {
            max_age: Duration::from_secs(u64::from(kept.retention_h.get()) * 3600),
            max_bytes: kept.track_bytes,
            max_picture_bytes: kept.picture_bytes,
            ..Self::new(config.storage.folder.join("gallery"))
        }
    }

    /// 30 days, a million tracks, 4 GiB of them and 8 GiB of portraits; on disk within 5 seconds.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            max_age: Duration::from_secs(30 * 24 * 3600),
            max_tracks: 1_000_000,
            max_bytes: 4 << 30,
            max_picture_bytes: 8 << 30,
            sync_every: Duration::from_secs(5),
            file_bytes: 32 << 20,
            file_records: 16_384,
            only_read: false,
        }
    }

    /// Whole files are dropped to make room, so a file is a small part of what is allowed.
    fn tracks_roll(&self) -> u64 {
        self.file_bytes.min(self.max_bytes / 8)
    }

    fn pictures_roll(&self) -> u64 {
        self.file_bytes.min(self.max_picture_bytes / 8)
    }
}

/// What the gallery has and what it lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records.
    pub records: usize,
    /// Records with a portrait.
    pub pictures: usize,
    /// Bytes of the tracks' files.
    pub track_bytes: u64,
    /// Bytes of the portraits' files.
    pub picture_bytes: u64,
    /// Bytes of memory that records take.
    pub memory_bytes: u64,
    /// Damaged parts of files that were passed over when the gallery was opened.
    pub damaged: u64,
    /// Writes that a crash had cut short, cut off when it was opened.
    pub torn: u64,
    /// Portraits not kept because the disk was full or failed, since it was opened.
    pub pictures_refused: u64,
    /// Records not kept because the disk was full or failed, since it was opened.
    pub records_refused: u64,
    /// Records deleted by retention, since it was opened.
    pub expired: u64,
    /// Portraits deleted by retention before their records, since it was opened.
    pub pictures_expired: u64,
}

/// All records of a folder. One process has it open at a time.
pub struct Gallery {
    settings: Settings,
    clock: Arc<dyn Clock>,
    /// Taken first of all locks.
    writer: Mutex<Writer>,
    shared: RwLock<Shared>,
    /// Held as long as the gallery is open.
    _lock: File,
}

struct Writer {
    numbers: Numbers,
    /// The file that each generation's records are appended to, and its length.
    active: BTreeMap<Generation, (Arc<Segment>, u64)>,
    dirty: bool,
    last_file: u32,
    synced_at: Mono,
    /// Damaged parts of files, which nobody can find and any erasure overwrites.
    damaged: Vec<(Arc<Segment>, u64, u64)>,
    is_short: bool,
    /// What was last told of records that stay as they are held.
    told: Told,
}

struct Shared {
    /// In the order of their numbers.
    segments: Vec<Arc<Segment>>,
    cameras: Vec<CameraId>,
    rotations: BTreeMap<usize, Arc<Rotation>>,
    pictures: Pictures,
    holds: Holds,
    /// Files of tracks whose head is damaged and that are left as they are, since nothing may be changed.
    headless: usize,
    counts: Counts,
}

impl Shared {
    fn camera(&self, camera: &CameraId) -> Option<u16> {
        let index = self.cameras.iter().position(|known| known == camera)?;
        u16::try_from(index).ok()
    }

    fn intern(&mut self, camera: &CameraId) -> Result<u16> {
        if let Some(known) = self.camera(camera) {
            return Ok(known);
        }
        let index = u16::try_from(self.cameras.len())
            .map_err(|_| Error::internal("the gallery", "more than 65536 cameras"))?;
        self.cameras.push(camera.clone());
        Ok(index)
    }

    fn rotation(&mut self, size: usize) -> Arc<Rotation> {
        let make = || Arc::new(Rotation::new(size, ROTATION_SEED));
        self.rotations.entry(size).or_insert_with(make).clone()
    }

    /// The file that has a record, and the record's row there.
    fn find(&self, id: RecordId) -> Option<(Arc<Segment>, usize, Row)> {
        self.segments.iter().find_map(|segment| {
            let (index, row) = segment.find(id.0)?;
            Some((segment.clone(), index, row))
        })
    }
}

impl Gallery {
    /// Keeps a track. It is in the file when this returns, and survives the end of the process; a
    /// power cut takes what was appended within the last [`Settings::sync_every`]. Where the disk is
    /// full the portrait is left out.
    ///
    /// # Errors
    /// [`Error::Io`] where the disk takes not even the vectors: the record is lost and counted, those
    /// before it are not harmed. [`Error::Internal`] for a record that contradicts itself.
    pub fn append(&self, record: &Record) -> Result<RecordId> {
        record.check()?;
        self.may_write()?;
        let mut writer = self.writer();
        let written = self.write(&mut writer, record);
        let was_short = std::mem::replace(&mut writer.is_short, written.is_err());
        match &written {
            Err(error) => {
                self.shared_mut().counts.records_refused += 1;
                if !was_short {
                    tracing::error!(%error, "The gallery takes no tracks: free some room on its disk.");
                }
            }
            Ok(_) if was_short => tracing::info!("The gallery takes tracks again."),
            Ok(_) => {}
        }
        if self.clock.now().since(writer.synced_at) >= self.settings.sync_every {
            self.try_sync(&mut writer);
        }
        written
    }

    /// Whether it was opened to be changed.
    fn may_write(&self) -> Result<()> {
        match self.settings.only_read {
            true => Err(Error::internal("the gallery", "was opened to be read only")),
            false => Ok(()),
        }
    }

    fn write(&self, writer: &mut Writer, record: &Record) -> Result<RecordId> {
        let (camera, rotation) = {
            let mut shared = self.shared_mut();
            (shared.intern(&record.camera)?, shared.rotation(record.pooled.values().len()))
        };
        let body = record.to_bytes();
        let stored = Stored::parse(&body, record.pooled.values().len());
        let stored =
            stored.ok_or_else(|| Error::internal("a track for the gallery", "unreadable"))?;
        let ids = self.settings.folder.join("ids");
        let id = writer.numbers.next().map_err(Error::io(&ids))?;
        let (segment, length) = self.active(writer, record, id)?;
        let picture = self.write_picture(id, record.portrait.as_deref());
        let bytes = layout::record(id, picture, &body);
        if let Err(error) = segment.write(&bytes, length) {
            if picture.file != 0 {
                self.shared_mut().pictures.undo(picture);
            }
            return Err(Error::io(&segment.path)(error));
        }
        let head = layout::parse_head(&bytes)
            .ok_or_else(|| Error::internal("a track for the gallery", "its head is unreadable"))?;
        segment.push(head, length, camera, &stored)?;
        let length = length + bytes.len() as u64;
        writer.dirty = true;
        if let Some(active) = writer.active.get_mut(&record.generation) {
            active.1 = length;
        }
        let is_full = length >= self.settings.tracks_roll()
            || segment.rows().list.len() >= self.settings.file_records;
        if is_full {
            self.try_sync(writer);
            writer.active.remove(&record.generation);
            segment.seal(&rotation);
        }
        Ok(RecordId(id))
    }

    /// The file that a record goes to, and where in it.
    fn active(&self, writer: &mut Writer, record: &Record, id: u64) -> Result<(Arc<Segment>, u64)> {
        let size = record.pooled.values().len();
        if let Some((segment, length)) = writer.active.get(&record.generation)
            && segment.head.size == size
            && segment.can_hold(id)
        {
            return Ok((segment.clone(), *length));
        }
        let head = FileHead { generation: record.generation, size, first_id: id };
        let segment = Segment::create(&self.settings.folder, writer.last_file + 1, head)?;
        let segment = Arc::new(segment);
        writer.last_file += 1;
        let length = layout::FILE_HEAD as u64;
        let old = writer.active.insert(record.generation, (segment.clone(), length));
        let mut shared = self.shared_mut();
        shared.segments.push(segment.clone());
        if let Some((old, _)) = old {
            old.seal(&shared.rotation(old.head.size));
        }
        Ok((segment, length))
    }

    /// Where the portrait is; nowhere if there is none or no room for it.
    fn write_picture(&self, id: u64, portrait: Option<&[u8]>) -> Place {
        let Some(jpeg) = portrait else { return Place::default() };
        let mut shared = self.shared_mut();
        shared.pictures.write(id, jpeg, self.settings.pictures_roll()).unwrap_or_else(|error| {
            shared.counts.pictures_refused += 1;
            tracing::warn!(%error, "A portrait is not kept; its track is.");
            Place::default()
        })
    }

    /// Puts on disk what was appended.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        self.sync_files(&mut self.writer())
    }

    /// What was appended is in its file, synced or not: a sync that fails takes no record back.
    fn try_sync(&self, writer: &mut Writer) {
        if let Err(error) = self.sync_files(writer) {
            tracing::error!(%error, "A power cut would take more of the gallery than it should.");
        }
    }

    fn sync_files(&self, writer: &mut Writer) -> Result<()> {
        writer.synced_at = self.clock.now();
        self.shared_mut().pictures.sync().map_err(Error::io(&self.settings.folder))?;
        if std::mem::take(&mut writer.dirty) {
            for (segment, _) in writer.active.values() {
                segment.sync().map_err(Error::io(&segment.path))?;
            }
        }
        Ok(())
    }

    /// The records that fit a query best, best first; of equal scores the newest first. Scores are
    /// cosines with the pooled vectors as they are stored, in 16 bits. Which records are compared
    /// exactly is decided by their bits: of the true ten best less than one in a hundred is missed
    /// (docs/design/gallery.md). Only records of the query's generation are looked at; `limit` is at
    /// most [`MAX_HITS`].
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read; [`spotter_models::Error::Mismatch`] for a query of
    /// another size than its generation has.
    pub fn search(&self, query: &Embedding, filter: &Filter, limit: usize) -> Result<Vec<Hit>> {
        self.search_beside(query, filter, limit, None)
    }

    /// The records most like one of them, which is not among them; empty where there is no such
    /// record.
    ///
    /// # Errors
    /// As [`Gallery::search`].
    pub fn like(&self, id: RecordId, filter: &Filter, limit: usize) -> Result<Vec<Hit>> {
        let Some((segment, _, row)) = self.shared().find(id) else { return Ok(Vec::new()) };
        let stored = segment.stored(row.offset).map_err(Error::io(&segment.path))?;
        let Some((_, stored)) = stored else { return Ok(Vec::new()) };
        let query = Embedding::new(stored.pooled.to_f32(), segment.head.generation)?;
        self.search_beside(&query, filter, limit, Some(id))
    }

    fn search_beside(
        &self,
        query: &Embedding,
        filter: &Filter,
        limit: usize,
        without: Option<RecordId>,
    ) -> Result<Vec<Hit>> {
        let limit = limit.min(MAX_HITS);
        let size = query.values().len();
        let (segments, filter, rotation) = {
            let mut shared = self.shared_mut();
            let rows = RowFilter::new(filter, |camera| shared.camera(camera));
            let rotation = shared.rotation(size);
            (shared.of_generation(query.generation()), rows, rotation)
        };
        if let Some(other) = segments.iter().find(|segment| segment.head.size != size) {
            let reason = format!("{size} components where its records have {}", other.head.size);
            return Err(spotter_models::Error::mismatch("query", reason).into());
        }
        if limit == 0 {
            return Ok(Vec::new());
        }
        let beside = usize::from(without.is_some());
        let search = Search {
            query: query.values(),
            filter: &filter,
            limit: limit + beside,
            segments: &segments,
        };
        let mut hits = Vec::with_capacity(limit);
        for (segment, index, score) in search.run(&rotation)? {
            if hits.len() < limit
                && let Some(hit) = self.hit(&segment, index, score)?
                && Some(hit.id) != without
            {
                hits.push(hit);
            }
        }
        Ok(hits)
    }

    fn hit(&self, segment: &Segment, index: usize, score: f32) -> Result<Option<Hit>> {
        let row = segment.rows().list.get(index).copied();
        let Some(row) = row.filter(Row::is_live) else { return Ok(None) };
        let stored = segment.stored(row.offset).map_err(Error::io(&segment.path))?;
        let Some((head, stored)) = stored else { return Ok(None) };
        let has_picture = self.shared().pictures.files.contains_key(&row.picture);
        Ok(Some(Hit {
            id: RecordId(head.id),
            score,
            camera: stored.camera,
            track: stored.track,
            first: stored.first,
            last: stored.last,
            quality: stored.quality,
            has_picture,
        }))
    }

    /// A record as it is stored, without its portrait; `None` where there is none of that number.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read.
    pub fn record(&self, id: RecordId) -> Result<Option<Record>> {
        let Some((segment, _, row)) = self.shared().find(id) else { return Ok(None) };
        let stored = segment.stored(row.offset).map_err(Error::io(&segment.path))?;
        let generation = segment.head.generation;
        let Some((_, stored)) = stored else { return Ok(None) };
        let look = |(quality, codes): (f32, spotter_models::kernel::Codes)| {
            Ok(Look { quality, embedding: Embedding::new(codes.to_f32(), generation)? })
        };
        Ok(Some(Record {
            looks: stored.looks.into_iter().map(look).collect::<Result<_>>()?,
            pooled: Embedding::new(stored.pooled.to_f32(), generation)?,
            camera: stored.camera,
            track: stored.track,
            first: stored.first,
            last: stored.last,
            generation,
            quality: stored.quality,
            sightings: stored.sightings,
            portrait: None,
        }))
    }

    /// The portrait of a record as a JPEG file; `None` where it has none or none any more.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read.
    pub fn picture(&self, id: RecordId) -> Result<Option<Vec<u8>>> {
        let shared = self.shared();
        let Some((segment, _, row)) = shared.find(id).filter(|(_, _, row)| row.picture != 0) else {
            return Ok(None);
        };
        let head = segment.record_head(row.offset).map_err(Error::io(&segment.path))?;
        match head.filter(|head| head.id == id.0 && !head.erased) {
            Some(head) => shared.pictures.read(head.picture, id.0),
            None => Ok(None),
        }
    }

    /// What there is and what was lost.
    pub fn counts(&self) -> Counts {
        let shared = self.shared();
        let mut counts = Counts {
            pictures: shared.pictures.files.values().map(|known| known.live).sum(),
            picture_bytes: shared.pictures.bytes(),
            ..shared.counts
        };
        for segment in &shared.segments {
            let rows = segment.rows();
            counts.records += rows.live;
            counts.memory_bytes += rows.bytes();
            counts.track_bytes += segment.bytes();
        }
        counts
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.settings.folder
    }

    // A thread that panicked aborted the process.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared_mut(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn of_generation(&self, generation: Generation) -> Vec<Arc<Segment>> {
        let same = |segment: &&Arc<Segment>| segment.head.generation == generation;
        self.segments.iter().filter(same).cloned().collect()
    }
}

/// Whether anything of a folder is held, of which no gallery is open.
///
/// # Errors
/// As [`Gallery::open`], for its list of holds.
pub fn is_held(folder: &Path) -> Result<bool> {
    Ok(!Holds::open(folder.join("holds.json"))?.list.is_empty())
}

impl Drop for Gallery {
    fn drop(&mut self) {
        if let Err(error) = self.sync() {
            tracing::warn!(%error, "The gallery's last tracks may not be on disk.");
        }
    }
}
