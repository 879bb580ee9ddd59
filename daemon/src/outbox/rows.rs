//! The rows of the database: every statement that reads or writes one. Callers hold the transaction.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{
    erase::Kept,
    message::{Class, Header, Message, Outgoing, RowId, Waiting},
    stats::Tally,
};
use crate::{clock::Mono, frame::CameraId};

/// What a row costs beside its payload, its topic and its header: the other columns and the indices.
const ROW_BYTES: usize = 256;
/// Wall time before 2024 comes from a box without a clock and says nothing about ages.
const CREDIBLE_MS: i64 = 1_704_067_200_000;

/// Both clocks, in milliseconds: monotonic since the clock's start, wall since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) mono_ms: i64,
    pub(super) wall_ms: i64,
}

impl Moment {
    pub(super) fn new(mono: Mono, wall: SystemTime) -> Self {
        let wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { mono_ms: millis(mono.0), wall_ms: millis(wall) }
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// When this process opened the database: rows up to `last_row` were written by an earlier one, whose
/// monotonic clock is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) at: Moment,
    pub(super) last_row: i64,
}

/// Columns that tell a row's age, in the order that [`Age::read`] expects them from `first` on.
const AGE_COLUMNS: &str = "id, committed_mono_ms, committed_wall_ms, expires_after_ms";

struct Age {
    age: Duration,
    expires_after: Option<Duration>,
}

impl Age {
    fn read(row: &Row<'_>, opened: &Opened, now_mono_ms: i64) -> rusqlite::Result<Self> {
        let id: i64 = row.get(0)?;
        let mono_ms: i64 = row.get(1)?;
        let wall_ms: i64 = row.get(2)?;
        let age_ms = if id > opened.last_row {
            now_mono_ms - mono_ms
        } else {
            // A clock that was wrong at either end would make a fresh message years old: count only
            // the time since the start then.
            let known = wall_ms >= CREDIBLE_MS && opened.at.wall_ms >= CREDIBLE_MS;
            let before = if known { (opened.at.wall_ms - wall_ms).max(0) } else { 0 };
            before.saturating_add(now_mono_ms - opened.at.mono_ms)
        };
        let span = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let expires_after: Option<i64> = row.get(3)?;
        Ok(Self { age: span(age_ms), expires_after: expires_after.map(span) })
    }

    fn has_expired(&self) -> bool {
        self.expires_after.is_some_and(|limit| self.age >= limit)
    }
}

/// Highest number ever given to a row, 0 for none.
pub(super) fn last_row(db: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'message'";
    Ok(db.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// What the rows add up to.
pub(super) fn tally(db: &Connection) -> rusqlite::Result<Tally> {
    let mut tally = Tally::default();
    let mut rows = db.prepare("SELECT class, count(*), sum(bytes) FROM message GROUP BY class")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let class = class(row, 0)?;
        tally.add(class, row.get(1)?, row.get(2)?);
    }
    Ok(tally)
}

fn class(row: &Row<'_>, column: usize) -> rusqlite::Result<Class> {
    let code: i64 = row.get(column)?;
    Class::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, code))
}

fn header_text(header: &Header) -> rusqlite::Result<String> {
    serde_json::to_string(header)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Appends a message; a state takes the place of an older one of its topic.
pub(super) fn append(
    db: &Connection,
    message: &Message,
    now: Moment,
    tally: &mut Tally,
) -> rusqlite::Result<RowId> {
    if message.class == Class::State {
        let replaced = "DELETE FROM message WHERE class = 0 AND topic = ?1 RETURNING bytes";
        let mut rows = db.prepare_cached(replaced)?;
        let mut rows = rows.query([&message.topic])?;
        while let Some(row) = rows.next()? {
            tally.remove(Class::State, row.get(0)?);
        }
    }
    let header = header_text(&message.header)?;
    let bytes = message.payload.len() + message.topic.len() + header.len() + ROW_BYTES;
    let mut insert = db.prepare_cached(
        "INSERT INTO message (class, bytes, committed_mono_ms, committed_wall_ms, \
         expires_after_ms, retain, topic, camera, reference, header, payload) VALUES \
         (:class, :bytes, :mono, :wall, :expires, :retain, :topic, :camera, :reference, :header, \
         :payload)",
    )?;
    insert.execute(named_params! {
        ":class": message.class.code(),
        ":bytes": bytes,
        ":mono": now.mono_ms,
        ":wall": now.wall_ms,
        ":expires": message.expires_after.map(millis),
        ":retain": message.retain,
        ":topic": message.topic,
        ":camera": message.camera.as_ref().map(|camera| camera.as_str()),
        ":reference": message.reference,
        ":header": header,
        ":payload": message.payload,
    })?;
    tally.add(message.class, 1, bytes as u64);
    Ok(RowId(db.last_insert_rowid()))
}

/// Deletes the oldest rows of a class until `enough` says so; the rows that went.
pub(super) fn shed(
    db: &Connection,
    class: Class,
    tally: &mut Tally,
    enough: impl Fn(&Tally) -> bool,
) -> rusqlite::Result<Vec<RowId>> {
    let mut gone = Vec::new();
    let mut oldest =
        db.prepare_cached("SELECT id, bytes FROM message WHERE class = ?1 ORDER BY id")?;
    let mut rows = oldest.query([class.code()])?;
    while !enough(tally)
        && let Some(row) = rows.next()?
    {
        gone.push(RowId(row.get(0)?));
        tally.remove(class, row.get(1)?);
    }
    drop(rows);
    drop(oldest);
    for row in &gone {
        db.execute("DELETE FROM message WHERE id = ?1", [row.0])?;
    }
    Ok(gone)
}

/// Deletes what has waited for longer than it was worth; how many of each class went.
pub(super) fn expire(
    db: &Connection,
    opened: &Opened,
    now_mono_ms: i64,
    tally: &mut Tally,
) -> rusqlite::Result<Vec<(Class, u64)>> {
    // The index has every column: with a long backlog, the rows themselves are much to read.
    let sql = format!(
        "SELECT {AGE_COLUMNS}, class, bytes FROM message INDEXED BY message_expiry \
         WHERE expires_after_ms IS NOT NULL"
    );
    let mut gone = Vec::new();
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if Age::read(row, opened, now_mono_ms)?.has_expired() {
            gone.push((row.get::<_, i64>(0)?, class(row, 4)?, row.get(5)?));
        }
    }
    drop(rows);
    for (id, class, bytes) in &gone {
        db.execute("DELETE FROM message WHERE id = ?1", [id])?;
        tally.remove(*class, *bytes);
    }
    let count = |class| gone.iter().filter(|(_, other, _)| *other == class).count() as u64;
    Ok(Class::BY_WORTH.map(|class| (class, count(class))).into())
}

