//! `spotter-trainer train`.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};

use super::{print, print_json};
use crate::{
    error::Error,
    recipe::Recipe,
    run::{Ended, Job, Outcome, Progress, device, train},
    status::stopped,
};

/// Arguments of `train`.
#[derive(clap::Args)]
pub struct Args {
    /// How to train: a file such as configs/trainer/paper.toml
    recipe: PathBuf,
    /// The base model: a folder that `import` or a run of the method `scratch` wrote
    #[arg(long)]
    base: Option<PathBuf>,
    /// The folder with pictures and captions
    #[arg(long)]
    data: PathBuf,
    /// The folder of the run; goes on where one is there already
    #[arg(long)]
    out: PathBuf,
    /// Where to compute: cpu or cuda
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of libtorch; all processors if absent. Another number gives other rounding: a
    /// run that goes on with another one says so, and is no longer bit for bit the uninterrupted one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Threads that decode pictures
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Memory for decoded pictures, in MiB
    #[arg(long, default_value_t = 1024)]
    cache_mib: usize,
    /// Stop after so many minutes of work, to go on later with the same command: status 4
    #[arg(long, value_name = "MINUTES")]
    sitting: Option<f64>,
    /// End after so many minutes of work over all sittings, though epochs are left: the result is the
    /// best state until then
    #[arg(long, value_name = "MINUTES", value_parser = above_zero)]
    minutes: Option<f64>,
    /// Print the result as JSON, and no progress
    #[arg(long)]
    json: bool,
}

pub(super) fn above_zero(text: &str) -> std::result::Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|number| *number > 0.0).ok_or_else(|| "it must be a number above 0".into())
}

/// A time that an option gives in minutes.
pub(super) fn time(option: &str, minutes: Option<f64>) -> Result<Option<Duration>> {
    let time = |minutes: f64| {
        Duration::try_from_secs_f64(60.0 * minutes)
            .map_err(|_| Error::invalid(option, format!("{minutes} is no number of minutes")))
    };
    Ok(minutes.map(time).transpose()?)
}

/// A line where nothing was learnt, otherwise nothing.
fn at_chance(ended: &Ended) -> String {
    match ended.chance.filter(|_| ended.is_at_chance()) {
        Some(chance) => format!(
            "learnt nothing: at chance. Guessing has R@1 {chance:.2} %; try another learning rate, a \
             longer warm-up, or more epochs\n"
        ),
        None => String::new(),
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let job = Job {
        recipe: Recipe::read(&args.recipe)?,
        base: args.base.clone(),
        start: None,
        data: args.data.clone(),
        out: args.out.clone(),
        device: device(&args.device)?,
        threads: args.threads.map_or(threads, usize::from),
        workers: args.workers,
        cache_bytes: args.cache_mib << 20,
        sitting: time("--sitting", args.sitting)?,
        budget: time("--minutes", args.minutes)?,
    };
    let (stop, by) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    stop_at_signals(&stop, &by).context("signals")?;
    let outcome = train(&job, &stop, &mut Progress::new(args.json))?;
    let status = match outcome {
        Outcome::Finished(_) => ExitCode::SUCCESS,
        Outcome::Stopped { .. } => {
            stopped(i32::try_from(by.load(Ordering::Relaxed)).ok().filter(|signal| *signal > 0))
        }
    };
    say(args, &outcome)?;
    Ok(status)
}

/// Asks to stop at Ctrl-C and SIGTERM, and keeps which it was.
pub(super) fn stop_at_signals(
    stop: &Arc<AtomicBool>,
    by: &Arc<AtomicUsize>,
) -> std::io::Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends it at once, for whoever does not want to wait for the step.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(stop))?;
        let number = usize::try_from(signal).unwrap_or(0);
        signal_hook::flag::register_usize(signal, Arc::clone(by), number)?;
        signal_hook::flag::register(signal, Arc::clone(stop))?;
    }
    Ok(())
}

fn say(args: &Args, outcome: &Outcome) -> Result<()> {
    match outcome {
        Outcome::Finished(ended) if args.json => print_json(ended),
        Outcome::Finished(ended) => print(&format!(
            "{}: {} steps in {:.0} s{}, kept step {}{}; {} of {} numbers trained\n{}",
            args.out.display(),
            ended.steps,
            ended.seconds,
            if ended.out_of_time { " (ended by --minutes)" } else { "" },
            ended.kept,
            ended.r1.map(|r1| format!(", validation R@1 {r1:.2} %")).unwrap_or_default(),
            ended.trained,
            ended.total,
            at_chance(ended),
        )),
        Outcome::Stopped { step, steps } if args.json => {
            print_json(&serde_json::json!({"stopped": {"step": step, "steps": steps}}))
        }
        Outcome::Stopped { step, steps } => print(&format!(
            "{}: stopped after step {step} of {steps}; the same command goes on\n",
            args.out.display(),
        )),
    }
}
