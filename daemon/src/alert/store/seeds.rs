//! Whom alerts are like: the vectors of a person who was seen, kept with the alert so that they outlive
//! restarts and the track they come from, and the picture from which another bundle makes its own.
//!
//! This is of a person and goes with the alert: once that is withdrawn, over or forgotten, and once the person
//! is erased. What is deleted is overwritten (`secure_delete`), and the log is emptied.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use spotter_models::{Embedding, Generation};

use super::{Store, failed, row::signed};
use crate::{
    alert::{
        AlertId, Like, View, Wall,
        book::{Changes, Status},
    },
    error::{Error, Result},
    frame::CameraId,
    gallery::RecordId,
    sighting::SightingId,
};

/// The tables, of layout 2.
pub(super) const TABLES: &str = "
CREATE TABLE seed (
    alert       TEXT PRIMARY KEY,
    person      TEXT NOT NULL,      -- whom the message names
    record      INTEGER,            -- NULL: erased, and nothing else is kept
    camera      TEXT,
    track       INTEGER,
    first_ms    INTEGER,
    last_ms     INTEGER,
    sightings   TEXT,
    picture     BLOB
) STRICT;
CREATE TABLE seed_vector (
    alert       TEXT NOT NULL,
    generation  BLOB NOT NULL,
    vector      BLOB NOT NULL,      -- f32, little endian
    PRIMARY KEY (alert, generation)
) STRICT;
";

/// Somebody who was seen, as the gallery had the track.
#[derive(Clone, Debug, PartialEq)]
pub struct Seed {
    /// The track's number in the gallery.
    pub record: RecordId,
    /// Who saw it.
    pub camera: CameraId,
    /// The track's number there, within one run of the daemon.
    pub track: u64,
    /// When it was seen first.
    pub first: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
    /// What was told of it.
    pub sightings: Vec<SightingId>,
    /// The best view as a JPEG file, where one was kept.
    pub picture: Option<Vec<u8>>,
}

/// What is kept of whom an alert is like.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// Who, and the vector by the bundle that was asked for, where there is one.
    Seed(Box<Seed>, Option<Embedding>),
    /// That the person was erased.
    Erased,
}

