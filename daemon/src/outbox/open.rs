//! Opening the file: what it is, whether it is whole, and what happens where it is not.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::room::{self, Overwrite};
use crate::error::{Error, Result};

/// Marks the file as ours: "SpOb".
const APPLICATION: i64 = 0x5370_4f62;
/// Version of the tables below. A newer one is refused, not guessed at.
const SCHEMA: i64 = 1;
/// Files set aside that are kept; older ones are deleted, or a failing disk would fill itself.
const SET_ASIDE_MAX: usize = 3;
/// How long to wait for another process that may be just ending.
const BUSY_WAIT: Duration = Duration::from_millis(1000);

// The payload is the last column, so that looking through the rows does not read it. AUTOINCREMENT,
// so that a number is never used again after its row was deleted.
const TABLES: &str = "
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    class INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    committed_mono_ms INTEGER NOT NULL,
    committed_wall_ms INTEGER NOT NULL,
    expires_after_ms INTEGER,
    begun INTEGER NOT NULL DEFAULT 0,
    retain INTEGER NOT NULL,
    topic TEXT NOT NULL,
    camera TEXT,
    reference TEXT,
    header TEXT NOT NULL,
    payload BLOB NOT NULL
) STRICT;
CREATE TABLE filler (content BLOB NOT NULL) STRICT;
CREATE INDEX message_class ON message (class);
CREATE INDEX message_expiry ON message
    (expires_after_ms, committed_mono_ms, committed_wall_ms, class, bytes)
    WHERE expires_after_ms IS NOT NULL;
CREATE INDEX message_state ON message (topic) WHERE class = 0;
";

/// Opens the database at `path`, or a fresh one where it is damaged: the damaged one is set aside
/// under a name that is logged.
///
/// # Errors
/// [`Error::Config`] for a file of a newer version, of another program, or in use by another process;
/// [`Error::Io`] where the folder or the file cannot be read or written.
pub(super) fn open(path: &Path, wall: SystemTime) -> Result<Connection> {
    match try_open(path) {
        Err(OpenError::Damaged(reason)) => {
            let aside = set_aside(path, wall)?;
            tracing::error!(
                path = %path.display(), aside = %aside.display(), reason,
                "Outbox damaged: set aside, messages in it are not sent. A fresh one is used."
            );
            metrics::counter!("spotter_outbox_damaged_total").increment(1);
            try_open(path).map_err(|error| error.at(path))
        }
        other => other.map_err(|error| error.at(path)),
    }
}

enum OpenError {
    /// The file is not whole.
    Damaged(String),
    /// The file is whole and not for us, or cannot be reached.
    Other(Error),
    Sqlite(rusqlite::Error),
}

impl OpenError {
    fn at(self, path: &Path) -> Error {
        match self {
            OpenError::Damaged(reason) => spotter_models::Error::corrupt(path, reason).into(),
            OpenError::Other(error) => error,
            OpenError::Sqlite(error) => explain(path, error),
        }
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                OpenError::Damaged(error.to_string())
            }
            _ => OpenError::Sqlite(error),
        }
    }
}

