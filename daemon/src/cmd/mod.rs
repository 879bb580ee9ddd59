//! The commands: one file each. They read arguments, call the library and print; the work is elsewhere.

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::Subcommand;

use crate::{config::Log, error::Error, telemetry};

mod alert;
mod bench;
mod broker;
mod bundle;
mod check;
mod demo;
mod device;
mod erase;
mod feedback;
mod hold;
mod matching;
mod model;
mod probe;
mod replay;
mod report;
mod run;
mod search;

/// What `spotterd` can be asked to do.
#[derive(Subcommand)]
pub enum Command {
    /// Watch the cameras of a configuration until told to stop
    ///
    /// SIGTERM and SIGINT stop it cleanly; SIGHUP reads the configuration again and restarts only the
    /// cameras that changed. A configuration that is faulty is refused whole.
    Run(run::Args),
    /// See it work: a recording as the camera, two alerts, everybody who is found
    ///
    /// Runs the daemon on a recording that begins again at its end, with a broker of its own, arms two
    /// alerts as a guard would, and prints a line with a picture for everybody who is found. The page that
    /// it names shows the same in a browser. Everything is written into one folder: look at its
    /// spotterd.toml to see how a real box is set up.
    Demo(demo::Args),
    /// Prove a configuration right without starting: cameras, models, decoders, addresses
    Check(check::Args),
    /// Say what this machine can decode and run on, and why not
    Probe(probe::Args),
    /// Show, verify, install and switch model bundles
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Compare pictures of persons with texts
    Match(matching::Args),
    /// Run recordings through the pipeline, every frame, and report what was seen
    Replay(replay::Args),
    /// Judge the decisions on labelled recordings: bundles and policies in one table
    Report(report::Args),
    /// Show who was here that fits a description
    Search(Box<search::Args>),
    /// Take persons out of everything that this device keeps
    Erase(Box<erase::Args>),
    /// Keep persons from being deleted and erased, for as long as somebody says why
    Hold(Box<hold::Args>),
    /// Say whom the cameras look for, see what became of it, see who is found
    #[command(subcommand)]
    Alert(alert::Command),
    /// Say what became of a sighting; the devices learn from it
    #[command(subcommand)]
    Feedback(feedback::Command),
    /// Measure this machine
    #[command(subcommand)]
    Bench(bench::Command),
    /// The process of the embedded broker, which the daemon starts
    #[command(hide = true)]
    Broker(broker::Args),
}

/// Carries out a command.
///
/// # Errors
/// What a person has to know; [`crate::Error`] inside where the kind matters.
pub fn run(command: Command) -> Result<ExitCode> {
    if !matches!(command, Command::Run(_)) {
        // `run` has its own log; a person at a terminal wants to hear of what went wrong, and only that.
        // The broker's library calls every client that leaves an error.
        let filter = "warn,ort=error,rumqttd=off".into();
        telemetry::install(&Log { filter, ..Log::default() })?;
    }
    match command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Bundle(command) => bundle::run(&command),
        Command::Match(args) => matching::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Erase(args) => erase::run(&args),
        Command::Hold(args) => hold::run(&args),
        Command::Alert(command) => alert::run(&command),
        Command::Feedback(command) => feedback::run(&command),
        Command::Bench(command) => bench::run(&command),
        Command::Broker(args) => broker::run(&args),
    }
}

/// Prints to standard output. A reader who has heard enough, such as `head`, is no error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.map_err(Error::io("standard output"))?),
    }
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}
