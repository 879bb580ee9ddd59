//! `spotterd`: watches cameras for persons who fit a written description.

use std::process::ExitCode;

use clap::Parser;
use spotterd::{cmd, error::Kind};

#[derive(Parser)]
#[command(name = "spotterd", version, about, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: cmd::Command,
}

const AFTER_HELP: &str = "\
Exit status: 0 done; 1 something was found wrong; 2 the command line or configuration is wrong; \
3 something needed is missing or broken.

Each command explains itself: spotterd COMMAND --help. The guide is in docs/guide.";

fn main() -> ExitCode {
    spotterd::memory::keep_few_arenas();
    let cli = Cli::parse();
    match cmd::run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("spotterd: {}", sentence(&error));
            let kind = error.chain().find_map(|cause| {
                cause
                    .downcast_ref::<spotterd::Error>()
                    .map(spotterd::Error::kind)
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

/// The error and its causes, without those that an error above has told already.
fn sentence(error: &anyhow::Error) -> String {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}
