//! What staff say of sightings, and the crops that it is said of.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// Verdicts of staff with pictures, from which `spotter-trainer adapt` learns. Personal data: it stays on this
/// box and is deleted by its age.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Feedback {
    /// Whether crops of told sightings wait for a verdict, and verdicts are kept.
    pub keep: bool,
    /// Days after which a verdict is deleted with its pictures.
    pub retention_days: NonZeroU32,
    /// Hours that the crops of a sighting wait for a verdict.
    pub pending_hours: NonZeroU32,
    /// Most bytes of all pictures; the oldest go first, those that wait before those of verdicts.
    pub max_bytes: u64,
}

impl Default for Feedback {
    fn default() -> Self {
        Self {
            keep: true,
            retention_days: NonZeroU32::MIN.saturating_add(29),
            pending_hours: NonZeroU32::MIN.saturating_add(71),
            max_bytes: 1 << 30,
        }
    }
}
