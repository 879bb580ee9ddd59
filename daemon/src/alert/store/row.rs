//! One alert as rows of the file.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};

use crate::alert::{
    AlertId, Refusal, Wall,
    approval::Approval,
    entry::{Content, Entry, Kind, Order, Top},
    schema::Message,
};

const KINDS: [(&str, Kind); 4] = [
    ("revision", Kind::Revision),
    ("plain", Kind::Plain),
    ("empty", Kind::Empty),
    ("garbage", Kind::Garbage),
];

/// SQLite's integers have a sign; revisions and counters stay below 2^53.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn json(refusal: &Refusal) -> Option<String> {
    serde_json::to_string(refusal).ok()
}

/// Replaces what is kept of one alert; `None` forgets it.
pub(super) fn write(
    transaction: &Transaction<'_>,
    id: &AlertId,
    entry: Option<&Entry>,
) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM approval WHERE id = ?1")?.execute([id.as_str()])?;
    let Some(entry) = entry else {
        transaction.prepare_cached("DELETE FROM alert WHERE id = ?1")?.execute([id.as_str()])?;
        return Ok(());
    };
    write_alert(transaction, id, entry)?;
    let mut insert = transaction.prepare_cached("INSERT INTO approval VALUES (?1, ?2, ?3)")?;
    for (revision, approved_by) in entry.approvals.iter() {
        insert.execute(params![id.as_str(), signed(revision), approved_by])?;
    }
    Ok(())
}

fn write_alert(transaction: &Transaction<'_>, id: &AlertId, entry: &Entry) -> rusqlite::Result<()> {
    let top = entry.top.as_ref();
    let kind = top.and_then(|top| KINDS.iter().find(|(_, kind)| *kind == top.kind));
    let refusal = match top.map(|top| (top.kind, &top.content)) {
        Some((Kind::Garbage, Content::Refused(refusal))) => json(refusal),
        _ => None,
    };
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO alert (id, kind, revision, step, payload, received_ms, \
             conflict, missing, refusal, garbage, changed) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            id.as_str(),
            kind.map(|(name, _)| *name),
            top.and_then(|top| top.order.revision).map(signed),
            top.map_or(0, |top| top.order.step),
            top.map_or(&[][..], |top| &top.payload),
            top.and_then(|top| top.received).map(|at| at.as_millisecond()),
            top.is_some_and(|top| top.conflict),
            top.is_some_and(|top| top.missing),
            refusal,
            top.and_then(|top| top.garbage.as_ref()).and_then(json),
            signed(entry.changed),
        ])?;
    Ok(())
}

/// Everything that is kept.
pub(super) fn read_all(db: &Connection) -> rusqlite::Result<BTreeMap<AlertId, Entry>> {
    let mut entries = BTreeMap::new();
    let mut select = db.prepare("SELECT * FROM alert")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get("id")?;
        let mut entry = Entry::default();
        (entry.top, entry.changed) = (top(row)?, unsigned(row.get("changed")?));
        // Written by this program, so a name that is none is damage that the check cannot see.
        match AlertId::new(&id) {
            Ok(id) => drop(entries.insert(id, entry)),
            Err(error) => tracing::error!(%error, "An alert on disk is damaged and ignored."),
        }
    }
    let mut select = db.prepare("SELECT id, revision, approved_by FROM approval")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let entry = AlertId::new(&id).ok().and_then(|id| entries.get_mut(&id));
        if let Some(entry) = entry {
            let revision = unsigned(row.get(1)?);
            entry.approvals.add(Approval { revision, approved_by: row.get(2)? });
        }
    }
    Ok(entries)
}

fn top(row: &Row<'_>) -> rusqlite::Result<Option<Top>> {
    let name: Option<String> = row.get("kind")?;
    let kind = KINDS.iter().find(|(known, _)| Some(*known) == name.as_deref());
    let Some((_, kind)) = kind else { return Ok(None) };
    let refusal = |column: &str| -> rusqlite::Result<Option<Refusal>> {
        let text: Option<String> = row.get(column)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    };
    let revision: Option<i64> = row.get("revision")?;
    let order = Order { revision: revision.map(unsigned), step: row.get("step")? };
    let payload: Vec<u8> = row.get("payload")?;
    let message = match refusal("refusal")? {
        Some(refusal) => Message::Unreadable { revision: None, refusal },
        None => Message::parse(&payload),
    };
    let received: Option<i64> = row.get("received_ms")?;
    let unknown = Wall { at: Timestamp::UNIX_EPOCH, synced: Some(false) };
    Ok(Some(Top {
        // As it was placed, whatever this version reads in it.
        order,
        kind: *kind,
        received: received.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        conflict: row.get("conflict")?,
        missing: row.get("missing")?,
        garbage: refusal("garbage")?,
        ..Top::new(&payload, message, order, unknown)
    }))
}
