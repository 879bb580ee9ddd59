//! How the program ends besides well and with errors: stopped, and the same command goes on.

use std::process::ExitCode;

/// Stopped by itself for later, as `train --sitting` asks.
const LATER: u8 = 4;
/// What shells add to the number of a signal.
const SIGNAL: i32 = 128;

/// The status of what was stopped by this signal, or for later.
pub(crate) fn stopped(signal: Option<i32>) -> ExitCode {
    ExitCode::from(signal.and_then(|s| u8::try_from(SIGNAL + s).ok()).unwrap_or(LATER))
}

/// Whether a process with this status was stopped and can go on.
pub(crate) fn is_stopped(status: i32) -> bool {
    use signal_hook::consts::{SIGINT, SIGTERM};
    [i32::from(LATER), SIGNAL + SIGINT, SIGNAL + SIGTERM].contains(&status)
}
