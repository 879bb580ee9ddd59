//! The book on disk, the embeddings of its texts, and whom its alerts are like.
//!
//! A message is on disk when [`Store::take`] returns; only then may it be acknowledged. Where it
//! cannot be written nothing changes, also not for readers, and the broker sends it again. What is
//! kept is one row an alert, the message that counts, so that the file does not grow with time.
//!
//! Only one process may have the file open.

mod embeddings;
mod row;
mod seeds;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode};

pub use embeddings::Text;
pub use seeds::{Kept, Seed, delete_set_aside, seeds_of, set_aside};

use super::{
    AlertId, Book, Refusal, Rules, View, Wall,
    book::{Changes, Outcome, Retained},
    entry::Entry,
};
use crate::error::{Error, Result};

/// The layout of the file, as its `user_version`.
const LAYOUT: i64 = 2;

/// How long another process is waited for that still has the file open: one that is being stopped.
const PATIENCE: Duration = Duration::from_secs(2);

const TABLES: &str = "
CREATE TABLE alert (
    id          TEXT PRIMARY KEY,
    kind        TEXT,               -- NULL: only approvals are known
    revision    INTEGER,
    step        INTEGER NOT NULL,
    payload     BLOB NOT NULL,
    received_ms INTEGER,            -- NULL: the clock was not believed
    conflict    INTEGER NOT NULL,
    missing     INTEGER NOT NULL,
    refusal     TEXT,               -- of a payload that was not kept
    garbage     TEXT,               -- the refusal of a later message
    changed     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE approval (
    id          TEXT NOT NULL,
    revision    INTEGER NOT NULL,
    approved_by TEXT NOT NULL,
    PRIMARY KEY (id, revision, approved_by)
) STRICT, WITHOUT ROWID;
CREATE TABLE embedding (
    text        TEXT NOT NULL,
    generation  BLOB NOT NULL,
    understood  TEXT NOT NULL,
    lost        TEXT,
    vector      BLOB NOT NULL,      -- f32, little endian
    PRIMARY KEY (text, generation)
) STRICT, WITHOUT ROWID;
";

/// Which topic a payload came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// `…/alerts/{alert}`.
    Alert,
    /// `…/approvals/{alert}`.
    Approval,
}

/// A payload that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// From where.
    pub topic: Topic,
    /// Which alert.
    pub id: AlertId,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// The book, kept on disk.
pub struct Store {
    db: Connection,
    path: PathBuf,
    book: Book,
    /// Whether anybody may be kept whom an alert is like.
    holds_seeds: bool,
    set_aside: Option<PathBuf>,
}

impl Store {
    /// Opens the file, or makes it; what was armed is armed again without a broker.
    ///
    /// A file that is damaged is set aside (see [`Store::set_aside`]) and a new one begun, since
    /// the broker holds the alerts and a box that does not start watches nothing.
    ///
    /// # Errors
    /// Where the folder cannot be written, another process has the file open, or it was written by
    /// a newer version.
    pub fn open(path: &Path, rules: Rules, now: Wall) -> Result<Self> {
        let mut set_aside = None;
        let (db, entries) = match load(path) {
            Ok(loaded) => loaded,
            Err(Fault::Damaged(reason)) => {
                let aside = put_aside(path)?;
                tracing::error!(
                    file = %path.display(),
                    aside = %aside.display(),
                    reason,
                    "The alerts on disk were damaged and set aside; they come back from the broker."
                );
                set_aside = Some(aside);
                load(path).map_err(|fault| fault.into_error(path))?
            }
            Err(fault) => return Err(fault.into_error(path)),
        };
        let book = Book::restore(rules, entries, now);
        let mut store = Self { db, path: path.to_path_buf(), book, holds_seeds: true, set_aside };
        store.prune_seeds();
        Ok(store)
    }

    /// The book; its readers see what is on disk and nothing else.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Where a damaged file was put when this one was opened.
    pub fn set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// Takes payloads, one after the other, and writes them together: one wait for the disk, also
    /// for ten thousand retained messages. An outcome for each.
    ///
    /// # Errors
    /// Where they cannot be written. Then none was taken, and none may be acknowledged.
    pub fn take(&mut self, inbound: &[Inbound], now: Wall) -> Result<(Vec<Outcome>, Changes)> {
        let outcomes = inbound.iter().map(|message| match message.topic {
            Topic::Alert => self.book.take(&message.id, &message.payload, now),
            Topic::Approval => self.book.approve(&message.id, &message.payload, now),
        });
        let outcomes = outcomes.collect();
        Ok((outcomes, self.commit()?))
    }

    /// Lets time pass; see [`Book::tick`]. An alert ends on time also where the disk is full: what
    /// is written here only says when a message came, and is found out again after a restart.
    pub fn tick(&mut self, now: Wall) -> Changes {
        self.book.tick(now);
        if let Err(error) = self.write() {
            let error = failed(&self.path, error);
            tracing::warn!(%error, "The time at which alerts came could not be written.");
        }
        let changes = self.book.settle();
        if changes != Changes::default() {
            self.prune_seeds();
        }
        changes
    }

    /// Compares with the broker's retained set; see [`Book::reconcile`]. Gives the alerts that were
    /// withdrawn, which have to be reported.
    ///
    /// # Errors
    /// Where the change cannot be written. Then nothing is withdrawn.
    pub fn reconcile(&mut self, retained: &Retained, now: Wall) -> Result<(Vec<AlertId>, Changes)> {
        let withdrawn = self.book.reconcile(retained, now);
        Ok((withdrawn, self.commit()?))
    }

