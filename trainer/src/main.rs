//! `spotter-trainer`: makes the models that `spotterd` runs.

use std::process::ExitCode;

use clap::Parser;
use spotter_models::Kind;
use spotter_trainer::cmd;

#[derive(Parser)]
#[command(name = "spotter-trainer", version, about, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: cmd::Command,
}

const AFTER_HELP: &str = "\
Exit status: 0 done; 1 something was found wrong, such as a training that diverged; 2 what was \
asked for is wrong: the command line, a recipe, a plan, or a path in them that is not there or may not be \
read or written; 3 something needed is broken or out of reach; 4 a training stopped for later by \
--sitting; 130 and 143 one, or an ablation, stopped by Ctrl-C or SIGTERM: the same command goes on.

Each command explains itself: spotter-trainer COMMAND --help. The guide is in docs/guide.";

/// An error and its causes, except those that the line ends with already.
fn said(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| {
        match (line.is_empty(), line.ends_with(&cause)) {
            (true, _) => cause,
            (_, true) => line,
            _ => format!("{line}: {cause}"),
        }
    })
}

fn main() -> ExitCode {
    match cmd::run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            spotter_trainer::tell(&format!("spotter-trainer: {}", said(&error)));
            let diverged = |cause: &&(dyn std::error::Error + 'static)| {
                matches!(cause.downcast_ref(), Some(spotter_trainer::Error::Diverged { .. }))
            };
            if error.chain().any(|cause| diverged(&cause)) {
                return ExitCode::FAILURE;
            }
            let kind = error.chain().find_map(|cause| {
                cause
                    .downcast_ref::<spotter_trainer::Error>()
                    .map(spotter_trainer::Error::kind)
                    .or_else(|| cause.downcast_ref().map(spotter_models::Error::kind))
            });
            match kind {
                Some(Kind::Config) => ExitCode::from(2),
                Some(_) => ExitCode::from(3),
                None => ExitCode::FAILURE,
            }
        }
    }
}
