//! A camera as the analysis sees it: its newest frame, when it is due, and what is followed in it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    clock::Mono,
    frame::{CameraId, Frame},
    mask::Mask,
    metrics::{self, Stage},
    source::{Group, Slot},
    track::TrackIds,
    watch::Watch,
};

/// A camera as the analysis sees it.
pub struct Lane {
    pub(super) camera: CameraId,
    pub(super) slot: Arc<Slot<Frame>>,
    /// The camera's large stream, where the frames are those of a small one.
    pub(super) large: Option<Arc<Group>>,
    pub(super) interval: Duration,
    /// When the next look is due, in nanoseconds of monotonic time.
    due: AtomicU64,
    /// Whether a worker has it.
    claimed: AtomicBool,
    pub(super) state: Mutex<LaneState>,
}

pub(super) struct LaneState {
    pub(super) watch: Watch,
    /// Whether the camera is not watched any more: a frame that a worker still has is not looked at,
    /// or what it shows would be told of a camera that is gone, and never ended.
    pub(super) is_closed: bool,
    /// The last frame looked at, and when it came.
    last: Option<(u64, Mono)>,
    /// What nobody may look at.
    pub(super) mask: Option<Arc<Mask>>,
}

impl Lane {
    /// A camera whose frames come through `slot` and are looked at `rate_hz` times a second.
    pub fn new(camera: CameraId, ids: Arc<TrackIds>, slot: Arc<Slot<Frame>>, rate_hz: f64) -> Self {
        let watch = Watch::new(camera.clone(), ids);
        Self {
            camera,
            slot,
            large: None,
            interval: Duration::from_secs_f64(1.0 / rate_hz),
            due: AtomicU64::new(0),
            claimed: AtomicBool::new(false),
            state: Mutex::new(LaneState { watch, is_closed: false, last: None, mask: None }),
        }
    }

    /// Crops come from this stream of the same camera.
    pub fn with_large(self, large: Option<Arc<Group>>) -> Self {
        Self { large, ..self }
    }

    /// Looks at every frame that is due, whether or not anything moves.
    pub fn with_every_look(self) -> Self {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.watch = state.watch.with_every_look();
        Self { state: Mutex::new(state), ..self }
    }

    /// Nobody looks behind these masks from now on; waits for a look that is under way.
    pub fn use_mask(&self, mask: Option<Arc<Mask>>) {
        self.state().mask = mask;
    }

    /// Its camera.
    pub fn camera(&self) -> &CameraId {
        &self.camera
    }

    pub(super) fn due(&self) -> Mono {
        Mono(Duration::from_nanos(self.due.load(Ordering::Acquire)))
    }

    pub(super) fn set_due(&self, due: Mono) {
        let nanos = u64::try_from(due.0.as_nanos()).unwrap_or(u64::MAX);
        self.due.store(nanos, Ordering::Release);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A camera that one worker has, until this is dropped.
pub(super) struct Claim(pub(super) Arc<Lane>);

impl Claim {
    pub(super) fn try_new(lane: &Arc<Lane>) -> Option<Self> {
        let claimed = lane.claimed.swap(true, Ordering::AcqRel);
        (!claimed).then(|| Self(lane.clone()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.claimed.store(false, Ordering::Release);
    }
}

/// Counts the frames between two looks. They were never meant to be looked at, but for those that had their turn: a look
/// that comes so late that others were due by then has taken theirs.
pub(super) fn count_skipped(lane: &Lane, state: &mut LaneState, frame: &Frame, due: Mono) {
    let last = state.last.replace((frame.seq, frame.decoded_at));
    let Some((seq, at)) = last else { return };
    let skipped = frame.seq.saturating_sub(seq).saturating_sub(1);
    let late = frame.decoded_at.since(due.max(at + lane.interval));
    let missed = missed_looks(late, lane.interval).min(skipped);
    metrics::dropped(Stage::Decode, &lane.camera, "rate", skipped - missed);
    metrics::dropped(Stage::Decode, &lane.camera, "newer_frame", missed);
}

/// How many looks were due before one that comes so late, after the one that it is.
fn missed_looks(late: Duration, interval: Duration) -> u64 {
    (late.as_secs_f64() / interval.as_secs_f64()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_is_late_takes_the_turn_of_those_that_were_due_meanwhile() {
        let ms = Duration::from_millis;
        for (late, missed) in [(0, 0), (41, 0), (199, 0), (201, 1), (650, 3), (1_000, 5)] {
            assert_eq!(missed_looks(ms(late), ms(200)), missed, "{late} ms");
        }
    }
}
