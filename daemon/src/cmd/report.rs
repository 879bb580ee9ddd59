//! `spotterd report`: how good the decisions are on labelled recordings.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Result;
use serde::Serialize;
use spotter_models::{bundle::Bundle, cohort::Cohort};

use crate::{
    alert::{reader::TowerReader, ready::TextReader},
    clock::SystemClock,
    cmd::model::EngineArgs,
    embed::{self, Embedder},
    engine::Engine,
    error::Error,
    frame::CameraId,
    judge::{self, Scene, Statistic, Table},
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
    /// Write a page with the table and the curves into this folder
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

/// One bundle's table.
#[derive(Serialize)]
struct Judged {
    bundle: String,
    name: String,
    #[serde(flatten)]
    table: Table,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    if !(0.2..=30.0).contains(&args.rate) {
        return Err(Error::config("--rate", "use 0.2 to 30 a second").into());
    }
    let truths = truths(args)?;
    let engine = args.engine.engine()?;
    let mut all = Vec::new();
    for path in &args.bundles {
        let bundle = Bundle::open(path)?;
        let name = bundle.manifest().name.clone();
        let cohort = Cohort::of(&bundle)?.ok_or_else(|| {
            let reason = "has no background cohort: put one in with `spotterd bundle cohort`";
            Error::config(format!("bundle {name}"), reason)
        })?;
        let scenes = scenes(args, &engine, &bundle, &truths)?;
        let scales = [
            judge::calibrated(&scenes, &cohort, args.budget)?,
            judge::elsewhere(&scenes, args.budget),
            judge::cosine(&scenes, Statistic::Looks),
            judge::cosine(&scenes, Statistic::View),
            judge::deviations(&scenes, &cohort)?,
        ];
        let table = judge::compare(&scenes, &scales, args.budget);
        all.push(Judged { bundle: bundle.generation().to_string(), name, table });
    }
    if args.json {
        super::print_json(&all)?;
    } else {
        super::print(&all.iter().map(text).collect::<String>())?;
    }
    if let Some(folder) = &args.out {
        let tables: Vec<(&str, &Table)> =
            all.iter().map(|judged| (judged.name.as_str(), &judged.table)).collect();
        let page = judge::page::write(folder, &tables)?;
        eprintln!("The page is {}.", page.display());
    }
    Ok(ExitCode::SUCCESS)
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
    let Judged { bundle, name, table } = judged;
    let mut text = format!(
        "{name} ({bundle}): {} recordings, {} texts, {} tracks; {} false alarms a recording allowed\n\n\
         {:<20} {:>8} {:>18} {:>13} {:>9} {:>20}  cut\n",
        table.scenes.len(),
        table.texts,
        table.tracks,
        table.budget,
        "policy",
        "found",
        "share",
        "false alarms",
        "delay s",
        "first finds more by"
    );
    for row in &table.rows {
        let share = |[from, to]: [f64; 2]| format!("{:.1} to {:.1}", 100.0 * from, 100.0 * to);
        let delay = row.median_delay_s.map_or("-".to_owned(), |delay| format!("{delay:.1}"));
        text += &format!(
            "{:<20} {:>8} {:>18} {:>13} {:>9} {:>20}  {:.4} ({})\n",
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
    text + "\n"
}
