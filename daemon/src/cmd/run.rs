//! `spotterd run`: the daemon.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;

use crate::{
    clock::{Clock, SystemClock},
    config::Config,
    health::Hearts,
    metrics,
    notify::{Notifier, Watchdog},
    service::{Service, TICK},
    shutdown, telemetry,
};

/// Watch the cameras of a configuration until told to stop
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file
    #[arg(default_value = "/etc/spotter/spotterd.toml")]
    config: PathBuf,
}

/// How long opening and first running the models may take: TensorRT builds its engines then.
const OPENING_PATIENCE: Duration = Duration::from_secs(15 * 60);

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let config = Config::load(&args.config)?;
    telemetry::install(&config.log)?;
    telemetry::abort_on_panic();
    let signals = shutdown::on_signals()?;
    let handle = metrics::install()?;
    metrics::serve(config.metrics.listen, handle.clone())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let hearts = Arc::new(Hearts::new(clock.clone()));
    let notifier = Arc::new(Notifier::from_environment());
    notifier.opening("models", OPENING_PATIENCE);
    let parts = (clock, signals.stop.clone(), &hearts);
    let mut service = Service::start(config, parts, Some(handle))?;
    notifier.ready(&service.watching());
    let watchdog = Watchdog::new(notifier.clone(), hearts.clone()).start(signals.stop.clone())?;
    tracing::info!(cameras = service.cameras(), "Watching.");
    let mut code = ExitCode::SUCCESS;
    while !signals.stop.wait(TICK) {
        service.tick();
        notifier.status(&service.watching());
        if signals.take_reload() {
            let _reloading = notifier.reloading();
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
    notifier.stopping();
    tracing::info!("Stopping.");
    service.end();
    if watchdog.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("The watchdog's thread ended by a bug.");
    }
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
