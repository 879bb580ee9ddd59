//! `spotterd bench calibration`: what calibration promises against what is observed on fresh persons.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;
use spotter_models::{
    Embedding, Generation,
    calibration::{Null, Scored},
    cohort::Cohort,
};

use super::tracks::{self, Alert, Named, Tracks};
use crate::{
    alert::{reader::TowerReader, ready::TextReader},
    cmd::model::ModelArgs,
    error::Error,
    score::{Passed, Reference},
};

/// The rates that are promised.
const RATES: [f64; 5] = [1e-1, 5e-2, 1e-2, 1e-3, 1e-4];
/// The share of true matches that is mixed in, and the separation from which it must not matter.
const MIXED_IN: f64 = 0.05;
const SEPARATES_WELL: f64 = 3.0;
/// Fewest true matches by which a text's separation is measured.
const FEWEST_MATCHES: usize = 8;
/// Resamplings of the fresh tracks for an interval.
const RESAMPLINGS: usize = 400;

/// Compare promised with observed false alarms on fresh persons
///
/// Texts are calibrated on some tracks, as a site's past, by the daemon's own rules, and watched on others.
/// What counts of a track is what the daemon decides by, the largest score over its looks. A false alarm
/// is a track that the text does not fit, by the list of texts.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The site's past: a recording, with its truth.json beside it where there is one, or a folder with
    /// captions.json, a list of {id, file_path}, and the pictures; pictures of one id that follow each
    /// other are one track. Give the option again for more. Without it the fresh tracks of each source are
    /// cut in two halves, each judged by the other
    #[arg(long, value_name = "PATH", requires = "site_alerts")]
    site: Vec<PathBuf>,
    /// The texts, {text, matches}, and which of the site's tracks each fits (tools/synth-persons/gen_alerts.py)
    #[arg(long, value_name = "FILE", requires = "site")]
    site_alerts: Option<PathBuf>,
    /// Fresh persons, as for --site
    #[arg(long, value_name = "PATH", required = true)]
    fresh: Vec<PathBuf>,
    /// The same texts, and which of the fresh tracks each fits
    #[arg(long, value_name = "FILE")]
    fresh_alerts: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Tracks and the texts that fit them.
struct Sample<'a> {
    tracks: Vec<&'a Named>,
    alerts: &'a [Alert],
}

/// What texts score on a site's past, and on whom they are watched.
struct Fold<'a> {
    site: Sample<'a>,
    fresh: Sample<'a>,
    /// By text, then track.
    past: Vec<Vec<f32>>,
    new: Vec<Vec<f32>>,
    nulls: Vec<Null>,
}

/// One promised rate.
#[derive(Serialize)]
struct Rate {
    promised: f64,
    /// Pooled over all texts, and its middle 95 % over resampled fresh tracks.
    observed: f64,
    interval: [f64; 2],
    /// The share of the texts whose own rate lies within a factor of 3.
    within_3: f64,
}

#[derive(Serialize)]
struct Report {
    bundle: String,
    /// Tracks that each text is calibrated on, and watched on; looks at each of these.
    site: usize,
    fresh: usize,
    looks_per_track: f64,
    texts: usize,
    rates: Vec<Rate>,
    /// With [`MIXED_IN`] true matches among the site's tracks: by separation of the texts.
    mixed_in: Vec<Mixed>,
}

