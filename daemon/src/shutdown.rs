//! Stopping: the first SIGTERM or SIGINT asks everyone, a second SIGINT ends at once.

use std::sync::Arc;

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    clock::Stop,
    error::{Error, Result},
};

/// Turns signals into `stop`, from a thread of its own.
///
/// # Errors
/// Where the handlers cannot be installed.
pub fn on_signals(stop: Arc<Stop>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Error::internal("signal handlers", error))?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if stop.asked() && signal == SIGINT {
                    std::process::exit(130);
                }
                stop.ask();
            }
        })
        .map_err(|error| Error::internal("signal thread", error))?;
    Ok(())
}
