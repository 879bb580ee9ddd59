//! Signals: the first SIGTERM or SIGINT asks everyone to stop, a second SIGINT ends at once, SIGHUP asks
//! for a reload.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals as Handlers,
};
use tokio::sync::oneshot;

use crate::{
    clock::Stop,
    error::{Error, Result},
};

/// What signals asked for.
pub struct Signals {
    /// Asked by SIGTERM or SIGINT.
    pub stop: Arc<Stop>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Whether SIGHUP came since this was asked last.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::AcqRel)
    }
}

/// How long the thread that waits for the end sleeps at a time; it wakes at once when asked.
const LONG: Duration = Duration::from_secs(3600);

/// Completes when somebody asks to stop, for code that waits for several things at once.
///
/// # Errors
/// [`Error::Internal`] where the system gives no thread.
pub fn future(stop: Arc<Stop>) -> Result<oneshot::Receiver<()>> {
    let (sender, asked) = oneshot::channel();
    let wait = move || {
        while !stop.wait(LONG) {}
        // Nobody listens where the work has ended already.
        let _ = sender.send(());
    };
    std::thread::Builder::new()
        .name("end".to_owned())
        .spawn(wait)
        .map_err(|error| Error::internal("thread", error))?;
    Ok(asked)
}

/// Takes signals from here on, in a thread of its own.
///
/// # Errors
/// Where the handlers cannot be installed.
pub fn on_signals() -> Result<Signals> {
    let (stop, reload) = (Arc::new(Stop::default()), Arc::new(AtomicBool::new(false)));
    let signals = Signals { stop: stop.clone(), reload: reload.clone() };
    let mut handlers = Handlers::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| Error::internal("signal handlers", error))?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in handlers.forever() {
                match signal {
                    SIGHUP => reload.store(true, Ordering::Release),
                    SIGINT if stop.asked() => std::process::exit(130),
                    _ => stop.ask(),
                }
            }
        })
        .map_err(|error| Error::internal("signal thread", error))?;
    Ok(signals)
}
