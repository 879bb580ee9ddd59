//! Time. Every timeout runs on monotonic time from an injected [`Clock`], so that retries and stalls
//! are tested without sleeping; wall time only shows and schedules.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// A moment of monotonic time: the span since the clock was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub Duration);

impl Mono {
    /// Span since `earlier`, zero where it is not earlier.
    pub fn since(self, earlier: Mono) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, span: Duration) -> Mono {
        Mono(self.0.saturating_add(span))
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Monotonic time: for every timeout and every measurement.
    fn now(&self) -> Mono;
    /// Wall time: only to show and to schedule.
    fn wall(&self) -> SystemTime;
}

/// The system's clocks.
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// Starts at zero now.
    #[expect(clippy::disallowed_methods, reason = "the one place where real time enters")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Mono {
        Mono(self.start.elapsed())
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where real time enters")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that tests and replays move by hand. Starts at zero and at the Unix epoch.
#[derive(Default)]
pub struct ManualClock {
    nanos: AtomicU64,
}

impl ManualClock {
    /// Moves time forward.
    pub fn advance(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Mono {
        Mono(Duration::from_nanos(self.nanos.load(Ordering::SeqCst)))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.now().0
    }
}

/// A request to stop that can be waited for: sleeping threads wake at once.
#[derive(Default)]
pub struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Asks everyone to stop.
    pub fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Whether somebody asked.
    pub fn asked(&self) -> bool {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that asks when it is dropped: what a thread holds until it is done.
    pub fn ask_on_drop(self: &Arc<Self>) -> AskOnDrop {
        AskOnDrop(self.clone())
    }

    /// Sleeps for `span`, or less where somebody asks to stop; says whether somebody did.
    pub fn wait(&self, span: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, _) = self
            .changed
            .wait_timeout_while(asked, span, |asked| !*asked)
            .unwrap_or_else(PoisonError::into_inner);
        *asked
    }
}

/// Asks when it is dropped, on a panic too.
pub struct AskOnDrop(Arc<Stop>);

impl Drop for AskOnDrop {
    fn drop(&mut self) {
        self.0.ask();
    }
}
