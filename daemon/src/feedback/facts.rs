//! What is known of a told sighting while a verdict may come, and as long as there is one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spotter_models::{
    Generation,
    feedback::{Picture, Verdict},
};

use super::Told;
use crate::{
    alert::AlertId,
    erase::Trace,
    frame::CameraId,
    sighting::{Event, Sighting, SightingId},
};

/// Version of the file.
pub(super) const SCHEMA: u32 = 1;

/// `.pending/<sighting>/sighting.json`. A verdict says when its person was seen; here is from when to when, by
/// which an erasure finds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    pub(super) schema: u32,
    /// Its id.
    pub sighting: String,
    /// The alert that it was told for.
    pub alert: String,
    /// The alert's text as understood.
    pub text: String,
    /// The camera.
    pub camera: CameraId,
    /// The track's number within one run of the daemon.
    pub number: u64,
    /// The track, by a name that no other track of this device has.
    pub track: String,
    /// When the track was first looked at.
    #[serde(with = "time")]
    pub first: Timestamp,
    /// When it was seen last, as far as was told.
    #[serde(with = "time")]
    pub last: Timestamp,
    /// When the best look at it was taken.
    #[serde(with = "time")]
    pub seen: Timestamp,
    /// When it was told first.
    #[serde(with = "time")]
    pub told: Timestamp,
    /// The bundle that made it.
    pub bundle: Generation,
    /// Its crops that wait, the best first.
    pub pictures: Vec<Picture>,
    /// Views that are none of them, by cause.
    pub left_out: BTreeMap<String, u32>,
    /// Who is on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Taken>,
}

/// Who is on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// Who said so.
    pub by: String,
    /// When, RFC 3339.
    pub at: String,
}

/// A sighting's track among all of this device: numbers begin again with each start of the daemon.
pub(super) fn track_name(run: &str, number: u64) -> String {
    format!("{run}-{number}")
}

impl Facts {
    /// Of a sighting's first message that arrives.
    pub(super) fn new(told: &Told, run: &str, bundle: Generation, now: Timestamp) -> Self {
        let Sighting { id, alert, camera, track, first_seen, at, .. } = &told.sighting;
        Self {
            schema: SCHEMA,
            sighting: id.to_string(),
            alert: alert.to_string(),
            text: told.text.clone(),
            camera: camera.clone(),
            number: *track,
            track: track_name(run, *track),
            first: *first_seen,
            last: *at,
            seen: *at,
            told: now,
            bundle,
            pictures: Vec::new(),
            left_out: BTreeMap::new(),
            taken: None,
        }
    }

    /// As far as a verdict tells them, where they are lost.
    pub(super) fn of_verdict(verdict: &Verdict) -> Option<Self> {
        let seen: Timestamp = verdict.seen.parse().ok()?;
        let id: Option<SightingId> = verdict.sighting.parse().ok();
        let named = id.and_then(|id| i64::try_from(id.to_bits() >> 80).ok());
        let named = named.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(seen);
        let number = verdict.track.rsplit('-').next().and_then(|number| number.parse().ok());
        AlertId::new(&verdict.alert).ok()?;
        Some(Self {
            schema: SCHEMA,
            sighting: verdict.sighting.clone(),
            alert: verdict.alert.clone(),
            text: verdict.text.clone(),
            camera: CameraId::new(&verdict.camera).ok()?,
            number: number.unwrap_or(u64::MAX),
            track: verdict.track.clone(),
            first: seen.min(named),
            last: seen.max(named),
            seen,
            told: named,
            bundle: verdict.bundle,
            pictures: Vec::new(),
            left_out: BTreeMap::new(),
            taken: None,
        })
    }

    /// Takes a further message.
    pub(super) fn learn(&mut self, told: &Told) {
        let Sighting { event, first_seen, at, .. } = &told.sighting;
        self.first = self.first.min(*first_seen);
        self.last = self.last.max(*at);
        if *event != Event::End {
            self.seen = *at;
        }
        self.left_out =
            told.left_out.iter().map(|(cause, count)| ((*cause).to_owned(), *count)).collect();
    }

    /// Whom it shows.
    pub fn trace(&self) -> Trace {
        Trace {
            camera: self.camera.clone(),
            track: Some(self.number),
            first: self.first,
            last: self.last,
            sighting: self.sighting.parse().ok(),
        }
    }
}

mod time {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::alert::rfc3339;

    pub(super) fn serialize<S: Serializer>(
        at: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(*at))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
