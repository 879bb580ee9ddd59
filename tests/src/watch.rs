//! A supervised source as a test sees it: wait for what must happen, with a deadline.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use spotterd::{
    clock::{Clock, Stop, SystemClock},
    frame::{CameraId, Frame},
    source::{DecoderChoice, Rules, Setup, Signal, Slot, SourceSpec, Status, Supervisor, Taker},
};

/// Longest time between two looks at what raises no signal.
const LOOK: Duration = Duration::from_millis(20);

/// A running source and its slot.
pub struct Watched {
    /// The source.
    pub supervisor: Supervisor,
    /// Where its frames go.
    pub slot: Arc<Slot<Frame>>,
    /// Real time.
    pub clock: Arc<dyn Clock>,
    signal: Arc<Signal>,
}

impl Watched {
    /// Starts a source with the rules given.
    ///
    /// # Errors
    /// Where the name is none, or there is no thread.
    pub fn start(
        name: &str,
        spec: SourceSpec,
        decoder: DecoderChoice,
        rules: Rules,
    ) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let signal = Signal::new();
        let slot = Slot::new(signal.clone());
        let supervisor = Supervisor::spawn(Setup {
            camera: CameraId::new(name)?,
            spec,
            decoder,
            rules,
            clock: clock.clone(),
            stop: Arc::new(Stop::default()),
            taker: Taker::Newest(slot.clone()),
        })?;
        Ok(Self { supervisor, slot, clock, signal })
    }

    /// Waits for the next frame.
    ///
    /// # Errors
    /// Where none comes within `deadline`, with the source's status.
    pub fn frame(&self, deadline: Duration) -> Result<Frame> {
        self.until(deadline, "a frame", || self.slot.take())
    }

    /// Waits for a status.
    ///
    /// # Errors
    /// Where it does not come within `deadline`, with the status that is.
    pub fn status(
        &self,
        deadline: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Arc<Status>> {
        self.until(deadline, "another status", || {
            Some(self.supervisor.status()).filter(|status| wanted(status))
        })
    }

    /// Waits until the source is down and returns the reason's word.
    ///
    /// # Errors
    /// Where it is not down within `deadline`.
    pub fn down(&self, deadline: Duration) -> Result<&'static str> {
        let status = self.status(deadline, |status| matches!(status, Status::Down { .. }))?;
        match &*status {
            Status::Down { reason, .. } => Ok(reason.word()),
            other => bail!("{other:?}"),
        }
    }

    fn until<T>(
        &self,
        deadline: Duration,
        what: &str,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let end = self.clock.now() + deadline;
        loop {
            let seen = self.signal.seen();
            if let Some(found) = look() {
                return Ok(found);
            }
            if self.clock.now() >= end {
                bail!("{what} does not come in {deadline:?}: {:?}", self.supervisor.status());
            }
            self.signal.wait(seen, LOOK);
        }
    }
}