fn try_open(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_WAIT)?;
    // One process at a time: two daemons would send everything twice. It also needs no shared memory
    // file, whose growth on a full disk would be a fatal signal.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let objects: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    let is_new = (application, version, objects) == (0, 0, 0);
    if !is_new && application != APPLICATION {
        let reason = "is a database of another program: name another folder for the outbox";
        return Err(OpenError::Other(Error::config(path.display().to_string(), reason)));
    }
    if version > SCHEMA {
        let reason = format!(
            "was written by a newer spotterd (version {version}, this one knows {SCHEMA}): \
             install that one again, or move the file away and lose what waits in it"
        );
        return Err(OpenError::Other(Error::config(path.display().to_string(), reason)));
    }
    if is_new {
        // Before the first table, or it has no effect: lets the file give pages back to a full disk.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |r| r.get(0))?;
    if mode != "wal" {
        let reason = format!("the file system allows no write-ahead log (mode {mode:?})");
        return Err(OpenError::Other(Error::config(path.display().to_string(), reason)));
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    room::overwrite(&db, Overwrite::Everything)?;
    // 1 MiB: on a small disk a long log is room that events miss.
    db.pragma_update(None, "wal_autocheckpoint", 256)?;
    db.pragma_update(None, "journal_size_limit", 1 << 20)?;
    if is_new {
        create(&mut db)?;
    } else {
        check(&db)?;
    }
    Ok(db)
}

fn create(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()
}

fn check(db: &Connection) -> Result<(), OpenError> {
    let verdict: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(OpenError::Damaged(verdict));
    }
    let columns = "SELECT id, class, bytes, committed_mono_ms, committed_wall_ms, expires_after_ms, \
                   begun, retain, topic, camera, reference, header, payload FROM message";
    db.prepare(columns).map(drop).map_err(|error| OpenError::Damaged(error.to_string()))
}

/// Moves a damaged database with its log out of the way.
fn set_aside(path: &Path, wall: SystemTime) -> Result<PathBuf> {
    let seconds = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut aside = with(&format!(".damaged-{seconds}"));
    let mut more = 0;
    while aside.exists() {
        more += 1;
        aside = with(&format!(".damaged-{seconds}-{more}"));
    }
    for suffix in ["-wal", "-shm", "-journal"] {
        let mut to = aside.as_os_str().to_owned();
        to.push(suffix);
        match fs::rename(with(suffix), &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(with(suffix))(error));
            }
            _ => {}
        }
    }
    // The database last: a crash before this point finds it damaged again.
    fs::rename(path, &aside).map_err(Error::io(path))?;
    forget_oldest(path);
    Ok(aside)
}

/// Keeps the newest of the files set aside. What cannot be deleted stays: it only costs room.
fn forget_oldest(path: &Path) {
    let entries = aside(path).into_iter();
    let mut aside: Vec<(SystemTime, PathBuf)> = entries
        .filter(|path| !path.as_os_str().to_string_lossy().ends_with("-wal"))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    aside.sort();
    let surplus = aside.len().saturating_sub(SET_ASIDE_MAX);
    for (_, old) in aside.into_iter().take(surplus) {
        let mut log = old.as_os_str().to_owned();
        log.push("-wal");
        let _ = fs::remove_file(&log);
        let _ = fs::remove_file(&old);
    }
}

/// The files of damaged databases that were set aside, with their logs.
pub(super) fn aside(path: &Path) -> Vec<PathBuf> {
    let Some((folder, name)) = path.parent().zip(path.file_name()) else { return Vec::new() };
    let prefix = format!("{}.damaged-", name.to_string_lossy());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_aside = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&prefix);
    entries.filter(is_aside).map(|entry| entry.path()).collect()
}

/// Whether SQLite says that the disk has no room.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// What a person can do about an error of the database.
pub(super) fn explain(path: &Path, error: rusqlite::Error) -> Error {
    let io = |kind, text: &str| Error::Io {
        path: path.to_path_buf(),
        source: io::Error::new(kind, format!("{text} ({error})")),
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            io(io::ErrorKind::StorageFull, "no room on the disk for the outbox: free some")
        }
        Some(ErrorCode::ReadOnly) => io(
            io::ErrorKind::ReadOnlyFilesystem,
            "the outbox cannot be written: make the file system and the file writable",
        ),
        Some(ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => io(
            io::ErrorKind::PermissionDenied,
            "the outbox cannot be opened: the daemon's user needs the folder and the file",
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::in_use(path.display().to_string(), "outbox")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            let reason = format!("{error}: a restart sets the file aside and starts a fresh one");
            spotter_models::Error::corrupt(path, reason).into()
        }
        _ => io(io::ErrorKind::Other, "the outbox's database"),
    }
}
