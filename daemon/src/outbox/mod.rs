//! The outbox: what is to be told to the broker, on disk before the first try to send it.
//!
//! A message is in the outbox from [`Outbox::commit`] on and leaves it when the broker has
//! acknowledged it ([`Outbox::done`]), when it has waited for longer than it is worth, or when there
//! is no room: pictures first, events last, every one counted. The pipeline's sink commits; the MQTT
//! link ([`crate::mqtt::link`]) sends. It must never block on the network and never lose a committed
//! message to a crash, a kill or a power cut.
//!
//! One SQLite file with a write-ahead log, synced at every commit, owned by one process.

mod erase;
mod late;
mod message;
mod open;
mod reserve;
mod room;
mod rows;
mod stats;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use erase::Kept;
pub use message::{Broker, Class, DropReason, Header, Message, Outgoing, RowId, Waiting};
use reserve::Reserve;
use room::Overwrite;
use rows::{Moment, Opened};
use rusqlite::{Connection, Transaction, TransactionBehavior};
pub use stats::{Amount, Stats, Tally};
use tokio::sync::Notify;

use crate::{
    clock::{Clock, Mono},
    error::{Error, Result},
};

/// A message that waited for longer than this is late: whoever reads it acts on something past.
pub const LATE_AFTER: Duration = Duration::from_secs(5);
/// How often old messages are looked for and the reserve is tried again.
const UPKEEP_EVERY: Duration = Duration::from_secs(10);

/// Where the outbox lies and what it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of its files; made where it is missing.
    pub folder: PathBuf,
    /// Bytes that may wait. Over it, pictures go first and events last.
    pub max_bytes: u64,
    /// Bytes of disk held back for events and states.
    pub reserve_bytes: u64,
}

impl Settings {
    /// 256 MiB, which is a day of a thousand sightings with pictures, and 4 MiB of reserve.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), max_bytes: 256 << 20, reserve_bytes: 4 << 20 }
    }
}

/// Messages that wait for the broker, on disk.
pub struct Outbox {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    committed: Notify,
}

struct Inner {
    db: Connection,
    opened: Opened,
    reserve: Reserve,
    max_bytes: u64,
    stats: Stats,
    upkeep_at: Mono,
}

/// What a transaction changed; told to the statistics once it is on disk.
struct Change {
    waiting: Tally,
    /// Rows written or removed, each with the index of what it was for.
    rows: Vec<(RowId, usize)>,
    dropped: Vec<(Class, DropReason, u64)>,
}

impl Outbox {
    /// Opens the outbox, with everything that an earlier process committed. A damaged file is set
    /// aside, with a line in the log that names it, and a fresh one is started.
    ///
    /// # Errors
    /// [`Error::Config`] for a file of a newer version, of another program or open in another process;
    /// [`Error::Io`] where the folder cannot be written.
    pub fn open(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self> {
        fs::create_dir_all(&settings.folder).map_err(Error::io(&settings.folder))?;
        let path = settings.folder.join("outbox.db");
        let db = open::open(&path, clock.wall())?;
        let explain = |error| open::explain(&path, error);
        let waiting = rows::tally(&db).map_err(explain)?;
        let last_row = rows::last_row(&db).map_err(explain)?;
        let at = Moment::new(clock.now(), clock.wall());
        let reserve = Reserve::new(settings.folder.join("outbox.reserve"), settings.reserve_bytes);
        tracing::info!(
            path = %path.display(), messages = waiting.total().messages,
            bytes = waiting.total().bytes, "Outbox opened."
        );
        let is_short = !reserve.is_held();
        if is_short {
            let cut = room::overwrite(&db, Overwrite::WhatCostsNothing);
            cut.and_then(|()| room::seal(&db)).map_err(explain)?;
        }
        let inner = Inner {
            db,
            opened: Opened { at, last_row },
            reserve,
            max_bytes: settings.max_bytes,
            stats: Stats { waiting, is_short, ..Stats::default() },
            upkeep_at: clock.now(),
        };
        Ok(Self { path, clock, inner: Mutex::new(inner), committed: Notify::new() })
    }

    /// Puts messages on disk, all or none of them, in their order; the rows they got. On a full disk
    /// or over the budget the rows of messages given up are missing from it, and counted.
    ///
    /// # Errors
    /// [`Error::Io`] where the disk takes nothing at all any more, not even from the reserve: nothing
    /// of `messages` is committed then, and the caller may try again.
    pub fn commit(&self, messages: &[Message]) -> Result<Vec<RowId>> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let mut inner = self.lock();
        self.upkeep(&mut inner);
        let now = self.moment();
        let change = self.with_room(&mut inner, |inner| inner.append(messages, now))?;
        let rows = change.rows.clone();
        inner.settle(change);
        inner.stats.committed += rows.len() as u64;
        drop(inner);
        metrics::counter!("spotter_outbox_committed_total").increment(rows.len() as u64);
        log_commit(&rows, messages);
        self.committed.notify_one();
        Ok(rows.into_iter().map(|(row, _)| row).collect())
    }