/// Texts of a separation, with true matches mixed into their past.
#[derive(Serialize)]
struct Mixed {
    separation: [f64; 2],
    texts: usize,
    /// Observed over promised at 1e-2, with none mixed in and with some.
    without: f64,
    with: f64,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let opened = args.model.open()?;
    let cohort = Cohort::of(&opened.bundle)?;
    let fresh_alerts = tracks::alerts(&args.fresh_alerts)?;
    let site_alerts = args.site_alerts.as_ref().map(tracks::alerts).transpose()?;
    if site_alerts.as_ref().is_some_and(|of_site| !are_same(of_site, &fresh_alerts)) {
        let reason = "holds other texts than --site-alerts: make both with the same seed";
        return Err(Error::config("--fresh-alerts", reason).into());
    }
    let mut reader = TowerReader::new(opened.text_tower()?)?;
    let read = |alert: &Alert| Ok(reader.read(&alert.text)?.embedding);
    let texts: Vec<Embedding> = fresh_alerts.iter().map(read).collect::<Result<_>>()?;
    let mut all = Tracks::new(&opened)?;
    let mut read = |paths: &[PathBuf]| -> Result<Vec<Vec<Named>>> {
        paths.iter().map(|path| all.read(path)).collect()
    };
    let (site, fresh) = (read(&args.site)?, read(&args.fresh)?);
    let calibrate = Calibrate { cohort: cohort.as_ref(), texts: &texts };
    let folds = match site_alerts.as_deref() {
        Some(alerts) => {
            let site = Sample { tracks: site.iter().flatten().collect(), alerts };
            let fresh = Sample { tracks: fresh.iter().flatten().collect(), alerts: &fresh_alerts };
            vec![calibrate.fold(site, fresh)?]
        }
        None => {
            let [one, other] = halves(&fresh, &fresh_alerts);
            let [again_one, again_other] = halves(&fresh, &fresh_alerts);
            vec![calibrate.fold(one, other)?, calibrate.fold(again_other, again_one)?]
        }
    };
    let report = report(&opened.bundle.generation(), &folds)?;
    match args.json {
        true => crate::cmd::print_json(&report)?,
        false => crate::cmd::print(&text(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn are_same(one: &[Alert], other: &[Alert]) -> bool {
    one.iter().map(|alert| &alert.text).eq(other.iter().map(|alert| &alert.text))
}

/// Each source's earlier tracks, and its later ones.
fn halves<'a>(sources: &'a [Vec<Named>], alerts: &'a [Alert]) -> [Sample<'a>; 2] {
    let (mut earlier, mut later) = (Vec::new(), Vec::new());
    for source in sources {
        let (one, other) = source.split_at(source.len() / 2);
        earlier.extend(one);
        later.extend(other);
    }
    [earlier, later].map(|tracks| Sample { tracks, alerts })
}

struct Calibrate<'a> {
    cohort: Option<&'a Cohort>,
    texts: &'a [Embedding],
}

impl Calibrate<'_> {
    fn fold<'a>(&self, site: Sample<'a>, fresh: Sample<'a>) -> Result<Fold<'a>> {
        let first = self.texts.first().ok_or_else(|| Error::config("the list", "holds no text"))?;
        let (generation, width) = (first.generation(), first.values().len());
        let reference = |sample: &Sample, cohort| {
            let tracks = sample.tracks.iter().map(|named| named.passed.clone());
            let passed: Vec<Passed> = tracks.collect();
            Reference::new(generation, width, cohort, &passed)
        };
        let (past, watched) = (reference(&site, self.cohort)?, reference(&fresh, None)?);
        let mut fold = Fold { site, fresh, past: vec![], new: vec![], nulls: vec![] };
        for text in self.texts {
            let scores = past.score(text)?;
            fold.nulls.push(past.null(&scores, |_| true)?);
            fold.past.push(scores.of_site().to_vec());
            fold.new.push(watched.score(text)?.of_site().to_vec());
        }
        Ok(fold)
    }
}

impl Sample<'_> {
    fn fits(&self, text: usize, track: usize) -> bool {
        self.tracks[track].names.iter().any(|name| self.alerts[text].matches.contains(name))
    }

    /// How many of the tracks that a text does not fit reach a threshold, and how many there are.
    fn reached(&self, text: usize, scores: &[f32], threshold: f32) -> (u32, u32) {
        let others = scores.iter().enumerate().filter(|(track, _)| !self.fits(text, *track));
        others.fold((0, 0), |(reached, all), (_, score)| {
            (reached + u32::from(*score >= threshold), all + 1)
        })
    }
}

