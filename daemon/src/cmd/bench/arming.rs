//! `spotterd bench arm`: what it takes until many alerts are armed.

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;
use spotter_models::{Embedding, bundle::Bundle, cohort::Cohort};

use crate::{
    alert::{reader::TowerReader, ready::TextReader},
    clock::{Clock, Mono, SystemClock},
    cmd::{model::ModelArgs, print, print_json},
    error::Error,
    frame::CameraId,
    score::{Asked, Choice, History, Look, Passed, Sought, Study},
    track::TrackId,
};

/// Looks at a track.
const LOOKS: usize = 4;
/// Texts that go through the tower together, as the daemon reads them.
const TOGETHER: usize = 32;

/// Time until many alerts are armed: texts read, calibrated on a site's tracks, and cut together
///
/// The texts are descriptions that a witness might give, all of them different. The tracks are persons of
/// the bundle's cohort with noise: their number counts here, not who they are. One thread, as the daemon
/// does it.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// How many alerts
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    alerts: u32,
    /// How many tracks the texts are calibrated on
    #[arg(long, default_value_t = History::CAPACITY as u32, value_parser = clap::value_parser!(u32).range(0..=4096))]
    tracks: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Seconds.
#[derive(Serialize)]
struct Measured {
    bundle: String,
    alerts: u32,
    tracks: u32,
    read_seconds: f64,
    study_seconds: f64,
    cut_seconds: f64,
    seconds: f64,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let opened = args.model.open()?;
    let mut reader = TowerReader::new(opened.text_tower()?)?;
    let history = Arc::new(History::default());
    let now = Timestamp::UNIX_EPOCH;
    fill(&history, &opened.bundle, args.tracks as usize, now)?;
    let mut policy = Choice::Budget(2.0).open(&opened.bundle, history)?;
    policy.follow(now)?;
    let texts: Vec<String> = (0..args.alerts as usize).map(text).collect();
    let clock = SystemClock::new();
    let start = clock.now();
    let mut embeddings = Vec::with_capacity(texts.len());
    for texts in texts.chunks(TOGETHER) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for read in reader.read_all(&texts) {
            embeddings.push(read?.embedding);
        }
    }
    let read = clock.now();
    let studies: Vec<Study> = embeddings
        .iter()
        .map(|text| {
            let counts = |_: &CameraId| true;
            let sought = Sought::Words;
            let (counts, is_watched) = (&counts, true);
            policy.study(&Asked { text, sought, budget_per_day: None, counts, is_watched }, now)
        })
        .collect::<Result<_, Error>>()?;
    let studied = clock.now();
    let cutoffs = policy.cut(&studies.iter().collect::<Vec<_>>(), now);
    let end = clock.now();
    let seconds = |from: Mono, to: Mono| to.since(from).as_secs_f64();
    let measured = Measured {
        bundle: opened.bundle.generation().to_string(),
        alerts: args.alerts,
        tracks: args.tracks,
        read_seconds: seconds(start, read),
        study_seconds: seconds(read, studied),
        cut_seconds: seconds(studied, end),
        seconds: seconds(start, end),
    };
    match args.json {
        true => print_json(&measured)?,
        false => print(&format!(
            "{} alerts over {} tracks of {LOOKS} looks: {:.1} s: texts read {:.1} s, calibrated {:.1} s, \
             {} cut together {:.3} s\n",
            measured.alerts,
            measured.tracks,
            measured.seconds,
            measured.read_seconds,
            measured.study_seconds,
            cutoffs.len(),
            measured.cut_seconds
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Tracks of a site.
fn fill(history: &History, bundle: &Bundle, tracks: usize, now: Timestamp) -> Result<()> {
    let cohort = Cohort::of(bundle)?.ok_or_else(|| {
        Error::config("--bundle", "has no cohort; put one in with `spotterd bundle cohort`")
    })?;
    let camera = CameraId::new("bench").map_err(|error| Error::internal("camera", error))?;
    let mut random = SmallRng::seed_from_u64(1);
    for (track, person) in (0..tracks).zip(cohort.all().iter().cycle()) {
        let looks = (0..LOOKS).map(|_| {
            let noise = person.iter().map(|v| v + 0.05 * (random.random::<f32>() - 0.5)).collect();
            let embedding = Embedding::new(noise, bundle.generation())?;
            let quality = random.random_range(0.2..1.0);
            Ok(Look { embedding, quality, at: Mono::default() })
        });
        let looks = looks.collect::<Result<_, spotter_models::Error>>()?;
        let track = TrackId(track as u64);
        history.add(Passed { camera: camera.clone(), track, at: now, looks });
    }
    Ok(())
}

/// The text of this number; all of the first 32,768 differ.
fn text(number: usize) -> String {
    const COLOURS: [&str; 8] =
        ["red", "blue", "green", "yellow", "black", "white", "grey", "brown"];
    const WHO: [&str; 4] = ["man", "woman", "person", "teenager"];
    const TOPS: [&str; 4] = ["coat", "jacket", "shirt", "jumper"];
    const BELOW: [&str; 2] = ["trousers", "jeans"];
    const BAGS: [&str; 2] = ["backpack", "handbag"];
    let mut rest = number;
    let mut next = |words: &[&'static str]| -> &'static str {
        let word = words.get(rest % words.len()).copied().unwrap_or_default();
        rest /= words.len();
        word
    };
    let (top_colour, top, who) = (next(&COLOURS), next(&TOPS), next(&WHO));
    let (below_colour, below) = (next(&COLOURS), next(&BELOW));
    let (bag_colour, bag) = (next(&COLOURS), next(&BAGS));
    format!("{who} in a {top_colour} {top} and {below_colour} {below} with a {bag_colour} {bag}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::text;

    #[test]
    fn no_text_is_there_twice() {
        let texts: BTreeSet<String> = (0..32_768).map(text).collect();
        assert_eq!(texts.len(), 32_768);
        assert!(texts.contains("woman in a red coat and blue jeans with a black backpack"));
    }
}
