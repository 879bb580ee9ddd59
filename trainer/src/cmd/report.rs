//! `spotter-trainer report`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::print;
use crate::report::training;

/// Arguments of `report`.
#[derive(clap::Args)]
pub struct Args {
    /// The folder of a run
    run: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    training::write(&args.run)?;
    print(&format!("{}\n", args.run.join(training::PAGE_FILE).display()))?;
    Ok(ExitCode::SUCCESS)
}