/// Rows after `after` in their order, at most `limit`.
pub(super) fn waiting(
    db: &Connection,
    after: RowId,
    limit: usize,
) -> rusqlite::Result<Vec<Waiting>> {
    let sql = "SELECT id, class, length(payload) FROM message WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![after.0, limit], |row| {
        Ok(Waiting { row: RowId(row.get(0)?), class: class(row, 1)?, payload_bytes: row.get(2)? })
    })?;
    rows.collect()
}

/// Events and pictures in their order; of pictures without the payload.
pub(super) fn kept(db: &Connection) -> rusqlite::Result<Vec<Kept>> {
    let sql = "SELECT id, class, topic, camera, committed_wall_ms, begun, header, \
               CASE class WHEN 1 THEN payload ELSE x'' END FROM message WHERE class != 0 ORDER BY id";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let camera: Option<String> = row.get(3)?;
        Ok(Kept {
            row: RowId(row.get(0)?),
            class: class(row, 1)?,
            topic: row.get(2)?,
            camera: camera.and_then(|camera| CameraId::new(&camera).ok()),
            committed: Timestamp::from_millisecond(row.get(4)?).unwrap_or(Timestamp::MIN),
            has_begun: row.get(5)?,
            header: header(row, 6)?,
            payload: row.get(7)?,
        })
    })?;
    rows.collect()
}

fn header(row: &Row<'_>, column: usize) -> rusqlite::Result<Header> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
    })
}

/// A row that is about to be sent.
pub(super) struct Candidate {
    pub(super) outgoing: Outgoing,
    pub(super) age: Duration,
    pub(super) has_begun: bool,
    pub(super) has_expired: bool,
}

/// Reads a row; `None` where it is gone.
pub(super) fn candidate(
    db: &Connection,
    row: RowId,
    opened: &Opened,
    now_mono_ms: i64,
) -> rusqlite::Result<Option<Candidate>> {
    let sql = format!(
        "SELECT {AGE_COLUMNS}, class, begun, retain, topic, header, payload FROM message \
         WHERE id = ?1"
    );
    let mut select = db.prepare_cached(&sql)?;
    select
        .query_row([row.0], |found| {
            let age = Age::read(found, opened, now_mono_ms)?;
            let outgoing = Outgoing {
                row,
                class: class(found, 4)?,
                retain: found.get(6)?,
                topic: found.get(7)?,
                header: header(found, 8)?,
                payload: found.get(9)?,
                expires_in: age.expires_after.map(|limit| limit.saturating_sub(age.age)),
            };
            Ok(Candidate {
                outgoing,
                has_begun: found.get(5)?,
                has_expired: age.has_expired(),
                age: age.age,
            })
        })
        .optional()
}

/// Fixes a row's payload: from now on every copy has these bytes.
pub(super) fn fix(db: &Connection, row: RowId, payload: &[u8]) -> rusqlite::Result<()> {
    let sql = "UPDATE message SET payload = ?2, begun = 1 WHERE id = ?1";
    db.prepare_cached(sql)?.execute(params![row.0, payload]).map(drop)
}

/// Deletes a row; its class where it was still there.
pub(super) fn remove(
    db: &Connection,
    row: RowId,
    tally: &mut Tally,
) -> rusqlite::Result<Option<Class>> {
    let sql = "DELETE FROM message WHERE id = ?1 RETURNING class, bytes";
    let mut delete = db.prepare_cached(sql)?;
    let removed =
        delete.query_row([row.0], |row| Ok((class(row, 0)?, row.get::<_, u64>(1)?))).optional()?;
    if let Some((class, bytes)) = removed {
        tally.remove(class, bytes);
    }
    Ok(removed.map(|(class, _)| class))
}