    /// The messages after `after` in the order of their commits, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Io`] where the database cannot be read.
    pub fn pending(&self, after: RowId, limit: usize) -> Result<Vec<Waiting>> {
        let mut inner = self.lock();
        self.upkeep(&mut inner);
        rows::waiting(&inner.db, after, limit).map_err(|error| self.explain(error))
    }

    /// The last row that was ever committed.
    ///
    /// # Errors
    /// [`Error::Io`] where the database cannot be read.
    pub fn newest(&self) -> Result<RowId> {
        let inner = self.lock();
        rows::last_row(&inner.db).map(RowId).map_err(|error| self.explain(error))
    }

    /// Fixes what is sent for these rows, on disk, before the first byte of it is sent: an event that
    /// waited for more than [`LATE_AFTER`] or over an outage is marked `"late": true`, and every later
    /// copy has the same bytes. Rows that are gone or no longer worth telling are missing in the
    /// answer.
    ///
    /// # Errors
    /// [`Error::Io`] where the database cannot be read or written.
    pub fn begin(&self, rows: &[RowId], broker: Broker) -> Result<Vec<Outgoing>> {
        let mut inner = self.lock();
        let now = self.moment();
        let (outgoing, change) =
            self.with_room(&mut inner, |inner| inner.begin(rows, broker, now.mono_ms))?;
        inner.settle(change);
        Ok(outgoing)
    }

    /// Forgets messages that the broker has acknowledged. Rows that are gone already are no error.
    ///
    /// # Errors
    /// [`Error::Io`] where the database cannot be written: they may be sent again.
    pub fn done(&self, rows: &[RowId]) -> Result<()> {
        self.remove(rows, None)
    }

    /// Gives messages up that the broker will never take.
    ///
    /// # Errors
    /// As [`Outbox::done`].
    pub fn give_up(&self, rows: &[RowId]) -> Result<()> {
        self.remove(rows, Some(DropReason::Refused))
    }

    /// Waits for the next commit; returns at once where there was one since the last call.
    pub async fn committed(&self) {
        self.committed.notified().await;
    }

