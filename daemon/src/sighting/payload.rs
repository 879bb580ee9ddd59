//! The payload of `…/{device}/sightings`.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::SightingId;
use crate::{
    alert::{AlertId, rfc3339},
    frame::CameraId,
};

/// What happened to a (alert, track) pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The track fits for the first time.
    New,
    /// A later view fits better.
    Update,
    /// The track is gone, or the alert.
    End,
}

/// A part of the text and how well it fits alone: says why, not whether.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phrase {
    /// The part.
    pub text: String,
    /// Its cosine with the track.
    pub score: f32,
}

/// A message about a person in view who fits an alert. Each (`id`, `seq`) is made once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sighting {
    /// The version of the contract: 1.
    pub schema: u32,
    /// One for each (alert, track).
    pub id: SightingId,
    /// What happened.
    pub event: Event,
    /// Counts the messages of this id, from 1, without holes.
    pub seq: u64,
    /// Which alert.
    pub alert: AlertId,
    /// Which revision of it; `null` for a plain text.
    pub alert_revision: Option<u64>,
    /// Where.
    pub camera: CameraId,
    /// Who, within this run of the camera.
    pub track: u64,
    /// When the view was taken, for `end` when the track was last looked at; UTC.
    #[serde(serialize_with = "time")]
    pub at: Timestamp,
    /// When the track was first looked at; UTC.
    #[serde(serialize_with = "time")]
    pub first_seen: Timestamp,
    /// Cosine of the text and the looks at the track, -1 to 1; for `end` the best.
    pub score: f32,
    /// What the score had to reach.
    pub threshold: f32,
    /// How likely somebody else scores as much; `null` where the bundle is not calibrated.
    pub false_alarm_probability: Option<f64>,
    /// How many crops went into the score.
    pub crops: u32,
    /// The person in the picture: left, top, width, height in shares of its sides.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
    /// Why it fits.
    pub phrases: Vec<Phrase>,
    /// The bundle all scores come from.
    pub bundle: String,
    /// Tracks that fitted this alert and were held back, since the last message about it.
    pub suppressed: u64,
    /// Whether the broker was away when this was made; the outbox sets it.
    pub late: bool,
    /// Whether the box believes its clock.
    pub clock_synced: bool,
}

impl Sighting {
    /// The bytes to publish.
    pub fn to_json(&self) -> Vec<u8> {
        // Only a map with keys that are no texts or a failing writer could fail, and there is
        // neither.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn time<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}
