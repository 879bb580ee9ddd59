//! A broker of our own, for the demo and for a box that stands alone. On this machine only: it has
//! no TLS, no users and keeps nothing over a restart. What it lost, the link makes up for as after
//! any broker that lost its sessions, and the desk gives back the alerts that it holds.
//!
//! It is a process of its own. The library ends in a panic where a client does what it does not
//! expect, for example where one comes again whose id it had refused, and on some broken packets;
//! its router cannot be stopped from within. As a process it takes nothing down with it, is noticed
//! at once and begins anew with all its memory returned; sightings wait in the outbox meanwhile.

mod serve;

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    clock::{Clock, Stop},
    error::{Error, Result},
};

pub use serve::serve;

/// The running program itself, also after another one was installed in its place.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// Time for the listeners to come up.
const UP_WITHIN: Duration = Duration::from_secs(5);
/// Time for a port to come free: the broker of a daemon that was killed ends right after it.
const FREE_WITHIN: Duration = Duration::from_secs(2);
/// Pause between looks whether it is up, and whether it still runs.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest pause before it is started again; the first is a look, each is twice the one before.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A broker that ran this long did well: pauses begin anew.
const HELD_AFTER: Duration = Duration::from_secs(30);

/// Ports to listen on, on the loopback address. 0 takes a free one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// For clients of MQTT 5, as the daemon is one.
    pub v5: u16,
    /// For clients of MQTT 3.1.1.
    pub v4: u16,
}

/// The broker, started again whenever it ends. It ends when this is dropped, and with this process.
pub struct Embedded {
    ports: Ports,
    stop: Arc<Stop>,
    /// Set where it is to be ended and started again.
    is_hung: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts it and waits until it can be connected to. `program` is `spotterd`, mostly
    /// [`THIS_PROGRAM`].
    ///
    /// # Errors
    /// [`Error::Config`] where a port is taken; [`Error::Io`] where the program cannot be started;
    /// [`Error::Internal`] where it does not come up.
    pub fn start(program: &Path, ports: Ports, clock: &Arc<dyn Clock>) -> Result<Self> {
        // Both are held until both are known, or a free one might be given out twice.
        let (v5, v4) = (reserve(ports.v5, clock)?, reserve(ports.v4, clock)?);
        let port = |listener: &TcpListener| {
            listener.local_addr().map(|address| address.port()).map_err(Error::io("broker"))
        };
        let ports = Ports { v5: port(&v5)?, v4: port(&v4)? };
        drop((v5, v4));
        let stop = Arc::new(Stop::default());
        let is_hung = Arc::new(AtomicBool::new(false));
        let mut keeper = Keeper {
            program: program.to_path_buf(),
            ports,
            clock: clock.clone(),
            stop: stop.clone(),
            is_hung: is_hung.clone(),
        };
        let mut child = keeper.spawn()?;
        if let Err(error) = keeper.await_up(&mut child) {
            end(&mut child);
            return Err(error);
        }
        let keeper = std::thread::Builder::new()
            .name("broker".to_owned())
            .spawn(move || keeper.keep(child))
            .map_err(|error| Error::internal("broker thread", error))?;
        tracing::info!(mqtt5 = ports.v5, mqtt3 = ports.v4, "Embedded broker listens on loopback.");
        Ok(Self { ports, stop, is_hung, keeper: Some(keeper) })
    }

    /// Ends it and starts it again: it runs, and does not answer.
    pub fn restart(&self) {
        self.is_hung.store(true, Ordering::Release);
    }

    /// The ports that it listens on.
    pub fn ports(&self) -> Ports {
        self.ports
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.ask();
        if self.keeper.take().is_some_and(|keeper| keeper.join().is_err()) {
            tracing::error!("The embedded broker's thread ended by a bug.");
        }
    }
}

/// Holds a port, so that one that is taken is told apart from a broker that does not start.
fn reserve(port: u16, clock: &Arc<dyn Clock>) -> Result<TcpListener> {
    let until = clock.now() + FREE_WITHIN;
    let pause = Stop::default();
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if clock.now() >= until => {
                let reason = format!(
                    "cannot listen on port {port} of this machine: {error}; is spotterd running \
                     twice, or another broker? Set mqtt.embedded_port to a free one"
                );
                return Err(Error::config("embedded broker", reason));
            }
            Err(_) => pause.wait(LOOK_EVERY),
        };
    }
}

/// Ends it, whatever it is doing. It keeps nothing, so there is nothing to be finished.
fn end(child: &mut Child) {
    // Both fail only where it has ended already.
    drop(child.kill());
    drop(child.wait());
}

/// Starts the broker again where it ends.
struct Keeper {
    program: std::path::PathBuf,
    ports: Ports,
    clock: Arc<dyn Clock>,
    stop: Arc<Stop>,
    is_hung: Arc<AtomicBool>,
}

impl Keeper {
    fn spawn(&self) -> Result<Child> {
        Command::new(&self.program)
            .arg0("spotterd")
            .arg("broker")
            .args(["--mqtt5", &self.ports.v5.to_string(), "--mqtt3", &self.ports.v4.to_string()])
            // It ends when this closes; its last words go to the daemon's log.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(Error::io(&self.program))
    }

    /// Waits until both ports can be connected to.
    fn await_up(&mut self, child: &mut Child) -> Result<()> {
        let until = self.clock.now() + UP_WITHIN;
        for port in [self.ports.v5, self.ports.v4] {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                let what = || format!("embedded broker on port {port}");
                if let Ok(Some(status)) = child.try_wait() {
                    return Err(Error::internal(what(), format!("ended at once, {status}")));
                }
                if self.clock.now() >= until {
                    return Err(Error::internal(what(), "does not come up"));
                }
                if self.stop.wait(LOOK_EVERY) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn keep(self, mut child: Child) {
        let mut since = self.clock.now();
        let mut pause = LOOK_EVERY;
        while !self.stop.wait(LOOK_EVERY) {
            if self.is_hung.swap(false, Ordering::AcqRel) {
                end(&mut child);
            }
            let status = match child.try_wait() {
                Ok(None) => continue,
                Ok(Some(status)) => status.to_string(),
                Err(error) => error.to_string(),
            };
            if self.clock.now().since(since) >= HELD_AFTER {
                pause = LOOK_EVERY;
            }
            metrics::counter!("spotter_broker_restarts_total").increment(1);
            tracing::error!(
                status,
                "The embedded broker ended or hung by a bug in it; it is started again. What it \
                 had acknowledged and not delivered yet is lost, all else is sent again."
            );
            if self.stop.wait(pause) {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
            since = self.clock.now();
            match self.spawn() {
                Ok(started) => child = started,
                // The old one's end is seen again, so this is tried again.
                Err(error) => tracing::error!(%error, "The embedded broker cannot be started."),
            }
        }
        end(&mut child);
    }
}
