//! The daemon's own log: sentences with fields, to stderr or the system journal.

use std::io::IsTerminal;

use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{
    config::{Log, LogFormat},
    error::{Error, Result},
};

/// Starts logging. Once a process.
///
/// # Errors
/// [`Error::Config`] where the filter is none or there is no journal.
pub fn install(log: &Log) -> Result<()> {
    // One filter for everything: filters per layer lose lines (tracing issues 2519, 2704).
    check_filter(&log.filter)?;
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| Error::config("log.filter", error.to_string()))?;
    let stderr = tracing_subscriber::fmt::layer::<Registry>().with_writer(std::io::stderr);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => stderr.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => stderr.json().boxed(),
        LogFormat::Journald => tracing_journald::layer()
            .map_err(|error| {
                Error::config(
                    "log.format",
                    format!("there is no system journal here ({error}); use \"text\" or \"json\""),
                )
            })?
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(layer)
        .with(filter)
        .try_init()
        .map_err(|error| Error::internal("log", error))
}

/// Whether a filter says what somebody means. The library takes any lone word for a module's name, so
/// that `inof` would silence everything.
///
/// # Errors
/// [`Error::Config`] with the part that is wrong.
pub fn check_filter(filter: &str) -> Result<()> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for part in filter.split(',').filter(|part| !part.contains(['=', '['])) {
        if !LEVELS.contains(&part.trim().to_lowercase().as_str()) {
            let reason = format!("{part:?} is no level; use one of {}", LEVELS.join(", "));
            return Err(Error::config("log.filter", reason));
        }
    }
    EnvFilter::try_new(filter)
        .map(|_| ())
        .map_err(|error| Error::config("log.filter", error.to_string()))
}

/// Makes a panic end the process: systemd restarts it whole, while a daemon that lost a thread would
/// look alive and see nothing.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        tracing::error!(%panic, "A bug: the process ends so that it can be restarted whole.");
        std::process::abort();
    }));
}
