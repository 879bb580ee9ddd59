//! `spotterd bench calibration`: what calibration promises against what is observed on fresh persons.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};
use spotter_models::{
    Embedding,
    calibration::{Null, Scored},
    embedding::dot,
};

use crate::{
    alert::{reader::TowerReader, ready::TextReader},
    cmd::model::ModelArgs,
    embed::Embedder,
    error::Error,
    picture,
};

/// The rates that are promised.
const RATES: [f64; 4] = [1e-1, 1e-2, 1e-3, 1e-4];
/// The share of true matches that is mixed in, and the separation from which it must not matter.
const MIXED_IN: f64 = 0.05;
const SEPARATES_WELL: f64 = 3.0;
/// Fewest true matches by which a text's separation is measured.
const FEWEST_MATCHES: usize = 8;
/// Resamplings of the fresh persons for an interval.
const RESAMPLINGS: usize = 400;

/// Compare promised with observed false alarms on fresh persons
///
/// Texts are calibrated on the pictures of one folder, as a site's past, and watched on those of another.
/// A false alarm is a picture that the text does not fit, by the list of texts.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The site's past: a folder with captions.json, a list of {id, file_path}, and the pictures
    #[arg(long, value_name = "FOLDER")]
    site: PathBuf,
    /// The texts, {text, matches}, and which of the site's pictures each fits (tools/synth-persons/gen_alerts.py)
    #[arg(long, value_name = "FILE")]
    site_alerts: PathBuf,
    /// Fresh persons: such a folder
    #[arg(long, value_name = "FOLDER")]
    fresh: PathBuf,
    /// The same texts, and which of the fresh pictures each fits
    #[arg(long, value_name = "FILE")]
    fresh_alerts: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Picture {
    file_path: String,
}

#[derive(Deserialize)]
struct Alert {
    text: String,
    matches: BTreeSet<String>,
}

/// Pictures and the texts that fit them.
struct Folder {
    names: Vec<String>,
    embeddings: Vec<Embedding>,
    alerts: Vec<Alert>,
}

/// One promised rate.
#[derive(Serialize)]
struct Rate {
    promised: f64,
    /// Pooled over all texts, and its middle 95 % over resampled fresh pictures.
    observed: f64,
    interval: [f64; 2],
    /// The share of the texts whose own rate lies within a factor of 3.
    within_3: f64,
}

