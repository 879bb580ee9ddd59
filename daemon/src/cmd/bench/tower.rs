//! `spotterd bench tower`: crops and texts a second through a bundle's towers, at several batch sizes.

use std::{fmt::Write as _, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use spotter_models::{
    Embedding,
    manifest::Precision,
    session::{Provider, SessionOptions, TextTower, VisionTower, gpu_name},
    tokenize::{TextInput, Tokenizer},
    towers::{text_operations, vision_operations},
};

use super::Spread;
use crate::{
    clock::{Clock, SystemClock},
    cmd::{
        model::{ModelArgs, Opened},
        print, print_json,
    },
    engine::Engine,
    error::Error,
};

/// Largest batch: more would measure the memory.
const MAX_BATCH: usize = 256;
/// Rounds; each runs every batch size, one after the other.
const ROUNDS: u32 = 7;
/// What the texts say.
const CAPTION: &str = "a tall man with short dark hair in a long grey coat and blue jeans, who carries a \
                       black rucksack and pulls a small red suitcase";

/// Crops and texts a second through a bundle's towers, at several batch sizes
///
/// On a GPU every batch size has a session of that shape, and the time with the copies to the card and
/// back is told apart from that of the computation alone.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// How many crops or texts go through together
    #[arg(long, default_value = "1,2,4,8,16,32", value_delimiter = ',', value_name = "N", value_parser = parse_batch)]
    batches: Vec<usize>,
    /// Time for each batch size and tower
    #[arg(long, default_value_t = 3.0, value_name = "S", value_parser = parse_seconds)]
    seconds: f64,
    /// On a GPU, launch each kernel by itself instead of all of them together
    #[arg(long)]
    no_replay: bool,
    /// Say where each node of the towers ran, at the first batch size, instead of measuring; nodes that a
    /// GPU cannot run are left to the processor
    #[arg(long)]
    nodes: bool,
    /// Write the embeddings of the last round's batches: those of two providers can be compared
    #[arg(long, value_name = "FILE")]
    embeddings: Option<std::path::PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse_batch(text: &str) -> std::result::Result<usize, String> {
    let known = text.parse().ok().filter(|batch| (1..=MAX_BATCH).contains(batch));
    known.ok_or_else(|| format!("use 1 to {MAX_BATCH}"))
}

fn parse_seconds(text: &str) -> std::result::Result<f64, String> {
    let known = text.parse().ok().filter(|seconds| (0.001..=600.0).contains(seconds));
    known.ok_or_else(|| "use 0.001 to 600".into())
}

/// What was measured, and on what.
#[derive(Serialize)]
struct Report {
    provider: Provider,
    precision: Precision,
    /// The GPU, where there is one in use and it says its name.
    gpu: Option<String>,
    library: &'static str,
    threads: usize,
    replay: bool,
    rounds: u32,
    towers: Vec<Measured>,
}

/// One tower.
#[derive(Serialize)]
struct Measured {
    /// What it embeds: `crops` or `texts`.
    inputs: &'static str,
    /// Floating-point operations of one, counted, in 1e9.
    gflop: f64,
    batches: Vec<Batch>,
}

/// One batch size.
#[derive(Serialize)]
struct Batch {
    batch: usize,
    /// Milliseconds of a run with the copies, its best, middle and worst round.
    ms: Spread,
    /// The same of the computation alone, where it can be told apart.
    compute_ms: Option<Spread>,
    /// Inputs a second.
    per_second: f64,
    /// Counted operations a second, 1e12, with the copies.
    tflops: f64,
    /// The same of the computation alone.
    compute_tflops: Option<f64>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let opened = args.model.open()?;
    let options = options(args, &opened.engine);
    let mut towers = open(&opened, &options)?;
    if args.nodes {
        return nodes(args, &mut towers);
    }
    let on_gpu = options.provider != Provider::Cpu;
    let mut report = Report {
        provider: options.provider,
        precision: opened.engine.precision,
        gpu: on_gpu.then(gpu_name).flatten(),
        library: opened.engine.runtime.build(),
        threads: options.threads,
        replay: on_gpu && options.replay,
        rounds: ROUNDS,
        towers: Vec::new(),
    };
    let mut embeddings = Vec::new();
    for (inputs, operations) in &mut towers {
        let (measured, rows) = measure(args, inputs, *operations)?;
        report.towers.push(measured);
        embeddings.extend(rows);
    }
    if let Some(path) = &args.embeddings {
        let rows: Vec<&[f32]> = embeddings.iter().map(Embedding::values).collect();
        std::fs::write(path, serde_json::to_vec(&rows)?).map_err(Error::io(path))?;
    }
    if args.json {
        print_json(&report)?
    } else {
        print(&table(&report)?)?
    }
    Ok(ExitCode::SUCCESS)
}

/// How the towers are opened.
fn options(args: &Args, engine: &Engine) -> SessionOptions {
    let batches = match engine.options.provider {
        // There one session takes any number, as the daemon opens it.
        Provider::Cpu => Vec::new(),
        _ if args.nodes => args.batches.iter().copied().take(1).collect(),
        _ => args.batches.clone(),
    };
    let profile = args
        .nodes
        .then(|| std::env::temp_dir().join(format!("spotter-nodes-{}", std::process::id())));
    SessionOptions { batches, replay: !args.no_replay, profile, ..engine.options.clone() }
}

/// Both towers with what they embed, and the operations that each input takes.
fn open(opened: &Opened, options: &SessionOptions) -> Result<[(Inputs, u64); 2]> {
    let Engine { runtime, precision, .. } = &opened.engine;
    let config = &opened.bundle.manifest().config;
    let tower = VisionTower::open(runtime, &opened.bundle, *precision, options)?;
    let crops = Inputs::Crops { pixels: noise(tower.preprocess().len() * MAX_BATCH), tower };
    let tower = TextTower::open(runtime, &opened.bundle, *precision, options)?;
    let text = Tokenizer::clip()?.encode(CAPTION)?.fit(config)?;
    let length = match options.provider {
        Provider::Cpu => text.ids().len(),
        _ => config.word_limit() + 2,
    };
    let texts = Inputs::Texts { texts: vec![text; MAX_BATCH], tower };
    Ok([(crops, vision_operations(config)), (texts, text_operations(config, length))])
}

/// A tower and more than enough for its largest batch.
enum Inputs {
    Crops { pixels: Vec<f32>, tower: VisionTower },
    Texts { texts: Vec<TextInput>, tower: TextTower },
}

impl Inputs {
    fn name(&self) -> &'static str {
        match self {
            Inputs::Crops { .. } => "crops",
            Inputs::Texts { .. } => "texts",
        }
    }

    fn embed(&mut self, batch: usize) -> Result<Vec<Embedding>> {
        Ok(match self {
            Inputs::Crops { pixels, tower } => {
                let values = batch * tower.preprocess().len();
                tower.embed(&pixels[..values], batch)?
            }
            Inputs::Texts { texts, tower } => tower.embed(&texts[..batch])?,
        })
    }

    fn recompute(&mut self, batch: usize) -> Result<()> {
        match self {
            Inputs::Crops { tower, .. } => tower.recompute(batch)?,
            Inputs::Texts { tower, .. } => tower.recompute(batch)?,
        }
        Ok(())
    }

    /// Whether the computation can be told from the copies.
    fn is_bound(&self) -> bool {
        match self {
            Inputs::Crops { tower, .. } => !tower.batches().is_empty(),
            Inputs::Texts { tower, .. } => !tower.batches().is_empty(),
        }
    }

    fn end_profile(&mut self) -> Result<std::path::PathBuf> {
        Ok(match self {
            Inputs::Crops { tower, .. } => tower.end_profile()?,
            Inputs::Texts { tower, .. } => tower.end_profile()?,
        })
    }
}

