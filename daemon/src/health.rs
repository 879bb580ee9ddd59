//! Whether the daemon still works: a first run of every model, and the heartbeats of its threads.
//!
//! A thread beats when it gets on, never by a timer of its own: a beat from elsewhere would say that
//! the process lives, which nobody asked. An idle thread gets on too, because it wakes every half
//! second to look for work. [`crate::notify`] asks who is stalled before it tells systemd that all is
//! well.
//!
//! Sources have no heart. They are supervised one by one ([`crate::source`]), and a restart of the
//! whole daemon because one camera hangs would make that camera's trouble everybody's.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use spotter_models::Rgb;

use crate::{
    clock::{Clock, Mono},
    detect::Detector,
    embed::Embedder,
    error::Result,
};

/// A thread without a beat for this long is stalled. A look at a frame takes well below a second on
/// the slowest supported board, a commit to a worn SD card a few; half of the unit's `WatchdogSec`.
pub const STALLED_AFTER: Duration = Duration::from_secs(15);

/// Side in pixels of the grey picture that detectors run on first; they scale it themselves.
const FIRST_FRAME_PX: u32 = 64;
/// Width and height in pixels of the grey crop that the vision tower runs on first.
const FIRST_CROP_PX: (u32, u32) = (32, 96);
/// Every channel of those two.
const GREY: u8 = 128;

/// The hearts of all threads that must not stall.
pub struct Hearts {
    clock: Arc<dyn Clock>,
    beats: Arc<Mutex<Vec<Arc<Beat>>>>,
}

/// What a heart and its registry share.
struct Beat {
    name: String,
    /// [`Clock::now`] in nanoseconds at the last beat: enough for 584 years.
    at: AtomicU64,
}

impl Hearts {
    /// No hearts yet; time comes from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, beats: Arc::default() }
    }

    /// Registers a thread by the name that a person is told when it stalls. It counts as beating now
    /// and is forgotten when the heart is dropped.
    pub fn register(&self, name: impl Into<String>) -> Heart {
        let beat = Arc::new(Beat { name: name.into(), at: AtomicU64::new(0) });
        let heart =
            Heart { clock: self.clock.clone(), beat: beat.clone(), registry: self.beats.clone() };
        heart.beat();
        lock(&self.beats).push(beat);
        heart
    }

    /// The names of those whose last beat is at least `limit` ago, in order of registration.
    pub fn stalled(&self, limit: Duration) -> Vec<String> {
        // Taken before the beats are read: a beat meanwhile is in the future and counts as none ago.
        let now = self.clock.now();
        lock(&self.beats)
            .iter()
            .filter(|beat| now.since(beat.last()) >= limit)
            .map(|beat| beat.name.clone())
            .collect()
    }
}

impl Beat {
    fn last(&self) -> Mono {
        Mono(Duration::from_nanos(self.at.load(Ordering::Relaxed)))
    }
}

/// A thread's own end of its heartbeat. Dropped where the thread ends as it should; one that ends by
/// a panic stays registered, and so counts as stalled.
pub struct Heart {
    clock: Arc<dyn Clock>,
    beat: Arc<Beat>,
    registry: Arc<Mutex<Vec<Arc<Beat>>>>,
}

impl Heart {
    /// Says that the thread got on. Costs a look at the clock and one store.
    pub fn beat(&self) {
        let nanos = u64::try_from(self.clock.now().0.as_nanos()).unwrap_or(u64::MAX);
        self.beat.at.store(nanos, Ordering::Relaxed);
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            lock(&self.registry).retain(|beat| !Arc::ptr_eq(beat, &self.beat));
        }
    }
}

fn lock(beats: &Mutex<Vec<Arc<Beat>>>) -> MutexGuard<'_, Vec<Arc<Beat>>> {
    beats.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs each detector and the vision tower once, on grey.
///
/// A model that opens may still not run, and the first run is the long one: memory is taken,
/// TensorRT builds what it put off. The daemon is ready only after it. Whether the results are right
/// is what a bundle's probe proves, not this.
///
/// # Errors
/// What the model that does not run says.
pub fn first_run(detectors: &mut [Box<dyn Detector>], embedder: &mut Embedder) -> Result<()> {
    let frame = grey(FIRST_FRAME_PX, FIRST_FRAME_PX)?;
    for detector in detectors {
        detector.detect(&frame, FIRST_FRAME_PX, FIRST_FRAME_PX)?;
    }
    run_once(embedder)
}

/// Runs a vision tower once, on grey.
///
/// # Errors
/// As [`first_run`].
pub fn run_once(embedder: &mut Embedder) -> Result<()> {
    let (width, height) = FIRST_CROP_PX;
    embedder.embed(grey(width, height)?.view())?;
    Ok(())
}

/// A picture of one even grey.
///
/// # Errors
/// Where a side is 0.
pub fn grey(width: u32, height: u32) -> Result<Rgb> {
    Ok(Rgb::new(width, height, vec![GREY; width as usize * height as usize * 3])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const LIMIT: Duration = Duration::from_secs(10);
    const STEP: Duration = Duration::from_secs(6);

    #[test]
    fn who_does_not_beat_is_named_and_may_come_back() {
        let clock = Arc::new(ManualClock::default());
        let hearts = Hearts::new(clock.clone());
        let (one, other) = (hearts.register("one"), hearts.register("other"));
        clock.advance(STEP);
        assert!(hearts.stalled(LIMIT).is_empty());
        one.beat();
        clock.advance(STEP);
        assert_eq!(hearts.stalled(LIMIT), ["other"]);
        clock.advance(STEP);
        assert_eq!(hearts.stalled(LIMIT), ["one", "other"]);
        other.beat();
        assert_eq!(hearts.stalled(LIMIT), ["one"]);
    }

    #[test]
    fn the_limit_itself_is_too_long() {
        let clock = Arc::new(ManualClock::default());
        let hearts = Hearts::new(clock.clone());
        let _heart = hearts.register("one");
        clock.advance(LIMIT - Duration::from_nanos(1));
        assert!(hearts.stalled(LIMIT).is_empty());
        clock.advance(Duration::from_nanos(1));
        assert_eq!(hearts.stalled(LIMIT), ["one"]);
    }

    #[test]
    fn a_thread_that_ended_is_forgotten_unless_it_ended_by_a_panic() {
        let clock = Arc::new(ManualClock::default());
        let hearts = Hearts::new(clock.clone());
        let (sound, broken) = (hearts.register("sound"), hearts.register("broken"));
        std::thread::spawn(move || drop(sound)).join().unwrap();
        let work = std::thread::spawn(move || {
            let _held = broken;
            panic!("a bug");
        });
        work.join().unwrap_err();
        clock.advance(LIMIT);
        assert_eq!(hearts.stalled(LIMIT), ["broken"]);
    }

    #[test]
    fn a_heart_registered_late_does_not_begin_stalled() {
        let clock = Arc::new(ManualClock::default());
        clock.advance(LIMIT * 9);
        let hearts = Hearts::new(clock);
        let _heart = hearts.register("late");
        assert!(hearts.stalled(LIMIT).is_empty());
    }
}
