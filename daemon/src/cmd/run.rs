//! `spotterd run`: the daemon.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Result;

use crate::{
    clock::{Clock, SystemClock},
    config::Config,
    metrics,
    service::{Service, TICK},
    shutdown, telemetry,
};

/// Watch the cameras of a configuration until told to stop
///
/// SIGTERM and SIGINT stop it cleanly; SIGHUP reads the configuration again and restarts only the
/// cameras that changed. A configuration that is faulty is refused whole.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file
    #[arg(default_value = "/etc/spotter/spotterd.toml")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let config = Config::load(&args.config)?;
    telemetry::install(&config.log)?;
    telemetry::abort_on_panic();
    let signals = shutdown::on_signals()?;
    metrics::serve(config.metrics.listen, metrics::install()?)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut service = Service::start(config, clock, signals.stop.clone())?;
    tracing::info!(cameras = service.cameras(), "Watching.");
    let mut code = ExitCode::SUCCESS;
    while !signals.stop.wait(TICK) {
        service.tick();
        if signals.take_reload() {
            reload(&mut service, args);
        }
        if service.is_over() {
            tracing::info!("Every recording has ended.");
            if !service.saw_anything() {
                tracing::error!("No recording gave a frame.");
                code = ExitCode::from(3);
            }
            break;
        }
    }
    tracing::info!("Stopping.");
    service.end();
    tracing::info!("Stopped.");
    Ok(code)
}

fn reload(service: &mut Service, args: &Args) {
    let reloaded = Config::load(&args.config).and_then(|config| service.reload(config));
    match reloaded {
        Ok(()) => tracing::info!(cameras = service.cameras(), "The configuration was reloaded."),
        Err(error) => {
            tracing::error!(%error, "The new configuration was refused; the old one holds.")
        }
    }
}