/// Numbers about as large as those of a picture, all of them different.
fn noise(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index as f32 * 0.37).sin() + (index as f32 * 0.011).cos()).collect()
}

/// Runs all batch sizes in turn, round by round, so that what slows the machine slows all of them.
fn measure(
    args: &Args,
    inputs: &mut Inputs,
    operations: u64,
) -> Result<(Measured, Vec<Embedding>)> {
    let slot = Duration::from_secs_f64(args.seconds / f64::from(ROUNDS));
    let mut times = vec![(Vec::new(), Vec::new()); args.batches.len()];
    let mut last = Vec::new();
    for round in 0..=ROUNDS {
        last.clear();
        for (&batch, (whole, compute)) in args.batches.iter().zip(&mut times) {
            last.extend(inputs.embed(batch)?);
            let ms = repeat(slot, || inputs.embed(batch).map(drop))?;
            let compute_ms = match inputs.is_bound() {
                true => Some(repeat(slot, || inputs.recompute(batch))?),
                false => None,
            };
            // The first round warms up.
            if round > 0 {
                whole.push(ms);
                compute.extend(compute_ms);
            }
        }
    }
    let gflop = operations as f64 / 1e9;
    let batches = args.batches.iter().zip(times).map(|(&batch, (whole, compute))| {
        let (ms, compute_ms) =
            (Spread::of(whole), (!compute.is_empty()).then(|| Spread::of(compute)));
        // GFLOP in a millisecond are TFLOP in a second.
        let tflops = |ms: &Spread| batch as f64 * gflop / ms.median;
        Batch {
            batch,
            per_second: batch as f64 * 1e3 / ms.median,
            tflops: tflops(&ms),
            compute_tflops: compute_ms.as_ref().map(tflops),
            ms,
            compute_ms,
        }
    });
    Ok((Measured { inputs: inputs.name(), gflop, batches: batches.collect() }, last))
}