    /// What waits and what was given up.
    pub fn stats(&self) -> Stats {
        self.lock().stats.clone()
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self, rows: &[RowId], reason: Option<DropReason>) -> Result<()> {
        let mut inner = self.lock();
        let change = self.with_room(&mut inner, |inner| inner.remove(rows, reason))?;
        if reason.is_none() {
            inner.stats.done += change.rows.len() as u64;
            metrics::counter!("spotter_outbox_done_total").increment(change.rows.len() as u64);
        }
        inner.settle(change);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked aborted the process; a transaction it left is rolled back anyway.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moment(&self) -> Moment {
        Moment::new(self.clock.now(), self.clock.wall())
    }

    fn explain(&self, error: rusqlite::Error) -> Error {
        open::explain(&self.path, error)
    }

    /// Takes a step once more after making room, where the disk was full.
    fn with_room<T>(
        &self,
        inner: &mut Inner,
        mut step: impl FnMut(&mut Inner) -> rusqlite::Result<T>,
    ) -> Result<T> {
        match step(inner) {
            Err(error) if open::is_full(&error) => {
                inner.make_room();
                step(inner).map_err(|error| {
                    tracing::error!(%error, path = %self.path.display(), "Outbox takes nothing.");
                    self.explain(error)
                })
            }
            other => other.map_err(|error| self.explain(error)),
        }
    }

    /// Now and then: deletes what has expired and tries to get the reserve back.
    fn upkeep(&self, inner: &mut Inner) {
        let now = self.clock.now();
        if now < inner.upkeep_at {
            return;
        }
        inner.upkeep_at = now + UPKEEP_EVERY;
        let mono_ms = self.moment().mono_ms;
        match self.with_room(inner, |inner| inner.expire(mono_ms)) {
            Ok(change) => inner.settle(change),
            Err(error) => tracing::warn!(%error, "Expired messages not deleted."),
        }
        if inner.stats.is_short {
            inner.regain_room();
        }
        inner.show();
    }
}

impl Inner {
    fn begin_change(&mut self) -> rusqlite::Result<(Transaction<'_>, Change)> {
        let change = Change { waiting: self.stats.waiting, rows: Vec::new(), dropped: Vec::new() };
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok((transaction, change))
    }

    /// Makes a change known that is on disk.
    fn settle(&mut self, change: Change) {
        self.stats.waiting = change.waiting;
        for (class, reason, messages) in change.dropped {
            self.stats.drop_messages(class, reason, messages);
            let is_meant = matches!(reason, DropReason::Expired | DropReason::Erased);
            if messages > 0 && !is_meant {
                let reason = reason.as_str();
                tracing::error!(%class, reason, messages, "Messages given up.");
            }
        }
    }

    fn append(&mut self, messages: &[Message], now: Moment) -> rusqlite::Result<Change> {
        let (is_short, max_bytes) = (self.stats.is_short, self.max_bytes);
        let (db, mut change) = self.begin_change()?;
        for (index, message) in messages.iter().enumerate() {
            if is_short && message.class == Class::Picture {
                change.dropped.push((Class::Picture, DropReason::DiskFull, 1));
                continue;
            }
            let row = rows::append(&db, message, now, &mut change.waiting)?;
            change.rows.push((row, index));
        }
        for class in Class::BY_WORTH {
            let fits = |waiting: &Tally| waiting.total().bytes <= max_bytes;
            let gone = rows::shed(&db, class, &mut change.waiting, fits)?;
            change.rows.retain(|(row, _)| !gone.contains(row));
            change.dropped.push((class, DropReason::Budget, gone.len() as u64));
        }
        db.commit()?;
        Ok(change)
    }

    fn begin(
        &mut self,
        rows: &[RowId],
        broker: Broker,
        now_mono_ms: i64,
    ) -> rusqlite::Result<(Vec<Outgoing>, Change)> {
        let opened = self.opened;
        let mut outgoing = Vec::with_capacity(rows.len());
        let (db, mut change) = self.begin_change()?;
        for row in rows {
            let Some(mut found) = rows::candidate(&db, *row, &opened, now_mono_ms)? else {
                continue;
            };
            if found.has_expired {
                rows::remove(&db, *row, &mut change.waiting)?;
                change.dropped.push((found.outgoing.class, DropReason::Expired, 1));
                continue;
            }
            if found.outgoing.class == Class::Event && !found.has_begun {
                let is_late = broker == Broker::WasAway || found.age > LATE_AFTER;
                if is_late && let Some(marked) = late::marked_late(&found.outgoing.payload) {
                    found.outgoing.payload = marked;
                }
                rows::fix(&db, *row, &found.outgoing.payload)?;
            }
            outgoing.push(found.outgoing);
        }
        db.commit()?;
        Ok((outgoing, change))
    }

    fn remove(&mut self, rows: &[RowId], why: Option<DropReason>) -> rusqlite::Result<Change> {
        let (db, mut change) = self.begin_change()?;
        for (index, row) in rows.iter().enumerate() {
            if let Some(class) = rows::remove(&db, *row, &mut change.waiting)? {
                change.rows.push((*row, index));
                change.dropped.extend(why.map(|reason| (class, reason, 1)));
            }
        }
        db.commit()?;
        Ok(change)
    }

