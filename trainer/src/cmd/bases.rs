//! `spotter-trainer base`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::{print, print_json};
use crate::base::Base;

/// Arguments of `base`.
#[derive(clap::Args)]
pub struct Args {
    /// A folder that `import` or `train` wrote
    folder: PathBuf,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let base = Base::open(&args.folder)?;
    let origin = base.origin();
    if args.json {
        print_json(&serde_json::json!({
            "config": base.config(),
            "origin": origin,
            "sha256": base.sha256(),
            "numbers": base.weights().iter().map(|(_, t)| t.values().len()).sum::<usize>(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = base.config();
    let numbers: usize = base.weights().iter().map(|(_, tensor)| tensor.values().len()).sum();
    print(&format!(
        "{}\n  vision  {} blocks of {}, patch {}, pictures of {}x{} (height x width)\n  \
         text    {} blocks of {}, {} token rows\n  numbers {numbers}\n  sha256  {}\n  \
         licence {}\n",
        origin.name,
        config.vision_layers,
        config.vision_width,
        config.patch,
        config.height,
        config.width,
        config.text_layers,
        config.text_width,
        config.token_rows(),
        base.sha256(),
        origin.licence,
    ))?;
    Ok(ExitCode::SUCCESS)
}
