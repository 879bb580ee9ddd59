//! Messages that tell of somebody: what of them goes with whom.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;

use super::{Meaning, Trace};
use crate::{
    frame::CameraId,
    outbox::{Class, Kept, Message, RowId},
    sighting::{Sighting, SightingId},
};

/// What an event of a sighting tells.
#[derive(Deserialize)]
struct Told {
    id: String,
    event: String,
    camera: CameraId,
    track: u64,
    first_seen: String,
    at: String,
}

impl Told {
    fn trace(&self) -> Option<Trace> {
        Some(Trace {
            camera: self.camera.clone(),
            track: Some(self.track),
            first: self.first_seen.parse().ok()?,
            last: self.at.parse().ok()?,
            sighting: Some(self.id.parse().ok()?),
        })
    }
}

/// What a sighting tells.
pub fn of_sighting(sighting: &Sighting) -> Trace {
    Trace {
        camera: sighting.camera.clone(),
        track: Some(sighting.track),
        first: sighting.first_seen,
        last: sighting.at,
        sighting: Some(sighting.id),
    }
}

/// The sightings that these messages tell of.
pub fn told(kept: &[Kept]) -> Vec<Trace> {
    kept.iter().filter_map(event).filter_map(|told| told.trace()).collect()
}

fn event(kept: &Kept) -> Option<Told> {
    (kept.class == Class::Event).then(|| serde_json::from_slice(&kept.payload).ok())?
}

/// A message as if it were in the outbox since `now`.
pub fn of_message(message: &Message, now: Timestamp) -> Kept {
    let has_payload = message.class == Class::Event;
    Kept {
        row: RowId::START,
        class: message.class,
        topic: message.topic.clone(),
        camera: message.camera.clone(),
        committed: now,
        has_begun: false,
        header: message.header.clone(),
        payload: if has_payload { message.payload.clone() } else { Vec::new() },
    }
}

/// Those of some messages, in their order, that go.
///
/// Pictures of who is meant go, and what is told of them: who was erased must not be reported the next
/// morning. Where the beginning of a sighting may have been sent, its end still is, so that nobody waits
/// for it for ever. Answers to searches and their pictures go whoever is meant: they list persons, and
/// who asked may ask again.
pub fn doomed<'a>(kept: &'a [Kept], meaning: &Meaning) -> Vec<&'a Kept> {
    let mut traces: BTreeMap<SightingId, Trace> = BTreeMap::new();
    let mut unsent: BTreeSet<SightingId> = BTreeSet::new();
    for (message, told) in kept.iter().filter_map(|kept| Some((kept, event(kept)?))) {
        let Some((trace, id)) = told.trace().and_then(|t| t.sighting.map(|id| (t, id))) else {
            continue;
        };
        if told.event == "new" && !message.has_begun {
            unsent.insert(id);
        }
        let known = traces.entry(id).or_insert_with(|| trace.clone());
        known.last = known.last.max(trace.last);
    }
    let goes = |kept: &&Kept| match event(kept) {
        Some(told) => told.trace().is_some_and(|trace| {
            let is_sent = trace.sighting.is_none_or(|id| !unsent.contains(&id));
            meaning.means(&trace) && !(told.event == "end" && is_sent)
        }),
        None => match shown(kept) {
            Some(id) => picture(kept, id, traces.get(&id)).is_some_and(|t| meaning.means(&t)),
            None => kept.topic.contains("/replies/"),
        },
    };
    kept.iter().filter(goes).collect()
}

/// The sighting that a picture shows.
fn shown(kept: &Kept) -> Option<SightingId> {
    let mut properties = kept.header.properties.iter();
    let (_, id) = properties.find(|(name, _)| name == "sighting")?;
    id.parse().ok()
}

/// Whom a picture shows: between the moment that its sighting was named after and its own.
fn picture(kept: &Kept, id: SightingId, told: Option<&Trace>) -> Option<Trace> {
    let named = i64::try_from(id.to_bits() >> 80).ok()?;
    let named = Timestamp::from_millisecond(named).ok()?;
    let first = told.map_or(named, |told| told.first.min(named));
    Some(Trace {
        camera: kept.camera.clone()?,
        track: told.and_then(|told| told.track),
        first,
        last: kept.committed.max(first),
        sighting: Some(id),
    })
}
