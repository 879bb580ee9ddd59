//! What the service manager is told: starting, ready, how it goes, alive, reloading, stopping.
//!
//! Without `NOTIFY_SOCKET`, that is when nobody listens, everything here does nothing. A message that
//! cannot be sent is logged once and never stops the daemon: then systemd acts as if it had stalled,
//! which is the worst that may come of it.
//!
//! "Alive" is told only while no thread that must get on is stalled ([`Hearts`]), so that a daemon
//! that sees nothing any more is killed and started anew.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use sd_notify::NotifyState;

use crate::{
    clock::Stop,
    error::{Error, Result},
    health::{Hearts, STALLED_AFTER},
};

/// Sends one message of several assignments; where it goes depends on who made it.
type Send = dyn Fn(&[NotifyState<'_>]) -> io::Result<()> + std::marker::Send + Sync;

/// The way to the service manager; shared by all who have something to tell.
pub struct Notifier {
    send: Box<Send>,
    /// Whether a message got lost already, which is logged once.
    broken: AtomicBool,
    /// The status text that was sent last.
    status: Mutex<String>,
}

/// How the watching goes, in the words of `systemctl status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watching {
    /// Cameras whose frames flow.
    pub streaming: usize,
    /// Cameras of the configuration.
    pub cameras: usize,
    /// Alerts that are armed.
    pub alerts: usize,
    /// How it stands with the broker.
    pub broker: Broker,
}

/// How it stands with the MQTT broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    /// Connected.
    Connected,
    /// Configured, and not connected now.
    Away,
}

impl fmt::Display for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { streaming, cameras, alerts, broker } = self;
        write!(f, "{streaming} of {cameras} cameras streaming, {alerts} alerts armed, {broker}")
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Broker::Connected => "broker connected",
            Broker::Away => "broker away",
        })
    }
}

impl Notifier {
    /// The manager that `NOTIFY_SOCKET` names; nobody where it is not set.
    pub fn from_environment() -> Self {
        Self::new(sd_notify::notify)
    }

    /// Sends through `send`, whatever it does.
    pub fn new(
        send: impl Fn(&[NotifyState<'_>]) -> io::Result<()> + std::marker::Send + Sync + 'static,
    ) -> Self {
        Self { send: Box::new(send), broken: AtomicBool::new(false), status: Mutex::default() }
    }

    /// Something that may take as long as `patience` begins, for example opening a model: the manager
    /// waits that long from now on, and no longer, before it takes the start for failed.
    ///
    /// Tell it before each such step. A thread that repeated it while a step runs would also keep a
    /// start alive that hangs.
    pub fn opening(&self, what: &str, patience: Duration) {
        let micros = u32::try_from(patience.as_micros()).unwrap_or(u32::MAX);
        let status = format!("opening {what}");
        self.tell(&[NotifyState::ExtendTimeoutUsec(micros), NotifyState::Status(&status)]);
        self.remember(&status);
    }

    /// The start is over: models have run, sources were started.
    pub fn ready(&self, watching: &Watching) {
        let status = watching.to_string();
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        self.remember(&status);
    }

    /// Tells how it goes; does nothing where that has not changed, so call it as often as you like.
    pub fn status(&self, watching: &Watching) {
        let status = watching.to_string();
        if self.remember(&status) {
            self.tell(&[NotifyState::Status(&status)]);
        }
    }

    /// A reload begins; it is over when what this returns is dropped, however it went.
    pub fn reloading(&self) -> Reloading<'_> {
        // systemd 253 and later want the time along with it; earlier ones ignore it.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
        Reloading(self)
    }

    /// The daemon is about to end.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if let Err(error) = (self.send)(states)
            && !self.broken.swap(true, Ordering::Relaxed)
        {
            tracing::error!(
                %error,
                "The service manager cannot be told how it goes; it may take this daemon for stalled."
            );
        }
    }

    /// Keeps the status text that was sent last; says whether this one is another.
    fn remember(&self, status: &str) -> bool {
        let mut last = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let new = *last != status;
        if new {
            status.clone_into(&mut last);
        }
        new
    }
}

/// A reload that is under way; dropping it says that it is over.
pub struct Reloading<'a>(&'a Notifier);

impl Drop for Reloading<'_> {
    fn drop(&mut self) {
        self.0.tell(&[NotifyState::Ready]);
    }
}

/// Tells the manager that the daemon is alive, while it is.
pub struct Watchdog {
    notifier: Arc<Notifier>,
    hearts: Arc<Hearts>,
    /// Who was stalled at the last look, so that a change is logged once.
    stalled: Vec<String>,
}

impl Watchdog {
    /// Watches all of `hearts`.
    pub fn new(notifier: Arc<Notifier>, hearts: Arc<Hearts>) -> Self {
        Self { notifier, hearts, stalled: Vec::new() }
    }

