//! `spotter-trainer adapt`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};
use clap::builder::RangedU64ValueParser;
use spotter_models::manifest::Precision;

use super::{
    export::now,
    print, print_json,
    train::{above_zero, time},
};
use crate::{
    adapt::{Job, Outcome, Report, Settings, adapt, gate::Compared},
    run::{Progress, device},
    status::stopped,
};

/// Arguments of `adapt`.
#[derive(clap::Args)]
pub struct Args {
    /// The pack that the vendor's bundle was folded from: its base and its trained tensors
    #[arg(long, value_name = "FOLDER")]
    pack: PathBuf,
    /// What runs now, which the candidate is compared with: a delta, or the current bundle of the daemon's store;
    /// the vendor's bundle if absent
    #[arg(long, value_name = "FOLDER")]
    running: Option<PathBuf>,
    /// The verdicts of staff: `feedback` in the daemon's storage folder
    #[arg(long, value_name = "FOLDER")]
    feedback: PathBuf,
    /// Pictures and captions that the bundle knows: its split `train` is learnt from again, against
    /// forgetting, and by `val` the candidate is judged
    #[arg(long, value_name = "FOLDER")]
    reference: PathBuf,
    /// Settings in the place of the program's own, which are those of configs/trainer/adapt.toml
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The folder of the results; a finished adaptation that lies there is replaced, one that was stopped
    /// or killed goes on
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The site's secret key, which signs a candidate that passed
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// What people call the result
    #[arg(long, default_value = "adapted on site")]
    name: String,
    /// When it was made, RFC 3339; now if absent
    #[arg(long, value_name = "TIME")]
    created_at: Option<String>,
    /// Number formats of the bundle that is made of it: those of the vendor's
    #[arg(long, value_delimiter = ',', default_value = "f32,f16,int8")]
    precisions: Vec<Precision>,
    /// Minutes of training at most; reading and judging come on top
    #[arg(long, value_name = "MINUTES", default_value = "30", value_parser = above_zero)]
    minutes: f64,
    /// Where to compute: cpu or cuda
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of libtorch; all processors if absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Memory for decoded pictures, in MiB
    #[arg(long, default_value_t = 256, value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(0..1 << 20))]
    cache_mib: usize,
    /// Print the report as JSON, and no progress
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let settings = match &args.settings {
        Some(path) => Settings::read(path)?,
        None => Settings::usual()?,
    };
    let job = Job {
        pack: args.pack.clone(),
        running: args.running.clone(),
        feedback: args.feedback.clone(),
        reference: args.reference.clone(),
        settings,
        precisions: args.precisions.clone(),
        name: args.name.clone(),
        created_at: args.created_at.clone().unwrap_or_else(now),
        out: args.out.clone(),
        key: args.key.clone(),
        device: device(&args.device)?,
        threads: args.threads.map_or(threads, usize::from),
        cache_bytes: args.cache_mib << 20,
        budget: time("--minutes", Some(args.minutes))?.unwrap_or_default(),
    };
    let (stop, by) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    super::train::stop_at_signals(&stop, &by).context("signals")?;
    match adapt(&job, &stop, &mut Progress::new(args.json))? {
        Outcome::Judged(report) => {
            match args.json {
                true => print_json(&report)?,
                false => print(&said(&args.out, &report))?,
            }
            Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Outcome::Stopped => {
            match args.json {
                true => print_json(&serde_json::json!({"stopped": true}))?,
                false => {
                    print(&format!("{}: stopped; the same command goes on\n", args.out.display()))?;
                }
            }
            Ok(stopped(i32::try_from(by.load(Ordering::Relaxed)).ok().filter(|signal| *signal > 0)))
        }
    }
}

fn said(out: &Path, report: &Report) -> String {
    let mut text = match (report.passed, report.candidate) {
        (true, Some(candidate)) => {
            format!("{}: candidate {candidate} may serve\n", out.join("delta").display())
        }
        _ => format!("{}: refused\n", out.display()),
    };
    for reason in &report.reasons {
        text += &format!("  {reason}\n");
    }
    for compared in [&report.site, &report.reference].into_iter().flatten() {
        text += &figures(compared);
    }
    text + &format!("  the whole report: {}\n", out.join("report.html").display())
}

fn figures(compared: &Compared) -> String {
    let mut text = format!("  {} ({} persons)\n", compared.set, compared.persons);
    for figure in &compared.figures {
        // Of one person nothing can be said about others.
        let interval = figure
            .difference
            .map_or(String::new(), |[low, high]| format!("  {low:+.1} to {high:+.1} points"));
        text += &format!(
            "    {:<26} {:6.2} % -> {:6.2} %{interval}\n",
            figure.name, figure.before, figure.after
        );
    }
    text
}
