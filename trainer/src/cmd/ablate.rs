//! `spotter-trainer ablate`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};

use super::print;
use crate::{
    ablate::{Child, PAGE_FILE, Plan, Stop, check, run as carry_out},
    status::stopped,
    tell,
};

/// Arguments of `ablate`.
#[derive(clap::Args)]
pub struct Args {
    /// The plan, a TOML file: a shared recipe, rows that change something in it, and what they are
    /// judged by
    plan: PathBuf,
    /// The folder for table.csv, report.html and the trainings; what is in its table is not done again
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let plan = Plan::read(&args.plan)?;
    plan.machine.check()?;
    let stop = Stop::default();
    stop.on_signals()?;
    let program = std::env::current_exe().context("the program's own path")?;
    let child = Child::new(program, plan.machine.clone(), stop.clone());
    let mut train = |job: &_, folder: &_| child.carry_out(job, folder);
    let summary = carry_out(&plan, &args.out, &stop, &check, &mut train, &mut tell)?;
    print(&format!(
        "{} done now, {} done before, {} failed{}\n{}\n",
        summary.done,
        summary.kept,
        summary.failed.len(),
        if summary.stopped { "; stopped, run the same command again to go on" } else { "" },
        args.out.join(PAGE_FILE).display()
    ))?;
    Ok(match summary.failed.is_empty() {
        _ if summary.stopped => stopped(stop.signal()),
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
