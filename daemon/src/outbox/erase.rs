//! Taking messages back that show somebody who is erased: no byte of them stays in a file.
//!
//! Deleted rows are overwritten by SQLite (`secure_delete`, see `open`). The write-ahead log still has
//! them, those of messages too that were sent long ago; it is folded and emptied.

use std::{fs, time::SystemTime};

use jiff::Timestamp;
use rusqlite::Connection;

use super::{
    Class, DropReason, Header, Outbox, RowId,
    open::{self, aside},
    room, rows,
};
use crate::{
    error::{Error, Result},
    frame::CameraId,
};

/// An event or a picture that waits, as an erasure has to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its place.
    pub row: RowId,
    /// What it is worth.
    pub class: Class,
    /// Where it goes.
    pub topic: String,
    /// The camera it tells about.
    pub camera: Option<CameraId>,
    /// When it was committed, by the wall clock of then.
    pub committed: Timestamp,
    /// Whether it may have been sent already.
    pub has_begun: bool,
    /// What travels in the header.
    pub header: Header,
    /// An event's payload; a picture's is not read.
    pub payload: Vec<u8>,
}

impl Outbox {
    /// Events and pictures that wait, oldest first.
    ///
    /// # Errors
    /// [`Error::Io`] where the database cannot be read.
    pub fn kept(&self) -> Result<Vec<Kept>> {
        rows::kept(&self.lock().db).map_err(|error| self.explain(error))
    }

    /// Takes messages back and empties the log: when this returns, no file of the outbox has a byte of
    /// them, nor of any message that left it before. Rows that are gone are no error. `with_damaged`
    /// deletes the files too that were set aside as damaged; how many there were.
    ///
    /// # Errors
    /// [`Error::Io`] where the files cannot be written: the same call may be tried again.
    pub fn erase(&self, rows: &[RowId], with_damaged: bool) -> Result<usize> {
        let mut inner = self.lock();
        let change =
            self.with_room(&mut inner, |inner| inner.remove(rows, Some(DropReason::Erased)))?;
        inner.settle(change);
        let is_short = inner.stats.is_short;
        scrub(&inner.db, is_short).map_err(|error| open::explain(&self.path, error))?;
        let damaged = if with_damaged { aside(&self.path) } else { Vec::new() };
        for path in &damaged {
            fs::remove_file(path).map_err(Error::io(path))?;
        }
        Ok(damaged.iter().filter(|path| !path.to_string_lossy().ends_with("-wal")).count())
    }

    /// Deletes files that were set aside as damaged and last changed before; how many there were.
    ///
    /// # Errors
    /// [`Error::Io`] where one cannot be deleted.
    pub fn expire_damaged(&self, oldest: SystemTime) -> Result<usize> {
        crate::aside::expire(aside(&self.path), oldest)
    }

    /// How many files were set aside as damaged.
    pub fn damaged(&self) -> usize {
        let aside = aside(&self.path);
        aside.iter().filter(|path| !path.to_string_lossy().ends_with("-wal")).count()
    }
}

fn scrub(db: &Connection, is_short: bool) -> rusqlite::Result<()> {
    // Pages may be free that were not overwritten: of the time when the disk was full, or of an older version.
    match is_short {
        true => room::blank(db)?,
        false => room::give_back(db, u64::MAX, 0)?,
    }
    room::scrub(db)?;
    if is_short {
        // The log gets back at once the room that it had: on a full disk others might take it. Where
        // they did, the next commit makes room.
        if let Err(error) = room::hold_log(db) {
            tracing::warn!(%error, "The outbox's log has less room than before.");
        }
    }
    Ok(())
}
