//! `spotterd bench embed` and `random-bundle`: the vision tower against a naive export of it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use clap::ValueEnum;
use ort::{session::Session, value::TensorRef};
use spotter_models::{
    Generation,
    bundle::{self, Draft},
    manifest::{Licence, Lineage, Precision},
    preprocess::Preprocess,
    probe::Probe,
    session::{Runtime, SessionOptions},
    towers::{self, Config},
};

use super::Spread;
use crate::{
    clock::{Clock, SystemClock},
    error::Error,
};

/// Shapes of a model with random weights.
#[derive(Clone, Copy, ValueEnum)]
enum Size {
    /// CSKT on ViT-B/16 at 384x128, as published
    Full,
    /// Three narrow blocks, for tests
    Tiny,
}

impl Size {
    fn config(self) -> Config {
        match self {
            Size::Full => Config::vit_b16(),
            Size::Tiny => Config {
                vision_width: 64,
                vision_layers: 3,
                vision_heads: 4,
                text_width: 32,
                text_layers: 3,
                text_heads: 2,
                embed: 48,
                vision_bottleneck: 8,
                text_bottleneck: 4,
                ..Config::vit_b16()
            },
        }
    }
}

/// Time the folded vision tower against a naive export of the same random weights
#[derive(clap::Args)]
pub struct EmbedArgs {
    #[arg(long, value_enum, default_value = "full")]
    size: Size,
    /// Number format of the folded tower; the naive export is f32
    #[arg(long, default_value = "f32", value_parser = crate::cmd::model::parse_precision)]
    precision: Precision,
    /// Threads inside the operators
    #[arg(long, default_value_t = 1, value_parser = crate::cmd::model::parse_threads)]
    threads: usize,
    /// Crops in one run
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Rounds; each runs both, one after the other
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// The ONNX Runtime library, where it is not found by itself
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Write a bundle of random weights: for measurements, its scores mean nothing
#[derive(clap::Args)]
pub struct RandomArgs {
    #[arg(long, value_enum, default_value = "full")]
    size: Size,
    /// The same seed gives the same weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number formats of its towers
    #[arg(long, default_value = "f32", value_delimiter = ',', value_parser = crate::cmd::model::parse_precision)]
    precisions: Vec<Precision>,
    /// The folder to make
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The ONNX Runtime library, where it is not found by itself
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
}

pub(super) fn random_bundle(args: &RandomArgs) -> Result<ExitCode> {
    let RandomArgs { size, seed, precisions, out, library } = args;
    let generation = write_random(*size, (*seed, precisions), out, library.as_deref())?;
    crate::cmd::print(&format!("bundle {generation} in {}\n", args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a bundle of random weights into a new folder; the same seed gives the same bundle.
///
/// # Errors
/// Where ONNX Runtime is not there or the folder cannot be written.
fn write_random(
    size: Size,
    (seed, precisions): (u64, &[Precision]),
    out: &Path,
    library: Option<&Path>,
) -> Result<Generation, spotter_models::Error> {
    let config = size.config();
    let weights = towers::random(&config, seed)?;
    let runtime = Runtime::load(library)?;
    let preprocess = Preprocess::clip(config.height, config.width);
    let probe = Probe::record(&runtime, &weights, &config, preprocess)?;
    let draft = Draft {
        name: format!("random-{seed}"),
        // The same seed gives the same bundle, so its time is none.
        created_at: "1970-01-01T00:00:00Z".into(),
        parent: None,
        lineage: Lineage::default(),
        licence: Licence { weights: "CC0-1.0".into(), data: "none".into() },
        data: None,
        intended_use: None,
        evaluation: serde_json::Map::new(),
        weights: &weights,
        config: &config,
        precisions,
        preprocess,
        probe: &probe,
        cohort: None,
        vocabulary: None,
    };
    bundle::write(out, &draft)
}

#[derive(serde::Serialize)]
struct Timing {
    ours_ms: Spread,
    peer_ms: Spread,
    /// Peer's time over ours, round by round: above 1 is faster.
    ratio: Spread,
    threads: usize,
    batch: usize,
}

pub(super) fn embed(args: &EmbedArgs) -> Result<ExitCode> {
    if args.rounds == 0 || args.batch == 0 || args.batch > 256 {
        return Err(Error::config("bench", "--rounds and --batch must be 1 or more").into());
    }
    let config = args.size.config();
    let runtime = Runtime::load(args.library.as_deref())?;
    let options = SessionOptions { threads: args.threads, ..SessionOptions::default() };
    let open = |name: &str, model: Vec<u8>| runtime.open(name.as_ref(), &model, &options);
    let weights = towers::random(&config, 1)?;
    let mut ours = open("folded", towers::vision_tower(&weights, &config, args.precision)?)?;
    let mut peer = open("unfolded", towers::unfolded_vision(&weights, &config)?)?;
    drop(weights);
    let shape = [args.batch, 3, config.height, config.width];
    let pixels: Vec<f32> =
        (0..shape.iter().product::<usize>()).map(|i| (i as f32 * 0.37).sin()).collect();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut times = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        let (a, b) =
            (once(&clock, &mut ours, shape, &pixels)?, once(&clock, &mut peer, shape, &pixels)?);
        // The first round warms up.
        if round > 0 {
            times.0.push(1e3 * a.as_secs_f64());
            times.1.push(1e3 * b.as_secs_f64());
            times.2.push(b.as_secs_f64() / a.as_secs_f64());
        }
    }
    let timing = Timing {
        ours_ms: Spread::of(times.0),
        peer_ms: Spread::of(times.1),
        ratio: Spread::of(times.2),
        threads: args.threads,
        batch: args.batch,
    };
    if args.json {
        crate::cmd::print_json(&timing)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = format!(
        "vision tower, {}, batch {}, {} threads, {} rounds\n",
        args.precision, args.batch, args.threads, args.rounds
    );
    for (name, spread, unit) in [
        ("folded", &timing.ours_ms, "ms"),
        ("naive export", &timing.peer_ms, "ms"),
        ("ratio", &timing.ratio, "x"),
    ] {
        table += &format!(
            "{name:<13} median {:>8.2} {unit}   min {:>8.2}   max {:>8.2}\n",
            spread.median, spread.min, spread.max
        );
    }
    crate::cmd::print(&table)?;
    Ok(ExitCode::SUCCESS)
}

fn once(
    clock: &Arc<dyn Clock>,
    session: &mut Session,
    shape: [usize; 4],
    pixels: &[f32],
) -> Result<Duration> {
    let start = clock.now();
    session.run(ort::inputs![TensorRef::from_array_view((shape, pixels))?])?;
    Ok(clock.now().since(start))
}