/// Runs until the slot is over, at least once: milliseconds of one run.
fn repeat(slot: Duration, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let clock = SystemClock::new();
    let start = clock.now();
    let mut runs = 0.0;
    loop {
        run()?;
        runs += 1.0;
        let passed = clock.now().since(start);
        if passed >= slot {
            return Ok(1e3 * passed.as_secs_f64() / runs);
        }
    }
}

fn table(report: &Report) -> Result<String> {
    let mut text = format!("{} towers on {}", report.precision, report.provider);
    if let Some(gpu) = &report.gpu {
        write!(
            text,
            " ({gpu}), {}",
            if report.replay { "replayed" } else { "launched one by one" }
        )?;
    } else {
        write!(text, ", {} threads", report.threads)?;
    }
    writeln!(text, ", {} rounds\n{}", report.rounds, report.library)?;
    for tower in &report.towers {
        writeln!(text, "{}, {:.2} GFLOP each", tower.inputs, tower.gflop)?;
        for batch in &tower.batches {
            write!(
                text,
                "batch {:>3}  {:>9.1} a second  {:>34}  {:>8.3} TFLOP/s",
                batch.batch,
                batch.per_second,
                batch.ms.ms(),
                batch.tflops
            )?;
            if let (Some(ms), Some(tflops)) = (&batch.compute_ms, batch.compute_tflops) {
                write!(text, "  computing {:>34}  {tflops:>8.3} TFLOP/s", ms.ms())?;
            }
            text.push('\n');
        }
    }
    Ok(text)
}

/// An event of ONNX Runtime's profile.
#[derive(Deserialize)]
struct Event {
    cat: String,
    name: String,
    #[serde(default)]
    args: Where,
}

#[derive(Default, Deserialize)]
struct Where {
    #[serde(default)]
    op_name: String,
    #[serde(default)]
    provider: String,
}

/// How many nodes of one kind ran on one provider.
#[derive(Serialize)]
struct Nodes {
    inputs: &'static str,
    provider: String,
    operator: String,
    count: usize,
}

/// Runs each tower once and prints which nodes ran where.
fn nodes(args: &Args, towers: &mut [(Inputs, u64)]) -> Result<ExitCode> {
    let mut all = Vec::new();
    for (inputs, _) in towers {
        inputs.embed(args.batches.first().copied().unwrap_or(1))?;
        let file = inputs.end_profile()?;
        let counts = count_nodes(&file);
        std::fs::remove_file(&file).map_err(Error::io(&file))?;
        for ((provider, operator), count) in counts? {
            all.push(Nodes { inputs: inputs.name(), provider, operator, count });
        }
    }
    if args.json {
        print_json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for Nodes { inputs, provider, operator, count } in &all {
        writeln!(text, "{inputs}  {provider:<26} {operator:<24} {count:>4}")?;
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Nodes of a profile of one run, by provider and operator.
fn count_nodes(profile: &Path) -> Result<std::collections::BTreeMap<(String, String), usize>> {
    let bytes = std::fs::read(profile).map_err(Error::io(profile))?;
    let events: Vec<Event> = serde_json::from_slice(&bytes)
        .with_context(|| format!("the profile {}", profile.display()))?;
    let mut counts = std::collections::BTreeMap::new();
    for event in events {
        if event.cat == "Node" && event.name.ends_with("_kernel_time") {
            *counts.entry((event.args.provider, event.args.op_name)).or_default() += 1;
        }
    }
    Ok(counts)
}