impl Store {
    /// Whom an alert is like, by this bundle; `None` where nothing is kept of the person it names now.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn seed(&self, id: &AlertId, like: &Like, generation: Generation) -> Result<Option<Kept>> {
        let read = || -> rusqlite::Result<Option<Kept>> {
            let sql = "SELECT * FROM seed WHERE alert = ?1 AND person = ?2";
            let mut select = self.db.prepare_cached(sql)?;
            let found = select.query_row(params![id.as_str(), like.key()], seed).optional()?;
            let Some(seed) = found else { return Ok(None) };
            let Some(seed) = seed else { return Ok(Some(Kept::Erased)) };
            let sql = "SELECT vector FROM seed_vector WHERE alert = ?1 AND generation = ?2";
            let vector: Option<Vec<u8>> = self
                .db
                .prepare_cached(sql)?
                .query_row(params![id.as_str(), &generation.0[..]], |row| row.get(0))
                .optional()?;
            let embedding = vector.and_then(|bytes| super::embeddings::vector(&bytes, generation));
            Ok(Some(Kept::Seed(Box::new(seed), embedding)))
        };
        read().map_err(|error| failed(&self.path, error))
    }

    /// Keeps whom an alert is like. A vector of another bundle stays, as long as the person is the same.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn keep_seed(
        &mut self,
        id: &AlertId,
        like: &Like,
        (seed, embedding): (&Seed, &Embedding),
    ) -> Result<()> {
        let vector: Vec<u8> =
            embedding.values().iter().flat_map(|value| value.to_le_bytes()).collect();
        let sightings: Vec<String> = seed.sightings.iter().map(SightingId::to_string).collect();
        let write = (|| {
            let transaction = self.db.transaction()?;
            let same = "SELECT count(*) FROM seed WHERE alert = ?1 AND person = ?2 AND record = ?3";
            let number = signed(seed.record.0);
            let same: i64 =
                transaction
                    .query_row(same, params![id.as_str(), like.key(), number], |row| row.get(0))?;
            if same == 0 {
                transaction.execute("DELETE FROM seed_vector WHERE alert = ?1", [id.as_str()])?;
            }
            transaction.execute(
                "INSERT OR REPLACE INTO seed VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    id.as_str(),
                    like.key(),
                    number,
                    seed.camera.as_str(),
                    signed(seed.track),
                    seed.first.as_millisecond(),
                    seed.last.as_millisecond(),
                    sightings.join(" "),
                    seed.picture,
                ],
            )?;
            transaction.execute(
                "INSERT OR REPLACE INTO seed_vector VALUES (?1, ?2, ?3)",
                params![id.as_str(), &embedding.generation().0[..], vector],
            )?;
            transaction.commit()
        })();
        self.holds_seeds = true;
        write.map_err(|error| failed(&self.path, error))
    }

    /// Everybody whom alerts are like.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn seeds(&self) -> Result<Vec<(AlertId, Seed)>> {
        all(&self.db).map_err(|error| failed(&self.path, error))
    }

    /// The persons of these alerts were erased: their vectors and pictures go, for good when this returns,
    /// and nobody is looked for by them.
    ///
    /// # Errors
    /// Where the file cannot be written: the same call may be tried again.
    pub fn erase_seeds(&mut self, alerts: &[AlertId], now: Wall) -> Result<Changes> {
        let write = (|| {
            let transaction = self.db.transaction()?;
            for id in alerts {
                let erased = "UPDATE seed SET record = NULL, camera = NULL, track = NULL, first_ms = NULL, \
                              last_ms = NULL, sightings = NULL, picture = NULL WHERE alert = ?1";
                transaction.execute(erased, [id.as_str()])?;
                transaction.execute("DELETE FROM seed_vector WHERE alert = ?1", [id.as_str()])?;
            }
            transaction.commit()?;
            scrub(&self.db)
        })();
        write.map_err(|error| failed(&self.path, error))?;
        alerts.iter().for_each(|id| self.book.erase(id, now));
        Ok(self.book.settle())
    }

    /// An alert is like somebody who was erased, as an earlier message of it was.
    pub fn is_like_erased(&mut self, seen: &View, now: Wall) -> Changes {
        self.book.erase(&seen.id, now);
        self.book.settle()
    }

    /// Deletes what is kept for alerts that want it no longer. A disk that takes nothing is tried again with
    /// the next change.
    pub(super) fn prune_seeds(&mut self) {
        if !self.holds_seeds {
            return;
        }
        match self.try_prune_seeds() {
            Ok(left) => self.holds_seeds = left > 0,
            Err(error) => {
                let error = failed(&self.path, error);
                tracing::error!(%error, "Whom an alert was like is not deleted yet; tried again.");
            }
        }
    }

    fn try_prune_seeds(&mut self) -> rusqlite::Result<usize> {
        let known = self.book.readers().load_full();
        let wants = |id: &str, person: &str| {
            let view = AlertId::new(id).ok().and_then(|id| known.get(&id).cloned());
            view.is_some_and(|view| {
                let like = view.spec.as_ref().and_then(|spec| spec.like.as_ref());
                let is_same = like.is_some_and(|like| like.key() == person);
                is_same && wants_seed(&view.status)
            })
        };
        let (mut gone, mut left) = (Vec::new(), 0);
        {
            let mut select = self.db.prepare_cached("SELECT alert, person FROM seed")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let (id, person): (String, String) = (row.get(0)?, row.get(1)?);
                if wants(&id, &person) { left += 1 } else { gone.push(id) }
            }
        }
        if !gone.is_empty() {
            let transaction = self.db.transaction()?;
            for id in &gone {
                transaction.execute("DELETE FROM seed WHERE alert = ?1", [id])?;
                transaction.execute("DELETE FROM seed_vector WHERE alert = ?1", [id])?;
            }
            transaction.commit()?;
            scrub(&self.db)?;
        }
        Ok(left)
    }
}