fn report(generation: &Generation, folds: &[Fold]) -> Result<Report> {
    let fresh: usize = folds.iter().map(|fold| fold.fresh.tracks.len()).sum();
    let looks = folds.iter().flat_map(|fold| &fold.fresh.tracks);
    let looks: usize = looks.map(|named| named.passed.looks.len()).sum();
    let (site, texts) =
        folds.first().map_or((0, 0), |fold| (fold.site.tracks.len(), fold.new.len()));
    let mixed_in = match folds {
        [fold] => mixed_in(fold)?,
        _ => Vec::new(),
    };
    Ok(Report {
        bundle: generation.to_string(),
        site,
        fresh,
        looks_per_track: looks as f64 / fresh.max(1) as f64,
        texts,
        rates: RATES.map(|promised| rate(folds, promised)).into(),
        mixed_in,
    })
}

/// Fits to what a text scored, each track once.
fn null(scores: impl Iterator<Item = f32>) -> Result<Null> {
    let sample: Vec<Scored> = scores.map(|score| Scored { score, weight: 1.0 }).collect();
    Ok(Null::fit(&sample)?)
}

fn rate(folds: &[Fold], promised: f64) -> Rate {
    // For each fresh track: in how many texts it is a false alarm, and in how many it could be.
    let mut tracks = Vec::new();
    let texts = folds.first().map_or(0, |fold| fold.new.len());
    let mut of_texts = vec![(0u32, 0u32); texts];
    for fold in folds {
        let mut of_tracks = vec![(0u32, 0u32); fold.fresh.tracks.len()];
        for (text, scores) in fold.new.iter().enumerate() {
            let threshold = fold.nulls[text].threshold(promised);
            for (track, score) in scores.iter().enumerate() {
                if !fold.fresh.fits(text, track) {
                    of_tracks[track].0 += u32::from(*score >= threshold);
                    of_tracks[track].1 += 1;
                }
            }
            let (reached, all) = fold.fresh.reached(text, scores, threshold);
            of_texts[text].0 += reached;
            of_texts[text].1 += all;
        }
        tracks.extend(of_tracks);
    }
    let is_near = |(reached, all): &&(u32, u32)| {
        let ratio = f64::from(*reached) / f64::from((*all).max(1)) / promised;
        (1.0 / 3.0..=3.0).contains(&ratio)
    };
    Rate {
        promised,
        observed: pooled(tracks.iter()),
        interval: interval(&tracks),
        within_3: of_texts.iter().filter(is_near).count() as f64 / texts.max(1) as f64,
    }
}

fn pooled<'a>(tracks: impl Iterator<Item = &'a (u32, u32)>) -> f64 {
    let (mut alarms, mut all) = (0.0, 0.0);
    for (alarm, one) in tracks {
        alarms += f64::from(*alarm);
        all += f64::from(*one);
    }
    if all > 0.0 { alarms / all } else { 0.0 }
}

