//! The link's thread: connects, serves, waits, connects again, until it is stopped.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use rand::{SeedableRng, rngs::SmallRng};
use tokio::sync::{Notify, watch};

use super::{
    backoff::Backoff,
    connection::{self, End, Parts},
    handler::Handler,
    settings::Settings,
    state::{Counters, Down, LinkState, Trouble},
};
use crate::{
    clock::{Clock, Mono},
    error::{Error, Result},
    outbox::Outbox,
};

/// A connection that lasted this long was a good one: the waits start small again.
const HELD_AFTER: Duration = Duration::from_secs(30);
/// Connections accepted and soon closed, in a row, from which on another client with our id is the
/// likely cause, and trying again is what keeps the two taking each other's place. Not every broker
/// says that the session was taken over: mosquitto 2.0.11 only closes.
const SHORT_IN_A_ROW: u32 = 3;

/// The link to the broker, on a thread of its own. Stops when it is dropped.
pub struct Link {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<LinkState>,
    counters: Arc<Counters>,
    announce: Notify,
}

impl Shared {
    fn set(&self, state: LinkState) {
        let is_up = matches!(state, LinkState::Connected { .. });
        metrics::gauge!("spotter_mqtt_connected").set(f64::from(u8::from(is_up)));
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Link {
    /// Starts the thread. A broker that is not there is no error: the link tries for ever, and
    /// [`Link::state`] says why it is down.
    ///
    /// # Errors
    /// What [`Settings::check`] finds; [`Error::Internal`] where the system gives no thread.
    pub fn start(
        settings: Settings,
        outbox: Arc<Outbox>,
        clock: Arc<dyn Clock>,
        handler: Box<dyn Handler>,
    ) -> Result<Self> {
        settings.check()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(LinkState::Connecting),
            counters: Arc::default(),
            announce: Notify::new(),
        });
        let (stop, asked) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::internal("mqtt runtime", error))?;
        let thread_shared = Arc::clone(&shared);
        let work = move || {
            let mut keeper = Keeper { settings, outbox, clock, handler, shared: thread_shared };
            runtime.block_on(keeper.keep(asked));
            // A name that is just being looked up may take long: nobody waits for it.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new()
            .name("mqtt".to_owned())
            .spawn(work)
            .map_err(|error| Error::internal("mqtt thread", error))?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// How the link is now.
    pub fn state(&self) -> LinkState {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it did since it was started.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Publishes the device's status again, as what it says has changed.
    pub fn announce(&self) {
        self.shared.announce.notify_one();
    }

    /// Sends what waits, for a second at most, says `stopped` and takes leave: at most about three seconds.
    /// What is not acknowledged by then stays in the outbox.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("The link's thread ended in a panic.");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the thread owns.
struct Keeper {
    settings: Settings,
    outbox: Arc<Outbox>,
    clock: Arc<dyn Clock>,
    handler: Box<dyn Handler>,
    shared: Arc<Shared>,
}

impl Keeper {
    async fn keep(&mut self, mut stop: watch::Receiver<bool>) {
        let Settings { backoff_base, backoff_cap, backoff_hopeless, .. } = self.settings;
        let rng = SmallRng::from_os_rng();
        let mut backoff = Backoff::new(backoff_base, backoff_cap, backoff_hopeless, rng);
        let mut down_since = self.clock.now();
        let mut short_in_a_row = 0;
        let mut knows_retained_set = false;
        loop {
            let mut parts = Parts {
                settings: &self.settings,
                outbox: &self.outbox,
                counters: &self.shared.counters,
                handler: self.handler.as_mut(),
                stop: stop.clone(),
                announce: &self.shared.announce,
                knows_retained_set,
            };
            let mut up_since = None;
            let connected = || {
                let since = self.clock.now();
                up_since = Some(since);
                tracing::info!(host = self.settings.host, "Connected to the broker.");
                self.shared.set(LinkState::Connected { since });
            };
            let end = connection::run(&mut parts, connected).await;
            knows_retained_set = parts.knows_retained_set;
            let End::Down(why) = end else { break };
            let now = self.clock.now();
            if let Some(since) = up_since {
                down_since = now;
                let has_held = now.since(since) >= HELD_AFTER;
                short_in_a_row = if has_held { 0 } else { short_in_a_row + 1 };
                if has_held {
                    backoff.held();
                }
            }
            let why = self.judge(why, short_in_a_row);
            let retry_in = match why.trouble {
                Trouble::TakenOver if short_in_a_row >= SHORT_IN_A_ROW => backoff.hopeless(),
                _ => backoff.failed(),
            };
            self.report(down_since, why, retry_in);
            tokio::select! {
                () = tokio::time::sleep(retry_in) => {}
                () = connection::asked(&mut stop) => break,
            }
        }
        self.shared.set(LinkState::Stopped);
        tracing::info!("Left the broker.");
    }

    /// Tells a takeover by its pattern where the broker does not say so.
    fn judge(&self, why: Down, short_in_a_row: u32) -> Down {
        let why = match why.trouble {
            Trouble::Closed if short_in_a_row >= SHORT_IN_A_ROW => Down::new(
                Trouble::TakenOver,
                format!(
                    "the broker accepts and soon closes the connection, again and again: does another \
                     client use the id {}?",
                    self.settings.topics.client_id()
                ),
            ),
            _ => why,
        };
        if why.trouble == Trouble::TakenOver {
            self.shared.counters.count_takeover(1);
        }
        why
    }

    /// Makes the trouble known: once as it is new, then quietly.
    fn report(&self, since: Mono, why: Down, retry_in: Duration) {
        let (trouble, host) = (why.trouble.as_str(), &self.settings.host);
        metrics::counter!("spotter_mqtt_disconnects_total", "reason" => trouble).increment(1);
        let before = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_known = matches!(before, LinkState::Down { why: known, .. } if known == why);
        match (why.trouble, is_known) {
            (_, true) => tracing::debug!(trouble, %why, host, ?retry_in, "Broker still away."),
            (Trouble::Unreachable | Trouble::Closed, false) => {
                tracing::warn!(trouble, %why, host, ?retry_in, "Broker away.");
            }
            (_, false) => tracing::error!(trouble, %why, host, ?retry_in, "Broker not to be used."),
        }
        self.shared.set(LinkState::Down { since, why, retry_in });
    }
}
