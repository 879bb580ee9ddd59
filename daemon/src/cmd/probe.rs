//! `spotterd probe`: what this machine can decode and run on, and why not.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

/// Say what this machine can decode and run on, and why not
#[derive(clap::Args)]
pub struct Args {
    /// The ONNX Runtime library, where it is not found by itself
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let report = crate::probe::probe(args.library.as_deref());
    if args.json {
        super::print_json(&report)?;
    } else {
        super::print(&report.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