/// Whether an alert may need it again: one that is rejected now may be armed by the next bundle, and of one
/// whose person was erased it has to be remembered.
fn wants_seed(status: &Status) -> bool {
    use crate::alert::book::Withdrawal;
    match status {
        Status::Withdrawn(Withdrawal::Erased) => true,
        Status::Withdrawn(_) | Status::Expired => false,
        Status::Armed | Status::Disabled | Status::PendingApproval | Status::Rejected(_) => true,
    }
}

/// The alerts whose persons were erased.
pub(super) fn erased(db: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut select = db.prepare("SELECT alert, person FROM seed WHERE record IS NULL")?;
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Empties the log, which has what was overwritten in the file.
fn scrub(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn all(db: &Connection) -> rusqlite::Result<Vec<(AlertId, Seed)>> {
    let mut select = db.prepare_cached("SELECT * FROM seed WHERE record IS NOT NULL")?;
    let mut rows = select.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get("alert")?;
        if let Some((id, seed)) = AlertId::new(&id).ok().zip(seed(row)?) {
            all.push((id, seed));
        }
    }
    Ok(all)
}

/// A row; `None` where the person was erased, or what stands there was never written by this program.
fn seed(row: &Row<'_>) -> rusqlite::Result<Option<Seed>> {
    let record: Option<i64> = row.get("record")?;
    let camera: Option<String> = row.get("camera")?;
    let track: Option<i64> = row.get("track")?;
    let times: (Option<i64>, Option<i64>) = (row.get("first_ms")?, row.get("last_ms")?);
    let sightings: Option<String> = row.get("sightings")?;
    let picture: Option<Vec<u8>> = row.get("picture")?;
    let time = |ms: Option<i64>| ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let known = (|| {
        Some(Seed {
            record: RecordId(u64::try_from(record?).ok()?),
            camera: CameraId::new(&camera?).ok()?,
            track: u64::try_from(track?).ok()?,
            first: time(times.0)?,
            last: time(times.1)?,
            sightings: sightings?.split(' ').filter_map(|id| id.parse().ok()).collect(),
            picture,
        })
    })();
    Ok(known)
}

/// Everybody whom the alerts of a file are like, which no daemon has open; nobody where there is no file, and
/// `None` where it cannot be read as one. Changes nothing.
///
/// # Errors
/// Where the file is there and cannot be opened.
pub fn seeds_of(path: &Path) -> Result<Option<Vec<(AlertId, Seed)>>> {
    if !path.is_file() {
        return Ok(Some(Vec::new()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = || -> rusqlite::Result<Vec<(AlertId, Seed)>> {
        let db = Connection::open_with_flags(path, flags)?;
        let has_seeds = "SELECT count(*) FROM sqlite_master WHERE name = 'seed'";
        let count: i64 = db.query_row(has_seeds, [], |row| row.get(0))?;
        if count > 0 { all(&db) } else { Ok(Vec::new()) }
    };
    match read().map_err(super::Fault::from) {
        Ok(seeds) => Ok(Some(seeds)),
        Err(super::Fault::Damaged(_)) => Ok(None),
        Err(fault) => Err(fault.into_error(path)),
    }
}

/// Where a damaged file of alerts was put, where one is: with what alerts were like in it.
pub fn set_aside(path: &Path) -> Option<PathBuf> {
    let aside = super::aside_of(path);
    aside.is_file().then_some(aside)
}

/// Deletes it. Says whether there was one.
///
/// # Errors
/// [`Error::Io`].
pub fn delete_set_aside(path: &Path) -> Result<bool> {
    match set_aside(path) {
        Some(aside) => std::fs::remove_file(&aside).map(|()| true).map_err(Error::io(&aside)),
        None => Ok(false),
    }
}
