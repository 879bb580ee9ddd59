//! `spotter-trainer evaluate`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use spotter_models::{
    bundle::Bundle,
    session::{Precision, Runtime, SessionOptions},
};
use tch::Device;

use super::{place::check_file, print, print_json};
use crate::{
    base::Base,
    dataset::Dataset,
    evaluate::{BundleEmbedder, Choice, Embedder, Ids, NetEmbedder, Part, Report, evaluate, page},
    run::Finished,
    tell,
};

/// Arguments of `evaluate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The data set's folder
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Which split of it
    #[arg(long, value_enum, default_value_t)]
    split: Part,
    /// Let equal captions of one person ask once; the protocol of the papers lets every caption ask
    #[arg(long)]
    distinct: bool,
    /// Only these persons, such as 1-3500 or 3501-
    #[arg(long, value_name = "NUMBERS")]
    ids: Option<Ids>,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
    /// Write a page with curves and the queries that went best and worst
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Which model, and what runs it.
#[derive(clap::Args)]
struct ModelArgs {
    #[command(flatten)]
    source: Source,
    /// Number format of the bundle's towers; the most exact that it holds if absent. Only with --bundle
    #[arg(long)]
    precision: Option<Precision>,
    /// Threads inside an operator of a bundle's tower; 2 if absent. Only with --bundle
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// The ONNX Runtime library for a bundle, where it is not found by itself
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
}

/// Where the model is.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Source {
    /// A bundle, or a store of them, as spotterd runs it
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["run", "base"])]
    bundle: Option<PathBuf>,
    /// A finished run of `train`
    #[arg(long, value_name = "FOLDER")]
    run: Option<PathBuf>,
    /// A base model as it is, with nothing trained: zero-shot. With --run: where the run's base is now
    #[arg(long, value_name = "FOLDER")]
    base: Option<PathBuf>,
}

impl ModelArgs {
    fn open(&self) -> Result<Box<dyn Embedder>> {
        if self.source.bundle.is_none() {
            self.refuse_options_of_bundles()?;
        }
        match &self.source {
            Source { bundle: Some(folder), .. } => Ok(Box::new(self.open_bundle(folder)?)),
            Source { run: Some(folder), .. } => {
                let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
                let name = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let run = Finished::open_with(folder, self.source.base.as_deref())?;
                super::warn_unchecked(folder, run.unchecked().as_deref());
                Ok(Box::new(NetEmbedder::of_run(&run, name, Device::Cpu)?))
            }
            Source { base: Some(folder), .. } => {
                Ok(Box::new(NetEmbedder::of_base(&Base::open(folder)?, Device::Cpu)?))
            }
            // The command line's parser lets nobody get here.
            _ => Err(crate::Error::invalid("model", "name one: --bundle, --run or --base").into()),
        }
    }
}

impl ModelArgs {
    /// Libtorch computes runs and bases, always in 32 bits: an option that would do nothing there would
    /// let its figures be taken for others.
    fn refuse_options_of_bundles(&self) -> Result<()> {
        let given = [
            ("--precision", self.precision.is_some()),
            ("--threads", self.threads.is_some()),
            ("--library", self.library.is_some()),
        ];
        let Some((option, _)) = given.into_iter().find(|(_, is_given)| *is_given) else {
            return Ok(());
        };
        let reason = "is only for --bundle: a run or a base is computed by libtorch in f32. Leave it out, \
                      or export the model (`spotter-trainer export`) and evaluate the bundle";
        Err(crate::Error::invalid(option, reason).into())
    }

    fn open_bundle(&self, folder: &Path) -> Result<BundleEmbedder> {
        if folder.join("pack.json").is_file() {
            let reason =
                "is a pack; make a bundle of it first: spotterd bundle fold PACK --out BUNDLE";
            return Err(crate::Error::invalid(folder.display().to_string(), reason).into());
        }
        let bundle = Bundle::open(folder)?;
        let held = &bundle.manifest().precisions;
        let precision = match self.precision {
            Some(precision) => precision,
            None => {
                let best = Precision::ALL.into_iter().find(|precision| held.contains(precision));
                let best = best.unwrap_or(Precision::F32);
                if best != Precision::F32 {
                    tell(&format!(
                        "spotter-trainer: the bundle holds no f32 towers; its {best} towers are judged"
                    ));
                }
                best
            }
        };
        let runtime = Runtime::load(self.library.as_deref())?;
        let threads = self.threads.map_or(2, usize::from);
        let options = SessionOptions { threads, ..SessionOptions::default() };
        Ok(BundleEmbedder::open(&runtime, &bundle, precision, &options)?)
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(path) = &args.html {
        check_file("--html", path)?;
    }
    let mut embedder = args.model.open()?;
    let dataset = Dataset::open(&args.data)?;
    let choice = Choice { split: args.split, distinct: args.distinct, ids: args.ids.clone() };
    // Drawn on a terminal only.
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{pos} pictures, {elapsed}") {
        bar.set_style(style);
    }
    let outcome = evaluate(embedder.as_mut(), &dataset, &choice, &mut || bar.inc(1))?;
    bar.finish_and_clear();
    if let Some(path) = &args.html {
        page::write(path, &outcome, &dataset)?;
    }
    if args.json {
        print_json(&outcome.report)?;
    } else {
        print(&table(&outcome.report))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(report: &Report) -> String {
    let (m, i, counts) = (&report.metrics, report.intervals.as_ref(), &report.counts);
    let mut text = format!(
        "{} ({}, {}) on {}: {} captions about {} persons, {} pictures\n",
        report.model.name,
        report.model.kind,
        report.model.precision,
        report.data.name,
        counts.queries,
        counts.identities,
        counts.pictures
    );
    let rows = [
        ("R@1", m.r1, i.map(|i| i.r1)),
        ("R@5", m.r5, i.map(|i| i.r5)),
        ("R@10", m.r10, i.map(|i| i.r10)),
        ("mAP", m.map, i.map(|i| i.map)),
        ("mINP", m.minp, i.map(|i| i.minp)),
    ];
    for (name, value, interval) in rows {
        let interval = interval.map(|[low, high]| format!("   {low:6.2} to {high:6.2}"));
        text += &format!("  {name:5} {value:6.2} %{}\n", interval.unwrap_or_default());
    }
    text += &format!("  guessing has R@1 {:.2} %\n", report.chance);
    if let Some(open) = &report.open_set {
        text += &format!("persons who are not there: AUROC {:.2} %\n", open.auroc);
        for level in &open.levels {
            text += &match (level.dir, level.threshold) {
                (Some(dir), Some(threshold)) => format!(
                    "  FPIR {:>4} %: found and right {dir:6.2} %, threshold {threshold:.4}\n",
                    level.fpir
                ),
                _ => format!(
                    "  FPIR {:>4} %: {}\n",
                    level.fpir,
                    level.missing.as_deref().unwrap_or("no figure")
                ),
            };
        }
    }
    report.notes.iter().for_each(|note| text += &format!("note: {note}\n"));
    text
}