    fn expire(&mut self, now_mono_ms: i64) -> rusqlite::Result<Change> {
        let opened = self.opened;
        let (db, mut change) = self.begin_change()?;
        let gone = rows::expire(&db, &opened, now_mono_ms, &mut change.waiting)?;
        change.dropped.extend(gone.into_iter().map(|(class, n)| (class, DropReason::Expired, n)));
        db.commit()?;
        Ok(change)
    }

    /// The disk is full: deletes pictures until the database has as much free room inside as the
    /// reserve had, and turns the reserve into free pages of the database, which does not grow from
    /// then on. Best effort; the step that is tried again tells.
    fn make_room(&mut self) {
        self.stats.disk_full += 1;
        metrics::counter!("spotter_outbox_disk_full_total").increment(1);
        let released = self.reserve.release();
        if !std::mem::replace(&mut self.stats.is_short, true) || released {
            tracing::error!(
                "Disk full: the outbox uses its reserve for events and takes no pictures. Free some \
                 room."
            );
        }
        // An error of either shows in the next step.
        let _ = room::overwrite(&self.db, Overwrite::WhatCostsNothing);
        let _ = room::unseal(&self.db);
        match self.shed_pictures(self.reserve.bytes()) {
            Ok(change) => self.settle(change),
            Err(error) => tracing::warn!(%error, "Pictures not deleted to make room."),
        }
        let bytes = if released { self.reserve.bytes() * 3 / 4 } else { 0 };
        let made = room::fold(&self.db)
            .and_then(|()| room::hold_pages(&self.db, bytes))
            .and_then(|()| room::fold(&self.db));
        if let Err(error) = made.and(room::seal(&self.db)) {
            tracing::warn!(%error, "The outbox's reserve was not to be had in full.");
        }
    }

    /// Takes the reserve again where there is room for it, and lets the database grow.
    fn regain_room(&mut self) {
        let reserve = self.reserve.bytes();
        // What was sent meanwhile left free pages: they may be the room that is missing.
        let given_back = room::give_back(&self.db, reserve, reserve * 3 / 4);
        if given_back.is_err() || self.reserve.take().is_err() {
            return;
        }
        let regained = room::unseal(&self.db)
            .and_then(|()| room::overwrite(&self.db, Overwrite::Everything))
            .and_then(|()| room::drop_filler(&self.db));
        match regained {
            Ok(()) => {
                self.stats.is_short = false;
                tracing::info!("Disk has room again: the outbox takes pictures.");
            }
            Err(error) => tracing::warn!(%error, "Disk has room again, the outbox does not."),
        }
    }

    fn shed_pictures(&mut self, bytes: u64) -> rusqlite::Result<Change> {
        let (db, mut change) = self.begin_change()?;
        let goal = change.waiting.of(Class::Picture).bytes.saturating_sub(bytes);
        let enough = |waiting: &Tally| waiting.of(Class::Picture).bytes <= goal;
        let gone = rows::shed(&db, Class::Picture, &mut change.waiting, enough)?;
        change.dropped.push((Class::Picture, DropReason::DiskFull, gone.len() as u64));
        db.commit()?;
        Ok(change)
    }

    fn show(&self) {
        for class in Class::BY_WORTH {
            let amount = self.stats.waiting.of(class);
            metrics::gauge!("spotter_outbox_messages", "class" => class.as_str())
                .set(amount.messages as f64);
            metrics::gauge!("spotter_outbox_bytes", "class" => class.as_str())
                .set(amount.bytes as f64);
        }
    }
}

/// One line for each commit, after it: what is in it must reach the broker, whatever happens next.
fn log_commit(rows: &[(RowId, usize)], messages: &[Message]) {
    let reference = |index: &usize| messages.get(*index)?.reference.clone();
    let references: Vec<_> = rows.iter().filter_map(|(_, index)| reference(index)).collect();
    let rows: Vec<_> = rows.iter().map(|(row, _)| row.to_string()).collect();
    tracing::info!(rows = rows.join(" "), references = references.join(" "), "outbox committed");
}