fn interval(tracks: &[(u32, u32)]) -> [f64; 2] {
    let mut rng = SmallRng::seed_from_u64(5);
    let mut drawn: Vec<f64> = (0..RESAMPLINGS)
        .map(|_| {
            let some: Vec<&(u32, u32)> =
                (0..tracks.len()).map(|_| &tracks[rng.random_range(0..tracks.len())]).collect();
            pooled(some.into_iter())
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    [drawn[RESAMPLINGS / 40], drawn[RESAMPLINGS - 1 - RESAMPLINGS / 40]]
}

/// What true matches in the past do: drawn with replacement from the matches of both samples, so that
/// they are a twentieth of it.
fn mixed_in(fold: &Fold) -> Result<Vec<Mixed>> {
    let mut rng = SmallRng::seed_from_u64(6);
    let mut texts: Vec<(f64, f64, f64)> = Vec::new();
    for text in 0..fold.past.len() {
        let split = |sample: &Sample, scores: &[f32]| -> (Vec<f32>, Vec<f32>) {
            let all = scores.iter().copied().enumerate();
            let (matches, others): (Vec<_>, Vec<_>) =
                all.partition(|(track, _)| sample.fits(text, *track));
            let scores = |list: Vec<(usize, f32)>| list.into_iter().map(|(_, s)| s).collect();
            (scores(matches), scores(others))
        };
        let (mut matches, others) = split(&fold.site, &fold.past[text]);
        let (more, watched) = split(&fold.fresh, &fold.new[text]);
        matches.extend(more);
        if matches.len() < FEWEST_MATCHES {
            continue;
        }
        let (mean, deviation) = moments(&watched);
        let separation = (moments(&matches).0 - mean) / deviation.max(1e-9);
        let count = (MIXED_IN / (1.0 - MIXED_IN) * others.len() as f64) as usize;
        // A drawn match comes again as another picture of the person would: not exactly.
        let again = (0..count).map(|_| {
            let noise = rng.random::<f32>() + rng.random::<f32>() + rng.random::<f32>() - 1.5;
            matches[rng.random_range(0..matches.len())] + 0.04 * noise
        });
        let again: Vec<f32> = again.collect();
        let rate = |null: &Null| {
            let threshold = null.threshold(1e-2);
            let reached = watched.iter().filter(|score| **score >= threshold).count();
            reached as f64 / watched.len().max(1) as f64 / 1e-2
        };
        let clean = null(others.iter().copied())?;
        let mixed = null(others.iter().copied().chain(again))?;
        texts.push((separation, rate(&clean), rate(&mixed)));
    }
    let bands = [[0.0, 2.0], [2.0, 2.5], [2.5, SEPARATES_WELL], [SEPARATES_WELL, 99.0]];
    let band = |[from, to]: [f64; 2]| {
        let inside: Vec<&(f64, f64, f64)> =
            texts.iter().filter(|(separation, ..)| (from..to).contains(separation)).collect();
        let mean = |of: fn(&(f64, f64, f64)) -> f64| {
            inside.iter().map(|text| of(text)).sum::<f64>() / inside.len().max(1) as f64
        };
        let (without, with) = (mean(|text| text.1), mean(|text| text.2));
        Mixed { separation: [from, to], texts: inside.len(), without, with }
    };
    Ok(bands.into_iter().map(band).collect())
}

fn moments(scores: &[f32]) -> (f64, f64) {
    let count = scores.len().max(1) as f64;
    let mean = scores.iter().map(|score| f64::from(*score)).sum::<f64>() / count;
    let squares: f64 = scores.iter().map(|score| (f64::from(*score) - mean).powi(2)).sum();
    (mean, (squares / count).sqrt())
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{} texts calibrated on {} tracks, watched on {} fresh ones with {:.1} looks each; bundle {}\n\n\
         {:>9} {:>11} {:>24} {:>8} {:>10}\n",
        report.texts,
        report.site,
        report.fresh,
        report.looks_per_track,
        report.bundle,
        "promised",
        "observed",
        "95 %",
        "ratio",
        "within 3x"
    );
    for Rate { promised, observed, interval: [from, to], within_3 } in &report.rates {
        text += &format!(
            "{promised:>9.0e} {observed:>11.2e} {:>24} {:>8.2} {:>8.1} %\n",
            format!("{from:.2e} to {to:.2e}"),
            observed / promised,
            100.0 * within_3
        );
    }
    if report.mixed_in.is_empty() {
        return text;
    }
    text += "\nwith 5 % true matches in the past, observed over promised at 1e-2:\n\
             separation (d')   texts   none mixed in   mixed in\n";
    for Mixed { separation: [from, to], texts, without, with } in &report.mixed_in {
        let to = if *to > 50.0 { "".to_owned() } else { format!("to {to}") };
        text +=
            &format!("{:<17} {texts:>5} {without:>15.2} {with:>10.2}\n", format!("{from} {to}"));
    }
    text
}