    /// Starts a thread that looks until `stop`, twice within each span that the manager allows
    /// between two messages. `None` where `WATCHDOG_USEC` is not set: then nobody waits for them.
    ///
    /// # Errors
    /// [`Error::Internal`] where the system gives no thread.
    pub fn start(mut self, stop: Arc<Stop>) -> Result<Option<JoinHandle<()>>> {
        let Some(span) = sd_notify::watchdog_enabled().filter(|span| !span.is_zero()) else {
            return Ok(None);
        };
        let thread = std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || {
                // The first look is at once: the manager's span began with READY.
                self.look();
                while !stop.wait(span / 2) {
                    self.look();
                }
            })
            .map_err(|error| Error::internal("thread watchdog", error))?;
        Ok(Some(thread))
    }

    /// One look: tells the manager that the daemon is alive, unless a thread is stalled. Says whether
    /// it did.
    pub fn look(&mut self) -> bool {
        let stalled = self.hearts.stalled(STALLED_AFTER);
        if stalled != self.stalled {
            if stalled.is_empty() {
                tracing::warn!(threads = self.stalled.join(", "), "Stalled threads get on again.");
            } else {
                tracing::error!(
                    threads = stalled.join(", "),
                    "Threads are stalled; the service manager will restart this daemon unless they \
                     get on."
                );
            }
            self.stalled = stalled;
        }
        let alive = self.stalled.is_empty();
        if alive {
            self.notifier.tell(&[NotifyState::Watchdog]);
        }
        alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};

    /// A notifier and the messages it sent, one string each.
    fn recorded() -> (Arc<Notifier>, Arc<Mutex<Vec<String>>>) {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let record = sent.clone();
        let notifier = Notifier::new(move |states| {
            let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
            record.lock().unwrap().push(lines.join("\n"));
            Ok(())
        });
        (Arc::new(notifier), sent)
    }

    fn taken(sent: &Mutex<Vec<String>>) -> Vec<String> {
        std::mem::take(&mut *sent.lock().unwrap())
    }

    const WATCHING: Watching =
        Watching { streaming: 3, cameras: 4, alerts: 12, broker: Broker::Connected };

    #[test]
    fn a_life_is_told_in_the_words_of_the_protocol() {
        let (notifier, sent) = recorded();
        notifier.opening("detector", Duration::from_secs(120));
        assert_eq!(taken(&sent), ["EXTEND_TIMEOUT_USEC=120000000\nSTATUS=opening detector"]);
        notifier.ready(&WATCHING);
        let status = "3 of 4 cameras streaming, 12 alerts armed, broker connected";
        assert_eq!(taken(&sent), [format!("READY=1\nSTATUS={status}")]);
        notifier.stopping();
        assert_eq!(taken(&sent), ["STOPPING=1\nSTATUS=stopping"]);
    }

    #[test]
    fn a_status_is_told_once_until_it_changes() {
        let (notifier, sent) = recorded();
        notifier.ready(&WATCHING);
        taken(&sent);
        notifier.status(&WATCHING);
        assert!(taken(&sent).is_empty());
        let away = Watching { broker: Broker::Away, ..WATCHING };
        notifier.status(&away);
        notifier.status(&away);
        let expected = "STATUS=3 of 4 cameras streaming, 12 alerts armed, broker away";
        assert_eq!(taken(&sent), [expected]);
    }

    #[test]
    fn a_reload_is_over_however_it_went() {
        let (notifier, sent) = recorded();
        let refused = || -> io::Result<()> {
            let _reloading = notifier.reloading();
            Err(io::ErrorKind::InvalidData.into())
        };
        refused().unwrap_err();
        let told = taken(&sent);
        let micros = told[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        assert_eq!(told[1..], ["READY=1"]);
    }

    #[test]
    fn the_watchdog_is_fed_only_while_every_thread_gets_on() {
        let (notifier, sent) = recorded();
        let clock = Arc::new(ManualClock::default());
        let shared: Arc<dyn Clock> = clock.clone();
        let hearts = Arc::new(Hearts::new(shared));
        let (idle, frozen) = (hearts.register("idle"), hearts.register("frozen"));
        let mut watchdog = Watchdog::new(notifier, hearts);
        assert!(watchdog.look());
        assert_eq!(taken(&sent), ["WATCHDOG=1"]);
        clock.advance(STALLED_AFTER);
        idle.beat();
        assert!(!watchdog.look());
        assert!(taken(&sent).is_empty());
        frozen.beat();
        assert!(watchdog.look());
        assert_eq!(taken(&sent), ["WATCHDOG=1"]);
    }

    #[test]
    fn a_manager_that_does_not_listen_stops_nothing() {
        let notifier = Notifier::new(|_| Err(io::ErrorKind::ConnectionRefused.into()));
        notifier.ready(&WATCHING);
        drop(notifier.reloading());
        notifier.stopping();
    }
}
