//! `spotterd replay`: recordings through the pipeline.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Serialize;
use spotter_models::bundle::Bundle;

use crate::{
    alert::{
        file::{self, Wanted},
        phrases::phrases,
        reader::TowerReader,
        ready::TextReader,
    },
    clock::SystemClock,
    cmd::model::EngineArgs,
    embed::{self, Embedder},
    engine::Engine,
    error::Error,
    frame::{CameraId, Pts},
    metrics::Stopwatch,
    replay::{Bill, Matching, Meter, Recording, Replay, Trace},
    report,
    score::{Armed, ArmedAlert, Asked, Choice, Cutoff, Matcher, Sought, Study},
    sighting::{Event, Sighting},
    truth::{Agreement, Truth},
};

/// Run recordings through the pipeline, every frame, and report what was seen
#[derive(clap::Args)]
pub struct Args {
    /// The model bundle, or a store of them; without it persons are tracked, not compared
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<PathBuf>,
    /// A recording; give the option again for more
    #[arg(long = "video", value_name = "FILE", required = true)]
    videos: Vec<PathBuf>,
    /// Texts to look for: a JSON list of texts, or of objects with id and text
    #[arg(long, value_name = "FILE", requires = "bundle")]
    alerts: Option<PathBuf>,
    /// Who is where in the recording; give it once for each video, in the same order
    #[arg(long, value_name = "FILE")]
    truth: Vec<PathBuf>,
    /// When a score is a sighting: budget=N, with N the false alarms a day that can be borne for each
    /// text; zscore=Z, with Z the standard deviations above what the text scores on the bundle's
    /// background cohort; or fixed=X, with X a cosine
    #[arg(long, default_value_t, value_name = "POLICY")]
    policy: Choice,
    /// Frames a second of the recording that are looked at
    #[arg(long, default_value_t = 5.0, value_name = "HZ")]
    rate: f64,
    /// Look at frames, too, in which nothing moves and nobody is followed
    #[arg(long)]
    every_look: bool,
    /// Write sightings, tracks and summary as JSON; `-` is standard output
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// Write a page with pictures into this folder
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Serialize)]
struct Output<'a> {
    sightings: Vec<&'a Sighting>,
    tracks: BTreeMap<&'a str, BTreeMap<u64, &'a Trace>>,
    summary: Summary<'a>,
}

#[derive(Serialize)]
struct Summary<'a> {
    bundle: Option<String>,
    frames: u64,
    looked_at: u64,
    failed: u64,
    /// Recordings that could not be read, or not to their end, and why.
    broken: &'a BTreeMap<String, String>,
    /// Data that could not be decoded.
    warnings: u64,
    seconds: f64,
    tracks: u64,
    sightings: u64,
    truth: BTreeMap<&'a str, &'a Agreement>,
    cost: &'a Bill,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    if !(0.2..=30.0).contains(&args.rate) {
        return Err(Error::config("--rate", "use 0.2 to 30 a second").into());
    }
    if !args.truth.is_empty() && args.truth.len() != args.videos.len() {
        return Err(Error::config("--truth", "give one truth file for each video").into());
    }
    let truths = args.truth.iter().map(|path| Truth::read(path)).collect::<Result<Vec<_>, _>>()?;
    let engine = args.engine.engine()?;
    let (bundle, matching) = match &args.bundle {
        Some(path) => {
            let bundle = Bundle::open(path)?;
            let matching = open_matching(args, &engine, &bundle)?;
            (Some(bundle.generation().to_string()), Some(matching))
        }
        None => (None, None),
    };
    let mut replay = Replay {
        detector: engine.detector(&args.engine.detector)?,
        matching,
        rate_hz: args.rate,
        every_look: args.every_look,
        ids: Arc::default(),
        stopwatch: Stopwatch::new(Arc::new(SystemClock::new())),
        progress: Box::new(|_| {}),
    };
    let output = args.json.as_deref().map(create).transpose()?;
    let meter = Meter::start();
    let mut recordings: Vec<(String, Recording)> = Vec::new();
    let mut broken = BTreeMap::new();
    let mut agreements = Vec::new();
    for (index, video) in args.videos.iter().enumerate() {
        let camera = camera_of(video, &recordings)?;
        replay.progress = progress(camera.as_str());
        match replay.run(&camera, video) {
            Ok(recording) => {
                if let Some(why) = &recording.broken_off {
                    broken.insert(video.display().to_string(), why.clone());
                }
                if let Some(truth) = truths.get(index) {
                    agreements.push((camera.to_string(), recording.compare(truth)?));
                }
                recordings.push((camera.to_string(), recording));
            }
            Err(error) => {
                broken.insert(video.display().to_string(), error.to_string());
            }
        }
    }
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    let bill = meter.bill(&replay.stopwatch);
    let truth = agreements.iter().map(|(camera, agreement)| (camera.as_str(), agreement));
    let collected = collect(&recordings, (truth.collect(), &broken), bundle, &bill);
    print_summary(&collected);
    if let Some(mut output) = output {
        let text = serde_json::to_string_pretty(&collected)? + "\n";
        output.write_all(text.as_bytes()).context("the JSON cannot be written")?;
    }
    if let Some(folder) = &args.report {
        report::write(folder, &recordings, &bill)?;
        eprintln!("The page is {}.", folder.join("index.html").display());
    }
    Ok(match (broken.is_empty(), recordings.is_empty()) {
        (true, _) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(3),
    })
}

