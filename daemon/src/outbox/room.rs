//! Room inside the database while the disk is full.
//!
//! A write-ahead log that holds pages by which the file has yet to grow can be neither folded nor
//! started again on a full disk: nothing could be written any more, not even that a message is done.
//! So while room is short the file does not grow: it is given free pages once, from the reserve, and
//! lives on them.

use rusqlite::{Connection, params};

/// What is written at once to make pages real; the log grows by as much.
const PIECE_BYTES: u64 = 256 << 10;
/// The largest number of pages that SQLite knows.
const NO_LIMIT: i64 = 0xffff_fffe;

/// What is overwritten when a row is deleted. Rows show persons: what was sent is not only forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overwrite {
    /// All of it.
    Everything,
    /// What lies in pages that are written anyway. The rest, most of a picture, costs a write of its own, for
    /// which a full disk has no room: deleting must make room there.
    WhatCostsNothing,
}

/// Sets what deleting overwrites from here on.
pub(super) fn overwrite(db: &Connection, what: Overwrite) -> rusqlite::Result<()> {
    let value = match what {
        Overwrite::Everything => "ON",
        Overwrite::WhatCostsNothing => "FAST",
    };
    db.pragma_update_and_check(None, "secure_delete", value, |_| Ok(()))
}

/// Overwrites the free pages of a file that does not grow, a piece at a time.
pub(super) fn blank(db: &Connection) -> rusqlite::Result<()> {
    let free: u64 = db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    let page: u64 = db.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let mut piece = PIECE_BYTES.min(free * page);
    while piece >= page / 4 {
        let filled = db
            .execute("INSERT INTO filler (content) VALUES (zeroblob(?1))", params![piece])
            .and_then(|_| fold(db));
        match filled {
            Ok(()) => {}
            // Less is left than that.
            Err(error) if super::open::is_full(&error) => piece /= 2,
            Err(error) => {
                drop_filler(db)?;
                return Err(error);
            }
        }
    }
    drop_filler(db)
}

/// Grows the file by `bytes` of real, free pages. Best effort: what was had before an error stays.
pub(super) fn hold_pages(db: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let mut grown = Ok(());
    for _ in 0..bytes / PIECE_BYTES {
        grown = db
            .execute("INSERT INTO filler (content) VALUES (zeroblob(?1))", params![PIECE_BYTES])
            .and_then(|_| fold(db));
        if grown.is_err() {
            break;
        }
    }
    drop_filler(db)?;
    grown
}

/// Frees the pages of a growth that a crash cut short.
pub(super) fn drop_filler(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM filler", []).map(drop)
}

/// Folds the log into the file, so that the next transaction starts it again. The log keeps its size:
/// room given back to a full disk would be gone.
pub(super) fn fold(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
}

/// Folds the log into the file and empties it: what was deleted is in neither.
pub(super) fn scrub(db: &Connection) -> rusqlite::Result<()> {
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
    let is_busy: bool = db.query_row(sql, [], |row| row.get(0))?;
    if is_busy {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(busy, None));
    }
    Ok(())
}

/// Grows the log by a piece that says nothing.
pub(super) fn hold_log(db: &Connection) -> rusqlite::Result<()> {
    let piece = params![PIECE_BYTES];
    db.execute("INSERT INTO filler (content) VALUES (zeroblob(?1))", piece)?;
    drop_filler(db)?;
    fold(db)
}

/// From here on the file does not grow: a transaction that needs more pages fails as a whole.
pub(super) fn seal(db: &Connection) -> rusqlite::Result<()> {
    let pages: i64 = db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    limit(db, pages)
}

/// Lets the file grow again.
pub(super) fn unseal(db: &Connection) -> rusqlite::Result<()> {
    limit(db, NO_LIMIT)
}

/// Gives free pages of the file back to the disk, at most `bytes`, where more than `keep` are free.
pub(super) fn give_back(db: &Connection, bytes: u64, keep: u64) -> rusqlite::Result<()> {
    let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let page = number("page_size")?.max(1);
    let free = number("freelist_count")?.saturating_sub(keep / page);
    let mut left = free.min(bytes.div_ceil(page));
    while left > 0 {
        let now = left.min(PIECE_BYTES / page);
        let mut vacuum = db.prepare(&format!("PRAGMA incremental_vacuum({now})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        drop(rows);
        fold(db)?;
        left -= now;
    }
    Ok(())
}

fn limit(db: &Connection, pages: i64) -> rusqlite::Result<()> {
    db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}
