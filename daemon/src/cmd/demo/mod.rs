//! `spotterd demo`: the whole product on one machine, with a recording in place of a camera.
//!
//! What runs is the daemon as it is, on a configuration file that is written here; what staff do
//! beside it goes over MQTT, as staff do it. Nothing in the daemon knows of the demo.

mod folder;
mod journal;
mod staff;

use std::{future::Future, path::PathBuf, pin::pin, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;

use crate::{
    clock::{Clock, SystemClock},
    config::Config,
    error::Error,
    health::Hearts,
    metrics,
    service::{Service, TICK},
    shutdown, telemetry,
};
use folder::Folder;
use staff::Staff;

/// See it work: a recording as the camera, two alerts, everybody who is found
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The recording that stands for a camera, over and over
    #[arg(long, value_name = "FILE", default_value = folder::STREET)]
    video: PathBuf,
    /// A model bundle; without it the small one of a checkout, trained on rendered persons
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<PathBuf>,
    /// The pack that the small bundle is folded from
    #[arg(long, value_name = "FOLDER", default_value = folder::PACK)]
    pack: PathBuf,
    /// Where configuration, token, state and pictures go; what an earlier demo left there is replaced
    /// [default: spotter/demo in your cache folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Stop after so many seconds of watching
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// The ONNX Runtime library, where it is not found by itself
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  spotterd demo
  spotterd demo --seconds 60
  spotterd demo --video gate.mp4 --bundle /var/lib/spotter/bundles

While it runs, the staff's commands work on it from another terminal:
  spotterd alert list --config ~/.cache/spotter/demo/spotterd.toml

Exit status: 0 ended by Ctrl-C, or somebody was found; 1 the time was over and nobody was; 2 something \
was typed wrong; 3 something needed is missing or broken.";

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    telemetry::abort_on_panic();
    let signals = shutdown::on_signals()?;
    let ended = shutdown::future(signals.stop.clone())?;
    let folder = Folder::prepare(args)?;
    let config = Config::load(&folder.config())?;
    super::print(&folder.introduction(&config)?)?;
    let handle = metrics::install()?;
    metrics::serve(config.metrics.listen, handle.clone())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let hearts = Arc::new(Hearts::new(clock.clone()));
    let staff = Staff {
        config: Config::load(&folder.config())?,
        pictures: folder.pictures(),
        span: args.seconds.map(Duration::from_secs),
    };
    let mut service = Service::start(config, (clock, signals.stop.clone(), &hearts), Some(handle))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("demo runtime", error))?;
    let work = staff.work(ended);
    let done = runtime.block_on(beside(&mut service, work));
    service.end();
    let seen = match done {
        Ok(seen) => seen,
        Err(error) => return super::alert::report(error),
    };
    let pictures = folder.pictures();
    super::print(&match seen.persons {
        0 => "Stopped. Nobody was found.\n".to_owned(),
        1 => {
            format!("Stopped. There was one sighting; its picture is in {}.\n", pictures.display())
        }
        n => {
            format!("Stopped. There were {n} sightings; pictures are in {}.\n", pictures.display())
        }
    })?;
    Ok(match seen.persons > 0 || seen.was_interrupted {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Does the daemon's work of each second while the other side is at work.
async fn beside<T>(service: &mut Service, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => service.tick(),
        }
    }
}
