//! `spotterd report`: how good the decisions are on labelled recordings.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Result;
use spotter_models::{bundle::Bundle, cohort::Cohort};

use crate::{
    alert::{reader::TowerReader, ready::TextReader},
    clock::SystemClock,
    cmd::model::EngineArgs,
    embed::{self, Embedder},
    engine::Engine,
    error::Error,
    frame::CameraId,
    judge::{self, Chance, Judged, Scene, Statistic},
    metrics::Stopwatch,
    replay::{Matching, Replay},
    score::{Armed, Matcher},
    truth::Truth,
};

/// Judge the decisions on labelled recordings: bundles and policies in one table
///
/// Every policy gets the same number of false alarms. The calibrated one keeps it by its own promise,
/// learned from the tracks of the other recordings; for a fixed threshold and for the z-score the best cut
/// is looked for in hindsight, which no site could do.
#[derive(clap::Args)]
pub struct Args {
    /// A model bundle with a background cohort; give the option again for more
    #[arg(long = "bundle", value_name = "FOLDER", required = true)]
    bundles: Vec<PathBuf>,
    /// A labelled recording: VIDEO.truth.json, or the file given with --truth, says who is where and
    /// whom each text means; give the option again for more
    #[arg(long = "video", value_name = "FILE", required = true)]
    videos: Vec<PathBuf>,
    /// Truth files, one for each video in the same order, where they do not lie beside the videos
    #[arg(long, value_name = "FILE")]
    truth: Vec<PathBuf>,
    /// False alarms that can be borne on each recording, over all its texts
    #[arg(long, default_value_t = 1.0, value_name = "N", value_parser = parse_budget)]
    budget: f64,
    /// Frames a second of the recordings that are looked at
    #[arg(long, default_value_t = 5.0, value_name = "HZ")]
    rate: f64,
    /// Write a page with the table, score histograms, misses against false alarms, promises against what
    /// came of them, and delays into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

fn parse_budget(text: &str) -> std::result::Result<f64, String> {
    let known = text.parse().ok().filter(|budget: &f64| (1e-6..=1e6).contains(budget));
    known.ok_or_else(|| "use a number of false alarms, more than 0".into())
}

/// False alarms a recording at which promises are compared with what came of them, beside `--budget`.
const PROMISES: [f64; 5] = [0.1, 0.3, 1.0, 3.0, 10.0];

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    if !(0.2..=30.0).contains(&args.rate) {
        return Err(Error::config("--rate", "use 0.2 to 30 a second").into());
    }
    let truths = truths(args)?;
    let engine = args.engine.engine()?;
    let mut all = Vec::new();
    for path in &args.bundles {
        all.push(judged(args, &engine, &Bundle::open(path)?, &truths)?);
    }
    if args.json {
        super::print_json(&all)?;
    } else {
        super::print(&all.iter().map(text).collect::<String>())?;
    }
    if let Some(folder) = &args.out {
        let page = judge::page::write(folder, &all)?;
        eprintln!("The page is {}.", page.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn judged(args: &Args, engine: &Engine, bundle: &Bundle, truths: &[Truth]) -> Result<Judged> {
    let name = bundle.manifest().name.clone();
    let cohort = Cohort::of(bundle)?.ok_or_else(|| {
        let reason = "has no background cohort: put one in with `spotterd bundle cohort`";
        Error::config(format!("bundle {name}"), reason)
    })?;
    let scenes = scenes(args, engine, bundle, truths)?;
    let chance = Chance::learn(&scenes, &cohort)?;
    let scales = [
        chance.scale(args.budget),
        judge::elsewhere(&scenes, args.budget),
        judge::cosine(&scenes, Statistic::Looks),
        judge::cosine(&scenes, Statistic::View),
        judge::deviations(&scenes, &cohort)?,
    ];
    let table = judge::compare(&scenes, &scales, args.budget);
    let mut budgets = PROMISES.to_vec();
    budgets.push(args.budget);
    budgets.sort_by(f64::total_cmp);
    budgets.dedup();
    let promises = judge::kept(&scenes, &chance, &budgets);
    Ok(Judged { bundle: bundle.generation().to_string(), name, table, promises })
}

fn truths(args: &Args) -> Result<Vec<Truth>> {
    if !args.truth.is_empty() && args.truth.len() != args.videos.len() {
        return Err(Error::config("--truth", "give one truth file for each video").into());
    }
    let beside = args.videos.iter().map(|video| video.with_extension("truth.json"));
    let paths = if args.truth.is_empty() { beside.collect() } else { args.truth.clone() };
    let read = |path: &PathBuf| {
        let truth = Truth::read(path)?;
        if truth.alerts.is_empty() {
            let reason = "says of no text whom it means (`alerts`)";
            return Err(Error::config(path.display().to_string(), reason).into());
        }
        Ok(truth)
    };
    paths.iter().map(read).collect()
}

fn scenes(args: &Args, engine: &Engine, bundle: &Bundle, truths: &[Truth]) -> Result<Vec<Scene>> {
    let mut reader = TowerReader::new(embed::text_tower(engine, bundle)?)?;
    let matcher = Matcher::new(Arc::new(Armed::default()), Arc::default());
    let mut replay = Replay {
        detector: engine.detector(&args.engine.detector)?,
        matching: Some(Matching::new(Embedder::open(engine, bundle)?, matcher)),
        rate_hz: args.rate,
        every_look: false,
        ids: Arc::default(),
        stopwatch: Stopwatch::new(Arc::new(SystemClock::new())),
        progress: Box::new(|_| {}),
    };
    let mut scenes = Vec::new();
    for (index, (video, truth)) in args.videos.iter().zip(truths).enumerate() {
        let name = stem(video);
        eprintln!("{name}: {} of {}", index + 1, args.videos.len());
        let camera = CameraId::new(&format!("recording-{index}"))?;
        let recording = replay.run(&camera, video)?;
        let agreement = recording.compare(truth)?;
        let read = |text: &str| Ok(reader.read(text)?.embedding);
        scenes.push(Scene::new(&name, recording, (truth, &agreement), read)?);
    }
    Ok(scenes)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn text(judged: &Judged) -> String {
    let Judged { bundle, name, table, promises } = judged;
    let mut text = format!(
        "{name} ({bundle}): {} recordings, {} texts, {} tracks; {} false alarms a recording allowed\n\n\
         {:<20} {:>8} {:>18} {:>13} {:>13} {:>20}  cut\n",
        table.scenes.len(),
        table.texts,
        table.tracks,
        table.budget,
        "policy",
        "found",
        "share",
        "false alarms",
        "delay, p95 s",
        "first finds more by"
    );
    for row in table.rows.iter().chain(&table.as_many) {
        let share = |[from, to]: [f64; 2]| format!("{:.1} to {:.1}", 100.0 * from, 100.0 * to);
        let delays = row.median_delay_s.zip(row.p95_delay_s);
        let delay = delays.map_or("-".to_owned(), |(median, p95)| format!("{median:.1}, {p95:.1}"));
        text += &format!(
            "{:<20} {:>8} {:>18} {:>13} {:>13} {:>20}  {:.4} ({})\n",
            row.policy,
            format!("{}/{}", row.found, row.meant),
            format!("{:.1} ({})", 100.0 * row.detection, share(row.detection_interval)),
            row.false_alarms,
            delay,
            share(row.first_is_better_by),
            row.cut,
            row.cut_by
        );
    }
    text += "\nfalse alarms of the budget policy, a recording:\n\
             promised   observed          95 %   near ones told\n";
    for kept in promises {
        let [from, to] = kept.observed_interval;
        text += &format!(
            "{:>8.2} {:>10.2} {:>13} {:>16.2}\n",
            kept.promised,
            kept.observed,
            format!("{from:.2}-{to:.2}"),
            kept.near
        );
    }
    text + "\n"
}
