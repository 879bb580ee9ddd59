//! The commands: one file each. They read arguments, call the library and print; the work is elsewhere.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

mod alert;
mod bench;
mod bundle;
mod check;
mod matching;
mod model;
mod probe;
mod replay;
mod run;

/// What `spotterd` can be asked to do.
#[derive(Subcommand)]
pub enum Command {
    /// Watch the cameras of a configuration until told to stop
    Run(run::Args),
    /// Prove a configuration right without starting: cameras, models, decoders, addresses
    Check(check::Args),
    /// Say what this machine can decode and run on, and why not
    Probe(probe::Args),
    /// Show a model bundle, or verify that it is whole and computes what it should
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Compare pictures of persons with texts
    Match(matching::Args),
    /// Run recordings through the pipeline, every frame, and report what was seen
    Replay(replay::Args),
    /// Say whom the cameras look for, see what became of it, see who is found
    #[command(subcommand)]
    Alert(alert::Command),
    /// Measure this machine
    #[command(subcommand)]
    Bench(bench::Command),
}

/// Carries out a command.
///
/// # Errors
/// What a person has to know; [`crate::Error`] inside where the kind matters.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Bundle(command) => bundle::run(&command),
        Command::Match(args) => matching::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Alert(command) => alert::run(&command),
        Command::Bench(command) => bench::run(&command),
    }
}
