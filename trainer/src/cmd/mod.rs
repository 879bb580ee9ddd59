//! The commands: one file each. They read arguments, call the library and print; the work is elsewhere.

use std::{
    io::{ErrorKind, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::Result;
use clap::Subcommand;

use crate::tell;

mod ablate;
mod adapt;
mod bases;
mod bench;
mod evaluate;
mod export;
mod import;
mod place;
mod report;
mod train;

/// What `spotter-trainer` can be asked to do.
#[derive(Subcommand)]
pub enum Command {
    /// Show what a folder with a base model holds: shapes, tensors, origin
    Base(bases::Args),
    /// Make a base model of a CLIP that others trained
    Import(import::Args),
    /// Make of a run, or of weights, the bundle that spotterd runs
    ///
    /// Towers are folded and written in each number format, and compared with libtorch before the
    /// bundle is given away.
    Export(Box<export::Args>),
    /// Train a model by a recipe; goes on where it was stopped or killed
    ///
    /// Ctrl-C stops it after the step, with a checkpoint and status 130 (SIGTERM: 143). The same command
    /// goes on.
    Train(train::Args),
    /// Train the same with something changed each time, and compare
    Ablate(ablate::Args),
    /// Learn from the verdicts of a site's staff, and say whether the result may serve
    ///
    /// Trains the bundle's prompts and adapters on confirmed and rejected sightings, mixed with pictures
    /// that the bundle knows, and judges the candidate on persons that it did not learn from. Status 0:
    /// OUT/delta may serve; 1: refused, and the reasons are told; OUT/report.html has the figures.
    Adapt(Box<adapt::Args>),
    /// Measure what a training step takes, against the same step written plainly
    ///
    /// Random weights and inputs. Both are measured in turn, because other work on the machine comes and
    /// goes; the memory of each in a process of its own.
    Bench(bench::Args),
    /// Measure how well a model finds persons: R@k, mAP, mINP, and persons who are not there
    Evaluate(Box<evaluate::Args>),
    /// Write a page with a training's curves and what they mean
    Report(report::Args),
}

/// Carries out a command.
///
/// # Errors
/// What a person has to know; [`crate::Error`] inside where the kind matters.
pub fn run(command: Command) -> Result<ExitCode> {
    crate::ablate::end_with_parent()?;
    match command {
        Command::Ablate(args) => ablate::run(&args),
        Command::Adapt(args) => adapt::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Base(args) => bases::run(&args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Train(args) => train::run(&args),
    }
}

/// Says what of a run cannot be checked, where there is something.
fn warn_unchecked(run: &Path, what: Option<&str>) {
    if let Some(what) = what {
        tell(&format!("spotter-trainer: {}: {what}", run.display()));
    }
}

/// Prints to standard output. A reader who has heard enough, such as `head`, is no error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written
            .map_err(spotter_models::Error::io("standard output"))
            .map_err(crate::Error::from)?),
    }
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}