/// Opened before the work, so that a place that cannot be written is known before an hour is spent.
fn create(path: &Path) -> Result<Box<dyn Write>> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdout()));
    }
    let file = std::fs::File::create(path)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(Box::new(file))
}

fn open_matching(args: &Args, engine: &Engine, bundle: &Bundle) -> Result<Matching> {
    let wanted = args.alerts.as_deref().map(file::read).transpose()?.unwrap_or_default();
    // Without texts no policy is asked, whatever the bundle lacks for it.
    let policy = match wanted.is_empty() {
        true => Choice::Fixed(1.0).open(bundle, Arc::default())?,
        false => args.policy.open(bundle, Arc::default())?,
    };
    let mut reader = TowerReader::new(embed::text_tower(engine, bundle)?)?;
    let read = |Wanted { id, text: wanted }| {
        let text = reader
            .read(&wanted)
            .map_err(|error| Error::config(format!("alert {id}"), error.to_string()))?;
        if let Some(lost) = &text.lost {
            eprintln!("spotterd: alert {id} is too long, not looked for: {lost}");
        }
        let asked = Asked {
            text: &text.embedding,
            sought: Sought::Words,
            budget_per_day: None,
            counts: &|_| true,
            is_watched: true,
        };
        let study = policy.study(&asked, Timestamp::UNIX_EPOCH)?;
        // A phrase that cannot be read explains nothing; the text itself was read.
        let read = |phrase: String| reader.read(&phrase).ok().map(|text| (phrase, text.embedding));
        let phrases = phrases(&wanted).into_iter().filter_map(read).collect();
        let (understood, text) = (text.understood, text.embedding);
        let (revision, spec, without, cutoff) = (None, None, Vec::new(), Cutoff::never());
        let alert = ArmedAlert { id, revision, spec, understood, text, without, phrases, cutoff };
        Ok((alert, study))
    };
    let mut read = wanted.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    let studies: Vec<&Study> = read.iter().map(|(_, study)| study).collect();
    let cutoffs = policy.cut(&studies, Timestamp::UNIX_EPOCH);
    read.iter_mut().zip(cutoffs).for_each(|((alert, _), cutoff)| alert.cutoff = cutoff);
    let armed = read.into_iter().map(|(alert, _)| alert).collect();
    let embedder = Embedder::open(engine, bundle)?;
    let matcher = Matcher::new(Arc::new(Armed::new(armed)?), Arc::default());
    Ok(Matching::new(embedder, matcher))
}

