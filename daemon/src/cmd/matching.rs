//! `spotterd match`: pictures against texts.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Args as ClapArgs;
use serde::Serialize;
use spotter_models::{Embedding, Rgb};

use crate::{
    alert::{reader::TowerReader, ready::TextReader},
    cmd::model::ModelArgs,
    detect::Detector,
    embed::Embedder,
    error::Error,
    picture,
};

/// Compare pictures of persons with texts
#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A text, such as "woman in a red coat"; give the option again for more
    #[arg(long = "text", value_name = "TEXT", required = true)]
    texts: Vec<String>,
    /// Find the persons in each picture first; without it a picture is one person's crop
    #[arg(long)]
    detect: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// JPEG or PNG files
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    bundle: String,
    texts: &'a [String],
    results: Vec<Scored>,
    /// Pictures that could not be compared, and why.
    errors: Vec<Failed>,
}

#[derive(Serialize)]
struct Scored {
    image: String,
    /// Where the person is in the picture, in pixels: left, top, right, bottom.
    #[serde(rename = "box", skip_serializing_if = "Option::is_none")]
    bbox: Option<[f32; 4]>,
    /// Cosine with each text, in the order of `texts`.
    scores: Vec<f32>,
}

#[derive(Serialize)]
struct Failed {
    image: String,
    error: String,
}

/// Boxes from here on count as persons; the same as where a track begins.
const PERSON_SCORE: f32 = 0.45;

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let opened = args.model.open()?;
    let mut reader = TowerReader::new(opened.text_tower()?)?;
    let read = |(index, text): (usize, &String)| {
        let text = reader
            .read(text)
            .map_err(|error| Error::config(format!("text {}", index + 1), error.to_string()))?;
        if let Some(lost) = &text.lost {
            eprintln!("spotterd: text {} is too long, not compared: {lost}", index + 1);
        }
        Ok(text.embedding)
    };
    let texts = args.texts.iter().enumerate().map(read).collect::<Result<Vec<_>>>()?;
    let mut comparison = Comparison {
        embedder: opened.embedder()?,
        detector: args.detect.then(|| opened.detector()).transpose()?,
        texts,
    };
    let mut report = Report {
        bundle: opened.bundle.generation().to_string(),
        texts: &args.texts,
        results: Vec::new(),
        errors: Vec::new(),
    };
    for image in &args.images {
        match comparison.compare(image) {
            Ok(scored) => report.results.extend(scored),
            Err(error) => {
                eprintln!("spotterd: {error}");
                report
                    .errors
                    .push(Failed { image: image.display().to_string(), error: error.to_string() });
            }
        }
    }
    if args.json {
        super::print_json(&report)?;
    } else {
        super::print(&table(&report))?;
    }
    Ok(if report.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Comparison {
    embedder: Embedder,
    detector: Option<Box<dyn Detector>>,
    texts: Vec<Embedding>,
}

impl Comparison {
    fn compare(&mut self, image: &Path) -> crate::Result<Vec<Scored>> {
        let whole = picture::read(image)?;
        let crops: Vec<(Option<[f32; 4]>, Rgb)> = match &mut self.detector {
            None => vec![(None, whole)],
            Some(detector) => persons(detector.as_mut(), &whole)?,
        };
        crops
            .into_iter()
            .map(|(bbox, crop)| {
                let embedding = self.embedder.embed(crop.view())?;
                let scores = self.texts.iter().map(|text| text.cosine(&embedding));
                let scores = scores.collect::<Result<_, _>>()?;
                Ok(Scored { image: image.display().to_string(), bbox, scores })
            })
            .collect()
    }
}

fn persons(
    detector: &mut dyn Detector,
    whole: &Rgb,
) -> crate::Result<Vec<(Option<[f32; 4]>, Rgb)>> {
    let found = detector.detect(whole, whole.width(), whole.height())?.detections;
    let crops = found.iter().filter(|d| d.score >= PERSON_SCORE).filter_map(|detection| {
        let bbox = detection.bbox;
        let rect = bbox.pixels(whole.width(), whole.height())?;
        let crop = whole.view().region(rect.x, rect.y, rect.width, rect.height)?.to_rgb();
        Some((Some([bbox.x1(), bbox.y1(), bbox.x2(), bbox.y2()]), crop))
    });
    Ok(crops.collect())
}

fn table(report: &Report<'_>) -> String {
    let mut table = String::new();
    for (index, text) in report.texts.iter().enumerate() {
        table += &format!("[{}] {text}\n", index + 1);
        let mut ranked: Vec<&Scored> = report.results.iter().collect();
        ranked.sort_by(|a, b| b.scores[index].total_cmp(&a.scores[index]));
        for scored in ranked {
            let place =
                |b: [f32; 4]| format!("  at {:.0},{:.0}–{:.0},{:.0}", b[0], b[1], b[2], b[3]);
            let place = scored.bbox.map(place).unwrap_or_default();
            table += &format!("  {:>7.4}  {}{place}\n", scored.scores[index], scored.image);
        }
    }
    let advice = "only their order within one text means something";
    table + &format!("\nCosines of bundle {}; {advice}.\n", report.bundle)
}
