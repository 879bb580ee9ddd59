//! `spotterd bench embed` and `random-bundle`: the vision tower against a naive export of it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
};

use anyhow::Result;
use clap::ValueEnum;
use ort::value::TensorRef;
use spotter_models::{
    Generation,
    bundle::{self, Draft},
    manifest::{Licence, Lineage, Precision},
    preprocess::Preprocess,
    probe::Probe,
    session::{Runtime, SessionOptions},
    towers::{self, Config},
};

use super::{Spread, peer::Peer};
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
    /// A Python that has the peers, as scripts/bench-peers makes it; they are left out without it
    #[arg(long, value_name = "FILE", default_value = "target/bench/venv/bin/python")]
    python: PathBuf,
    /// The peers' program
    #[arg(long, value_name = "FILE", default_value = "tests/bench/tower_peer.py")]
    peer: PathBuf,
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

/// What was measured.
#[derive(serde::Serialize)]
struct Timing {
    ours_ms: Spread,
    /// Of each peer.
    peers: BTreeMap<&'static str, Against>,
    threads: usize,
    batch: usize,
}

#[derive(serde::Serialize)]
struct Against {
    ms: Spread,
    /// Its time over ours, round by round: above 1 ours is faster.
    ratio: Spread,
}

/// A tower that is run again and again: what each run takes, in milliseconds.
type Run = Box<dyn FnMut() -> Result<f64>>;

/// Peers in a process of their own, and which graph each is given.
const OTHERS: [(&str, &str, bool); 3] = [
    ("onnxruntime in Python, naive export", "ort", false),
    ("OpenVINO bf16, folded", "openvino-bf16", true),
    ("OpenVINO f32, folded", "openvino-f32", true),
];

pub(super) fn embed(args: &EmbedArgs) -> Result<ExitCode> {
    if args.rounds == 0 || args.batch == 0 || args.batch > 256 {
        return Err(Error::config("bench", "--rounds and --batch must be 1 or more").into());
    }
    let folder = tempfile::tempdir()?;
    let (mut ours, mut peers) = contenders(args, folder.path())?;
    let mut times = Vec::new();
    let mut others: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); peers.len()];
    for round in 0..=args.rounds {
        let own = ours()?;
        // The first round warms up.
        if round > 0 {
            times.push(own);
        }
        for ((_, peer), (ms, ratios)) in peers.iter_mut().zip(&mut others) {
            let other = peer()?;
            if round > 0 {
                ms.push(other);
                ratios.push(other / own);
            }
        }
    }
    let against = |(ms, ratios)| Against { ms: Spread::of(ms), ratio: Spread::of(ratios) };
    let names = peers.iter().map(|(name, _)| *name);
    let timing = Timing {
        ours_ms: Spread::of(times),
        peers: names.zip(others.into_iter().map(against)).collect(),
        threads: args.threads,
        batch: args.batch,
    };
    if args.json {
        crate::cmd::print_json(&timing)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = format!(
        "vision tower, {}, batch {}, {} threads, {} rounds\n{:<36} {}\n",
        args.precision,
        args.batch,
        args.threads,
        args.rounds,
        "folded",
        timing.ours_ms.ms()
    );
    for (name, Against { ms, ratio }) in &timing.peers {
        table += &format!("{name:<36} {}, {}\n", ms.ms(), ratio.times());
    }
    crate::cmd::print(&table)?;
    Ok(ExitCode::SUCCESS)
}

/// The tower that the daemon runs, and those that it is compared with.
fn contenders(args: &EmbedArgs, folder: &Path) -> Result<(Run, Vec<(&'static str, Run)>)> {
    let config = args.size.config();
    let runtime = Runtime::load(args.library.as_deref())?;
    let options = SessionOptions { threads: args.threads, ..SessionOptions::default() };
    let shape = [args.batch, 3, config.height, config.width];
    let pixels: Arc<[f32]> =
        (0..shape.iter().product::<usize>()).map(|i| (i as f32 * 0.37).sin()).collect();
    let session = |name: &str, model: &[u8]| -> Result<Run> {
        let mut session = runtime.open(name.as_ref(), model, &options)?;
        let (clock, pixels) = (SystemClock::new(), pixels.clone());
        Ok(Box::new(move || {
            let start = clock.now();
            session.run(ort::inputs![TensorRef::from_array_view((shape, &*pixels))?])?;
            Ok(1e3 * clock.now().since(start).as_secs_f64())
        }))
    };
    let weights = towers::random(&config, 1)?;
    let ours = session("folded", &towers::vision_tower(&weights, &config, args.precision)?)?;
    let naive = towers::unfolded_vision(&weights, &config)?;
    let mut peers = vec![("the same library, naive export", session("unfolded", &naive)?)];
    if !args.python.exists() {
        return Ok((ours, peers));
    }
    let write = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(Error::io(&path))?;
        Ok(path)
    };
    let naive = write("naive.onnx", &naive)?;
    let folded = towers::vision_tower(&weights, &config, Precision::F32)?;
    let folded = write("folded.onnx", &folded)?;
    let numbers = [args.batch, config.height, config.width, args.threads];
    for (name, kind, is_folded) in OTHERS {
        let mut peer = Peer::run(
            Command::new(&args.python)
                .arg(&args.peer)
                .arg(kind)
                .arg(if is_folded { &folded } else { &naive })
                .args(numbers.map(|number| number.to_string())),
            kind,
        )?;
        peers.push((name, Box::new(move || Ok(peer.ask::<Once>()?.ms))));
    }
    Ok((ours, peers))
}

/// One run of a peer.
#[derive(serde::Deserialize)]
struct Once {
    ms: f64,
}
