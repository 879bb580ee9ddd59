//! Where an adaptation stands, in a file that the daemon publishes.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{base::write_json, stopwatch};

/// Its name in the folder of the results.
pub(super) const FILE: &str = "status.json";
/// Time between two writes while it trains.
const BETWEEN: Duration = Duration::from_secs(5);

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Reads verdicts and asks the running model about them.
    Reading,
    /// Trains.
    Training,
    /// Judges the candidate.
    Judging,
    /// The candidate passed.
    Passed,
    /// There is none that may serve; the report says why.
    Refused,
    /// Stopped; goes on when it is started again.
    Stopped,
    /// An error ended it.
    Failed,
}

/// The file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the file.
    pub schema: u32,
    /// What is being done.
    pub state: State,
    /// Steps that were trained, and all there will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<[u64; 2]>,
}

/// Writes the file.
#[derive(Clone)]
pub(super) struct Teller {
    path: PathBuf,
    told: Arc<Mutex<Option<Instant>>>,
}

impl Teller {
    pub(super) fn new(out: &Path) -> Self {
        Self { path: out.join(FILE), told: Arc::default() }
    }

    pub(super) fn tell(&self, state: State) {
        self.write(Status { schema: 1, state, steps: None });
    }

    pub(super) fn step(&self, steps: [u64; 2]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= BETWEEN) {
            *told = Some(stopwatch::now());
            self.write(Status { schema: 1, state: State::Training, steps: Some(steps) });
        }
    }

    /// That nobody can be told is no reason not to work.
    fn write(&self, status: Status) {
        let _ = write_json(&self.path, &status);
    }
}