#[derive(Serialize)]
struct Report {
    bundle: String,
    site: usize,
    fresh: usize,
    texts: usize,
    rates: Vec<Rate>,
    /// With [`MIXED_IN`] true matches among the site's pictures: by separation of the texts.
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
    let mut embedder = opened.embedder()?;
    let mut reader = TowerReader::new(opened.text_tower()?)?;
    let site = folder(&mut embedder, &args.site, &args.site_alerts)?;
    let fresh = folder(&mut embedder, &args.fresh, &args.fresh_alerts)?;
    let texts = |folder: &Folder| -> Vec<String> {
        folder.alerts.iter().map(|alert| alert.text.clone()).collect()
    };
    if texts(&site) != texts(&fresh) {
        let reason = "holds other texts than --site-alerts: make both with the same seed";
        return Err(Error::config("--fresh-alerts", reason).into());
    }
    let read = |text: String| Ok(reader.read(&text)?.embedding);
    let texts: Vec<Embedding> = texts(&site).into_iter().map(read).collect::<Result<_>>()?;
    let scores = |folder: &Folder| -> Vec<Vec<f32>> {
        let of = |text: &Embedding| {
            folder.embeddings.iter().map(|person| dot(person.values(), text.values())).collect()
        };
        texts.iter().map(of).collect()
    };
    let (past, new) = (scores(&site), scores(&fresh));
    let report = Report {
        bundle: opened.bundle.generation().to_string(),
        site: site.names.len(),
        fresh: fresh.names.len(),
        texts: texts.len(),
        rates: rates(&past, &new, &fresh)?,
        mixed_in: mixed_in(&past, &new, (&site, &fresh))?,
    };
    match args.json {
        true => crate::cmd::print_json(&report)?,
        false => crate::cmd::print(&text(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn folder(embedder: &mut Embedder, folder: &Path, alerts: &Path) -> Result<Folder> {
    let read = |path: &Path| fs::read(path).map_err(Error::io(path));
    let pictures: Vec<Picture> = serde_json::from_slice(&read(&folder.join("captions.json"))?)?;
    let alerts: Vec<Alert> = serde_json::from_slice(&read(alerts)?)?;
    let mut embeddings = Vec::with_capacity(pictures.len());
    for picture in &pictures {
        let picture = picture::read(&folder.join(&picture.file_path))?;
        embeddings.push(embedder.embed(picture.view())?);
    }
    let names = pictures.into_iter().map(|picture| picture.file_path).collect();
    Ok(Folder { names, embeddings, alerts })
}

fn null(scores: impl Iterator<Item = f32>) -> Result<Null> {
    let sample: Vec<Scored> = scores.map(|score| Scored { score, weight: 1.0 }).collect();
    Ok(Null::fit(&sample)?)
}

impl Folder {
    fn fits(&self, text: usize, picture: usize) -> bool {
        self.alerts[text].matches.contains(&self.names[picture])
    }

    /// The share of the pictures that a text does not fit which reach a threshold.
    fn rate(&self, text: usize, scores: &[f32], threshold: f32) -> f64 {
        let (mut reached, mut all) = (0u32, 0u32);
        for (_, score) in scores.iter().enumerate().filter(|(p, _)| !self.fits(text, *p)) {
            all += 1;
            reached += u32::from(*score >= threshold);
        }
        f64::from(reached) / f64::from(all.max(1))
    }
}

fn rates(past: &[Vec<f32>], new: &[Vec<f32>], fresh: &Folder) -> Result<Vec<Rate>> {
    let nulls: Vec<Null> =
        past.iter().map(|scores| null(scores.iter().copied())).collect::<Result<_>>()?;
    let mut rates = Vec::new();
    for promised in RATES {
        // For each fresh picture: in how many texts it is a false alarm, and in how many it could be.
        let mut pictures = vec![(0u32, 0u32); fresh.names.len()];
        let mut within = 0;
        for (text, scores) in new.iter().enumerate() {
            let threshold = nulls[text].threshold(promised);
            for (picture, score) in scores.iter().enumerate() {
                if !fresh.fits(text, picture) {
                    pictures[picture].0 += u32::from(*score >= threshold);
                    pictures[picture].1 += 1;
                }
            }
            let ratio = fresh.rate(text, scores, threshold) / promised;
            within += u32::from((1.0 / 3.0..=3.0).contains(&ratio));
        }
        rates.push(Rate {
            promised,
            observed: pooled(pictures.iter()),
            interval: interval(&pictures),
            within_3: f64::from(within) / new.len().max(1) as f64,
        });
    }
    Ok(rates)
}

fn pooled<'a>(pictures: impl Iterator<Item = &'a (u32, u32)>) -> f64 {
    let (mut alarms, mut all) = (0.0, 0.0);
    for (alarm, one) in pictures {
        alarms += f64::from(*alarm);
        all += f64::from(*one);
    }
    if all > 0.0 { alarms / all } else { 0.0 }
}

fn interval(pictures: &[(u32, u32)]) -> [f64; 2] {
    let mut rng = SmallRng::seed_from_u64(5);
    let mut drawn: Vec<f64> = (0..RESAMPLINGS)
        .map(|_| {
            let some: Vec<&(u32, u32)> = (0..pictures.len())
                .map(|_| &pictures[rng.random_range(0..pictures.len())])
                .collect();
            pooled(some.into_iter())
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    [drawn[RESAMPLINGS / 40], drawn[RESAMPLINGS - 1 - RESAMPLINGS / 40]]
}

/// What true matches in the past do: drawn with replacement from the matches of both folders, so that
/// they are a twentieth of it.
fn mixed_in(
    past: &[Vec<f32>],
    new: &[Vec<f32>],
    (site, fresh): (&Folder, &Folder),
) -> Result<Vec<Mixed>> {
    let mut rng = SmallRng::seed_from_u64(6);
    let mut texts: Vec<(f64, f64, f64)> = Vec::new();
    for text in 0..past.len() {
        let split = |folder: &Folder, scores: &[f32]| -> (Vec<f32>, Vec<f32>) {
            let all = scores.iter().copied().enumerate();
            let (matches, others): (Vec<_>, Vec<_>) = all.partition(|(p, _)| folder.fits(text, *p));
            let scores = |list: Vec<(usize, f32)>| list.into_iter().map(|(_, s)| s).collect();
            (scores(matches), scores(others))
        };
        let (mut matches, others) = split(site, &past[text]);
        let (more, watched) = split(fresh, &new[text]);
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
        "{} texts calibrated on {} pictures, watched on {} fresh ones; bundle {}\n\n\
         {:>9} {:>11} {:>24} {:>8} {:>10}\n",
        report.texts,
        report.site,
        report.fresh,
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
    text += "\nwith 5 % true matches in the past, observed over promised at 1e-2:\n\
             separation (d')   texts   none mixed in   mixed in\n";
    for Mixed { separation: [from, to], texts, without, with } in &report.mixed_in {
        let to = if *to > 50.0 { "".to_owned() } else { format!("to {to}") };
        text +=
            &format!("{:<17} {texts:>5} {without:>15.2} {with:>10.2}\n", format!("{from} {to}"));
    }
    text
}