/// The file's name as a camera's: other characters become dashes, a second one gets a number.
fn camera_of(video: &Path, others: &[(String, Recording)]) -> Result<CameraId> {
    let stem = video.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(plain).take(56).collect();
    let name = if name.is_empty() { "video".to_owned() } else { name };
    let is_free = |name: &String| others.iter().all(|(other, _)| other != name);
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(is_free);
    Ok(CameraId::new(&free.unwrap_or(name))?)
}

fn progress(camera: &str) -> Box<dyn FnMut(Pts)> {
    let camera = camera.to_owned();
    let terminal = std::io::stderr().is_terminal();
    let mut shown = 0;
    Box::new(move |pts| {
        if terminal && pts.0.as_secs() != shown {
            shown = pts.0.as_secs();
            eprint!("\r{camera}: {shown} s\x1b[K");
        }
    })
}

fn collect<'a>(
    recordings: &'a [(String, Recording)],
    (truth, broken): (BTreeMap<&'a str, &'a Agreement>, &'a BTreeMap<String, String>),
    bundle: Option<String>,
    cost: &'a Bill,
) -> Output<'a> {
    let all = || recordings.iter().map(|(_, recording)| recording);
    let sightings: Vec<&Sighting> = all().flat_map(|r| &r.sightings).collect();
    let summary = Summary {
        bundle,
        frames: all().map(|r| r.frames).sum(),
        looked_at: all().map(|r| r.looks.len() as u64).sum(),
        failed: all().map(|r| r.failed).sum(),
        broken,
        warnings: all().map(|r| r.warnings).sum(),
        seconds: all().map(|r| r.seconds).sum(),
        tracks: all().map(|r| r.tracks.len() as u64).sum(),
        sightings: sightings.iter().filter(|s| s.event == Event::New).count() as u64,
        truth,
        cost,
    };
    let tracks = recordings.iter().map(|(camera, recording)| {
        let traces = recording.tracks.iter().map(|(id, trace)| (id.0, trace)).collect();
        (camera.as_str(), traces)
    });
    Output { sightings, tracks: tracks.collect(), summary }
}

fn print_summary(output: &Output<'_>) {
    let summary = &output.summary;
    eprintln!(
        "{} frames, {:.0} s; looked at {}; {} tracks; {} sightings",
        summary.frames, summary.seconds, summary.looked_at, summary.tracks, summary.sightings
    );
    for (video, why) in summary.broken {
        eprintln!("{video}: {why}");
    }
    if summary.warnings > 0 || summary.failed > 0 {
        eprintln!(
            "{} pieces of data could not be decoded; {} frames or views could not be worked on",
            summary.warnings, summary.failed
        );
    }
    for (camera, agreement) in &summary.truth {
        eprintln!(
            "{camera}: recall {:.3}, precision {:.3}; {} visits of {} persons; {} identity switches, \
             {} of them lasting",
            agreement.recall,
            agreement.precision,
            agreement.visits,
            agreement.persons,
            agreement.switches,
            agreement.lasting
        );
    }
    let bill = summary.cost;
    eprintln!(
        "\n{:<10} {:>7} {:>10} {:>10} {:>12}",
        "stage", "items", "wall s", "cpu s", "ms per item"
    );
    for (stage, cost) in bill.stages.iter().filter(|(_, cost)| cost.items > 0) {
        eprintln!(
            "{:<10} {:>7} {:>10.3} {:>10.3} {:>12.3}",
            stage.name(),
            cost.items,
            cost.wall.as_secs_f64(),
            cost.cpu.as_secs_f64(),
            1e3 * cost.wall.as_secs_f64() / cost.items as f64
        );
    }
    let share = |cpu: f64| if bill.cpu_s > 0.0 { 100.0 * cpu / bill.cpu_s } else { 0.0 };
    eprintln!(
        "\nprocessor {:.2} s: decoding {:.1} %, detector {:.1} %, tower {:.1} %, all else {:.1} %",
        bill.cpu_s,
        share(bill.decode_cpu_s),
        share(bill.detector_cpu_s),
        share(bill.tower_cpu_s),
        share(bill.own_cpu_s)
    );
}
