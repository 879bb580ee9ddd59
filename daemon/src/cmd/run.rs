//! `spotterd run`: the daemon.

use std::{io::Write, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use spotter_models::{
    bundle::Bundle,
    session::{Runtime, SessionOptions},
};

use crate::{
    alert::file,
    clock::{Clock, Stop, SystemClock},
    config::Camera,
    config::Config,
    detect::Detector,
    embed::{self, Embedder},
    engine::Engine,
    error::Error,
    frame::{CameraId, Frame},
    health::{self, Hearts},
    metrics,
    notify::{Broker, Notifier, Watchdog, Watching},
    pipeline::{Embedding, Lane, Pipeline, Sink},
    score::{Matcher, Sighting, parse_policy},
    shutdown,
    source::{Setup, Signal, Slot, Status, Supervisor},
    telemetry,
    track::TrackIds,
};

/// Watch the cameras of a configuration until told to stop
///
/// SIGTERM and SIGINT stop it cleanly. Sightings are printed as JSON lines.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file
    #[arg(default_value = "/etc/spotter/spotterd.toml")]
    config: PathBuf,
    /// Texts to look for: a JSON list of texts, or of objects with id and text
    #[arg(long, value_name = "FILE")]
    alerts: Option<PathBuf>,
    /// When a score is a sighting: fixed=X, with X a cosine
    #[arg(long, default_value = "fixed=0.3", value_name = "POLICY")]
    policy: String,
}

/// How often the sources are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// How long opening and first running the models may take: TensorRT builds its engines then.
const OPENING_PATIENCE: Duration = Duration::from_secs(15 * 60);

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let config = Config::load(&args.config)?;
    telemetry::install(&config.log)?;
    telemetry::abort_on_panic();
    let stop = Arc::new(Stop::default());
    shutdown::on_signals(stop.clone())?;
    metrics::serve(config.metrics.listen, metrics::install()?)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let hearts = Arc::new(Hearts::new(clock.clone()));
    let notifier = Arc::new(Notifier::from_environment());

    notifier.opening("models", OPENING_PATIENCE);
    let (mut detectors, mut embedding) = open_models(args, &config)?;
    health::first_run(&mut detectors, &mut embedding.embedder)?;
    let armed = embedding.matcher.alerts().len();
    let signal = Signal::new();
    let ids = Arc::new(TrackIds::default());
    let mut lanes = Vec::new();
    let mut supervisors = Vec::new();
    for camera in &config.cameras {
        let camera = camera.get_ref();
        let slot: Arc<Slot<Frame>> = Slot::new(signal.clone());
        lanes.push(Lane::new(
            camera.id.clone(),
            ids.clone(),
            slot.clone(),
            camera.rate_hz.unwrap_or(config.detector.rate_hz),
        ));
        supervisors.push((camera.id.clone(), start(camera, slot, &clock, &stop)?));
    }
    let run = (clock, stop.clone(), hearts.as_ref());
    let pipeline = Pipeline::start(lanes, signal, detectors, embedding, run)?;
    notifier.ready(&watching(&supervisors, armed));
    let watchdog = Watchdog::new(notifier.clone(), hearts.clone()).start(stop.clone())?;
    tracing::info!(cameras = supervisors.len(), "Watching.");

    while !stop.wait(COUNT_INTERVAL) {
        supervisors.iter().for_each(|(camera, supervisor)| count(camera, supervisor));
        notifier.status(&watching(&supervisors, armed));
        if supervisors.iter().all(|(_, s)| s.is_finished()) && pipeline.is_idle() {
            tracing::info!("Every recording has ended.");
            stop.ask();
        }
    }
    notifier.stopping();
    tracing::info!("Stopping.");
    pipeline.join();
    if watchdog.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("The watchdog's thread ended by a bug.");
    }
    // Every source is asked before the first is waited for.
    supervisors.iter().for_each(|(_, supervisor)| supervisor.halt());
    drop(supervisors);
    tracing::info!("Stopped.");
    Ok(ExitCode::SUCCESS)
}

fn open_models(args: &Args, config: &Config) -> Result<(Vec<Box<dyn Detector>>, Embedding)> {
    let bundle = Bundle::open(&config.bundle)?;
    let engine = Engine {
        runtime: Runtime::load(config.inference.library.as_deref())?,
        options: SessionOptions {
            provider: config.inference.provider,
            ..SessionOptions::default()
        },
    };
    let detectors = (0..config.detector.workers.get())
        .map(|_| engine.detector(&config.detector.model))
        .collect::<Result<Vec<_>, _>>()?;
    let wanted = args.alerts.as_deref().map(file::read).transpose()?.unwrap_or_default();
    let alerts = {
        // The text tower is needed only now; its memory is given back.
        let mut tower = embed::text_tower(&engine.runtime, &bundle, &engine.options)?;
        file::arm(&mut tower, &wanted)?
    };
    let embedder = Embedder::open(&engine.runtime, &bundle, &engine.options)?;
    let matcher = Matcher::new(alerts, parse_policy(&args.policy)?);
    tracing::info!(
        bundle = %bundle.generation(),
        provider = %config.inference.provider,
        alerts = wanted.len(),
        "Models opened."
    );
    Ok((detectors, Embedding { embedder, matcher, sink: print_sightings() }))
}

fn print_sightings() -> Sink {
    let mut broken = false;
    Box::new(move |sighting: Sighting| {
        let line = serde_json::to_string(&sighting);
        let written = line.map_err(std::io::Error::other).and_then(|line| {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{line}")?;
            out.flush()
        });
        if let Err(error) = written
            && !broken
        {
            broken = true;
            tracing::error!(%error, "Sightings cannot be printed.");
        }
    })
}

fn start(
    camera: &Camera,
    slot: Arc<Slot<Frame>>,
    clock: &Arc<dyn Clock>,
    stop: &Arc<Stop>,
) -> Result<Supervisor> {
    let spec = camera.source().map_err(|reason| Error::config(camera.id.to_string(), reason))?;
    Ok(Supervisor::spawn(Setup {
        camera: camera.id.clone(),
        spec,
        decoder: camera.decoder.clone(),
        rules: camera.rules(),
        clock: clock.clone(),
        stop: stop.clone(),
        slot,
    })?)
}

fn watching(supervisors: &[(CameraId, Supervisor)], alerts: usize) -> Watching {
    let streams =
        |(_, s): &&(CameraId, Supervisor)| matches!(*s.status(), Status::Streaming { .. });
    Watching {
        streaming: supervisors.iter().filter(streams).count(),
        cameras: supervisors.len(),
        alerts,
        broker: Broker::None,
    }
}

fn count(camera: &CameraId, supervisor: &Supervisor) {
    let fps = match *supervisor.status() {
        Status::Streaming { fps, .. } => Some(f64::from(fps)),
        _ => None,
    };
    metrics::source(camera, fps, supervisor.counts());
}