    /// What a broker has to hold for this book to come of it: the alerts that are wanted, and who
    /// approved them. For a broker that forgot it.
    pub fn messages(&self) -> Vec<Inbound> {
        let of =
            |(id, alert, approval): (&AlertId, Vec<u8>, Vec<u8>)| {
                [(Topic::Alert, alert), (Topic::Approval, approval)]
                    .map(|(topic, payload)| Inbound { topic, id: id.clone(), payload })
            };
        self.book.messages().flat_map(of).filter(|message| !message.payload.is_empty()).collect()
    }

    /// The running bundle cannot look for it; see [`Book::cannot_arm`]. Nothing of it is written:
    /// the next start tries again.
    pub fn cannot_arm(&mut self, seen: &View, why: Refusal, now: Wall) -> Changes {
        self.book.cannot_arm(seen, why, now);
        self.book.settle()
    }

    /// Another bundle runs; see [`Book::try_again`].
    pub fn try_again(&mut self, now: Wall) -> Changes {
        self.book.try_again(now);
        self.book.settle()
    }

    /// Some alerts may be looked for now; see [`Book::try_these`].
    pub fn try_these(&mut self, ids: &[AlertId], now: Wall) -> Changes {
        self.book.try_these(ids, now);
        self.book.settle()
    }

    /// Other rules hold; see [`Book::use_rules`].
    pub fn use_rules(&mut self, rules: Rules, now: Wall) -> Changes {
        self.book.use_rules(rules, now);
        self.book.settle()
    }

    fn commit(&mut self) -> Result<Changes> {
        let written = self.write();
        match written {
            Ok(()) => {
                let changes = self.book.settle();
                self.prune_seeds();
                Ok(changes)
            }
            Err(error) => {
                self.book.revert();
                Err(failed(&self.path, error))
            }
        }
    }

    fn write(&mut self) -> rusqlite::Result<()> {
        let mut unsettled = self.book.unsettled().peekable();
        if unsettled.peek().is_none() {
            return Ok(());
        }
        let transaction = self.db.transaction()?;
        for (id, entry) in unsettled {
            row::write(&transaction, id, entry)?;
        }
        transaction.commit()
    }
}

/// Why a file cannot be opened.
enum Fault {
    /// It is no database, or one that contradicts itself.
    Damaged(String),
    /// Everything else.
    Other(Error),
    /// What the library said.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Database(error),
        }
    }
}

impl Fault {
    fn into_error(self, path: &Path) -> Error {
        match self {
            Self::Damaged(reason) => Error::internal(path.display().to_string(), reason),
            Self::Other(error) => error,
            Self::Database(error) => failed(path, error),
        }
    }
}

fn load(path: &Path) -> Result<(Connection, BTreeMap<AlertId, Entry>), Fault> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(PATIENCE)?;
    // Exclusive before WAL: a second daemon on the same file is an error, not a second opinion.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "journal_size_limit", 4 << 20)?;
    // What alerts are like is of persons: what is deleted is overwritten.
    db.pragma_update(None, "secure_delete", true)?;
    let layout: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match layout {
        0 => {
            let transaction = db.transaction()?;
            transaction.execute_batch(TABLES)?;
            transaction.execute_batch(seeds::TABLES)?;
            transaction.pragma_update(None, "user_version", LAYOUT)?;
            transaction.commit()?;
        }
        1 => {
            let transaction = db.transaction()?;
            transaction.execute_batch(seeds::TABLES)?;
            transaction.pragma_update(None, "user_version", LAYOUT)?;
            transaction.commit()?;
        }
        LAYOUT => {}
        newer => {
            let reason = format!(
                "was written by a newer version (layout {newer}, this one reads {LAYOUT}); install \
                 that version again, or move the file away: the alerts come back from the broker"
            );
            return Err(Fault::Other(Error::config(path.display().to_string(), reason)));
        }
    }
    let check: String = db.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if check != "ok" {
        return Err(Fault::Damaged(check));
    }
    let mut entries = row::read_all(&db)?;
    for (id, person) in seeds::erased(&db)? {
        let entry = AlertId::new(&id).ok().and_then(|id| entries.get_mut(&id));
        if let Some(entry) = entry {
            let like = entry.spec().and_then(|spec| spec.like.as_ref());
            entry.is_erased = like.is_some_and(|like| like.key() == person);
        }
    }
    Ok((db, entries))
}

/// Where a damaged file is put.
fn aside_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    PathBuf::from(name)
}

/// Moves a damaged file and its log away. Only the newest damaged one is kept: they must not fill
/// the disk.
fn put_aside(path: &Path) -> Result<PathBuf> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = aside_of(path);
    std::fs::rename(path, &aside).map_err(Error::io(path))?;
    for suffix in ["-wal", "-shm"] {
        match std::fs::remove_file(with(suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(with(suffix))(error));
            }
            _ => {}
        }
    }
    Ok(aside)
}

/// What the library said, as an error that tells what to do.
fn failed(path: &Path, error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => io::ErrorKind::StorageFull,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => io::ErrorKind::ResourceBusy,
        Some(ErrorCode::ReadOnly) => io::ErrorKind::ReadOnlyFilesystem,
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            io::ErrorKind::PermissionDenied
        }
        Some(ErrorCode::SystemIoFailure) => io::ErrorKind::Other,
        _ => return Error::internal(path.display().to_string(), error),
    };
    let advice = match kind {
        io::ErrorKind::StorageFull => "the disk is full; free some space",
        io::ErrorKind::ResourceBusy => "another process has it open; is spotterd running twice?",
        io::ErrorKind::Other => "the disk fails; see the system's log",
        _ => "cannot be written; check its owner and the folder's",
    };
    Error::io(path)(io::Error::new(kind, format!("{advice} ({error})")))
}

#[cfg(test)]
mod tests;
