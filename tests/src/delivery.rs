//! The oracle of delivery: what the daemon's log says was committed to the outbox must arrive.

#![expect(clippy::panic, reason = "a test that cannot go on says so")]

use std::collections::BTreeMap;

use serde_json::Value;

use crate::rig::{self, Seen};

/// A sighting's message by its name: id and number.
pub type Reference = (String, u64);

/// What the lines of a log say was committed, in the order of the commits.
///
/// # Panics
/// For a line that names something else than sightings.
pub fn committed(lines: &[String]) -> Vec<Reference> {
    let of_line = |line: &String| -> Vec<Reference> {
        let Some((_, fields)) = line.split_once("outbox committed") else { return Vec::new() };
        let references = fields.split_once("references=\"").map(|(_, rest)| rest);
        let Some((references, _)) = references.and_then(|rest| rest.split_once('"')) else {
            panic!("a commit without references: {line}");
        };
        references.split_whitespace().map(|reference| parse(reference, line)).collect()
    };
    lines.iter().flat_map(of_line).collect()
}

fn parse(reference: &str, line: &str) -> Reference {
    let parts = reference.split_once(':');
    match parts.and_then(|(id, seq)| Some((id.to_owned(), seq.parse().ok()?))) {
        Some(reference) => reference,
        None => panic!("{reference:?} is no sighting: {line}"),
    }
}

/// A sighting's message that arrived, and all copies of it.
pub struct Arrival {
    /// Its camera.
    pub camera: String,
    /// Whether it says that it is late.
    pub late: bool,
    /// Its place among the first copies.
    pub place: usize,
    /// How often it came.
    pub copies: usize,
    payload: Vec<u8>,
}

/// What arrived of `{device}/sightings`, each message once.
///
/// # Panics
/// Where two copies differ, or a message is none.
pub fn arrived(seen: &[Seen]) -> BTreeMap<Reference, Arrival> {
    let mut arrived: BTreeMap<Reference, Arrival> = BTreeMap::new();
    for seen in seen.iter().filter(|seen| rig::topic(seen).ends_with("/sightings")) {
        let text = rig::text(seen);
        let Ok(json) = serde_json::from_str::<Value>(&text) else {
            panic!("a sighting that is no JSON: {text}");
        };
        let (Some(id), Some(seq), Some(camera), Some(late)) = (
            json["id"].as_str(),
            json["seq"].as_u64(),
            json["camera"].as_str(),
            json["late"].as_bool(),
        ) else {
            panic!("a sighting lacks its name: {text}");
        };
        let place = arrived.len();
        let arrival = arrived.entry((id.to_owned(), seq)).or_insert_with(|| Arrival {
            camera: camera.to_owned(),
            late,
            place,
            copies: 0,
            payload: seen.payload.to_vec(),
        });
        assert!(arrival.payload == *seen.payload, "two copies of {id}:{seq} differ");
        arrival.copies += 1;
    }
    arrived
}

/// What was committed and did not arrive.
pub fn missing(committed: &[Reference], seen: &[Seen]) -> Vec<Reference> {
    let arrived = arrived(seen);
    committed.iter().filter(|reference| !arrived.contains_key(*reference)).cloned().collect()
}

/// Checks that all that was committed arrived, each camera's in the order of the commits. Returns what
/// arrived.
///
/// # Panics
/// With the first message that is missing or comes before an earlier one of its camera.
pub fn check(committed: &[Reference], seen: &[Seen]) -> BTreeMap<Reference, Arrival> {
    let arrived = arrived(seen);
    let mut last: BTreeMap<&str, (usize, &Reference)> = BTreeMap::new();
    for reference in committed {
        let Some(arrival) = arrived.get(reference) else {
            panic!("{reference:?} was committed and did not arrive; {} did", arrived.len());
        };
        let before = last.insert(&arrival.camera, (arrival.place, reference));
        if let Some((place, earlier)) = before {
            assert!(place < arrival.place, "{reference:?} came before {earlier:?} of its camera");
        }
    }
    arrived
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_commits_are_understood() {
        let lines = [
            "INFO spotterd::outbox: outbox committed rows=\"7 8\" references=\"01A:1 01B:12\"",
            "INFO spotterd: Watching. cameras=3",
            "INFO spotterd::outbox: outbox committed rows=\"9\" references=\"\"",
        ]
        .map(String::from);
        assert_eq!(committed(&lines), [("01A".to_owned(), 1), ("01B".to_owned(), 12)]);
    }
}
