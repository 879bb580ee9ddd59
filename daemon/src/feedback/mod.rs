//! FEEDBACK: what staff say of sightings, kept with the pictures of whom they say it.
//!
//! ```text
//! views of a track ─ gate ─▶ album ─ a sighting is told ─▶ collector's thread ─▶ shelf: .pending/<sighting>/
//! …/feedback ─▶ inbox ─▶ intake ─ a verdict ─▶ shelf: <sighting>/verdict.json, 0.jpg …
//! ```
//! The verdict comes minutes or hours after the person is gone, so the best crops of a told track wait for it,
//! bounded by age, number and bytes. Verdicts are folders of [`spotter_models::feedback`], which
//! `spotter-trainer adapt` reads; what waits lies behind a name with a dot, which it passes over.
//! Nothing here holds up a sighting: crops that the disk does not take are left out and counted.

mod album;
mod collector;
mod facts;
mod gate;
mod intake;
mod shelf;
mod summary;
mod upkeep;
mod wish;

use std::time::Duration;

pub use album::{Album, Shot};
pub use collector::{Collector, Flusher, Gatherer, Told};
pub use facts::{Facts, Taken};
pub use gate::{Cause, refused};
pub use intake::Intake;
pub use shelf::{Erased, Outcome, Shelf};
pub use summary::{Listed, Summary, Verdicts};
pub use wish::{Said, Wish};

use crate::config;

/// Name of the folder in the state folder.
pub const FOLDER: &str = "feedback";
/// Most sightings whose crops wait for a verdict.
const MAX_PENDING: usize = 4096;
/// Most verdicts.
const MAX_VERDICTS: usize = 10_000;
/// Bytes of the disk that pictures leave to alerts and sightings.
const RESERVE_BYTES: u64 = 128 << 20;

/// What may be kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whether anything new is kept.
    pub keep: bool,
    /// How long a verdict is kept.
    pub retention: Duration,
    /// How long crops wait for one.
    pub pending: Duration,
    /// Most bytes of pictures, verdicts' and waiting ones together.
    pub max_bytes: u64,
    /// Most verdicts.
    pub max_verdicts: usize,
    /// Most sightings whose crops wait.
    pub max_pending: usize,
}

impl Limits {
    /// As a configuration has it.
    pub fn of(config: &config::Feedback) -> Self {
        let hours = |hours: u32| Duration::from_secs(3600 * u64::from(hours));
        Self {
            keep: config.keep,
            retention: hours(config.retention_days.get()) * 24,
            pending: hours(config.pending_hours.get()),
            max_bytes: config.max_bytes,
            max_verdicts: MAX_VERDICTS,
            max_pending: MAX_PENDING,
        }
    }
}

/// Crops that are in no verdict, by cause.
fn left_out(cause: &'static str, count: u64) {
    if count > 0 {
        metrics::counter!("spotter_feedback_left_out_total", "reason" => cause).increment(count);
    }
}

/// What went although nobody erased it.
fn dropped(kind: &'static str, cause: &'static str) {
    metrics::counter!("spotter_feedback_dropped_total", "kind" => kind, "reason" => cause)
        .increment(1);
}
