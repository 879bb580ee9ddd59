//! `spotterd bench`: measures this machine, against a peer in the same run.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

mod arming;
mod calibration;
mod embed;
mod embeddings;
mod pairs;
mod peer;
mod retro;
mod source;
mod tower;
mod tracks;

/// Measure this machine
#[derive(Subcommand)]
pub enum Command {
    /// Time the folded vision tower against a naive export of the same random weights
    Embed(embed::EmbedArgs),
    /// Crops and texts a second through a bundle's towers, at several batch sizes
    Tower(tower::Args),
    /// Write a bundle of random weights: for measurements, its scores mean nothing
    RandomBundle(embed::RandomArgs),
    /// Embed a folder of pictures and their captions, for the measurements of the gallery
    Embeddings(embeddings::Args),
    /// Time crops against many alerts, beside an exact index of another library
    Match(pairs::Args),
    /// Time a search over many tracks, beside indexes of other libraries
    Retro(retro::Args),
    /// Time until many alerts are armed: texts read, calibrated on a site's tracks, and cut together
    Arm(arming::Args),
    /// Compare promised with observed false alarms on fresh persons
    Calibration(calibration::Args),
}

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Embed(args) => embed::embed(args),
        Command::Tower(args) => tower::run(args),
        Command::RandomBundle(args) => embed::random_bundle(args),
        Command::Embeddings(args) => embeddings::run(args),
        Command::Match(args) => pairs::run(args),
        Command::Retro(args) => retro::run(args),
        Command::Arm(args) => arming::run(args),
        Command::Calibration(args) => calibration::run(args),
    }
}

/// A series of measurements: its ends and its middle.
#[derive(Clone, serde::Serialize)]
pub(super) struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { min: at(0), median: at(values.len() / 2), max: at(values.len().saturating_sub(1)) }
    }

    /// In milliseconds.
    fn ms(&self) -> String {
        format!("{:.3} ms ({:.3} to {:.3})", self.median, self.min, self.max)
    }

    /// As a ratio.
    fn times(&self) -> String {
        format!("{:.2}x ({:.2} to {:.2})", self.median, self.min, self.max)
    }
}
