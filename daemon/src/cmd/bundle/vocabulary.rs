//! `spotterd bundle vocabulary`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use serde::Deserialize;
use spotter_models::{
    bundle::{self, Bundle},
    vocabulary::Vocabulary,
};

use crate::{cmd::print, error::Error};

/// Copy a bundle or pack and put in the words of the captions it was trained on
///
/// Descriptions are then read with the knowledge of which words the model has met. `spotter-trainer
/// export` does this by itself where the run's data are at hand.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bundle, a store of them, or a pack
    #[arg(long, value_name = "FOLDER")]
    bundle: PathBuf,
    /// The captions: a text file with one in each line, or the annotations of a data set (.json), of
    /// which those of the split train are taken; give the option again for more
    #[arg(long, value_name = "FILE", required = true)]
    captions: Vec<PathBuf>,
    /// The folder to make
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  spotterd bundle vocabulary --bundle site --captions captions.txt --out site-with-words
  spotterd bundle vocabulary --bundle models/demo --captions reid_raw.json --out demo-with-words";

/// Largest file of captions that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// A record of annotations, as far as it matters here.
#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    split: Option<String>,
    captions: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let mut captions = Vec::new();
    for path in &args.captions {
        captions.extend(read(path)?);
    }
    let vocabulary = Vocabulary::of_captions(captions.iter().map(String::as_str))?;
    let (words, out) = (vocabulary.len(), args.out.display());
    let what = if bundle::is_pack(&args.bundle) {
        bundle::pack_with_vocabulary(&args.out, &args.bundle, &vocabulary)?;
        "pack".to_owned()
    } else {
        let source = Bundle::open(&args.bundle)?;
        format!("bundle {}", bundle::write_with_vocabulary(&args.out, &source, &vocabulary)?)
    };
    print(&format!("{what} with {words} words of {} captions in {out}\n", captions.len()))?;
    Ok(ExitCode::SUCCESS)
}

/// The training captions of a file.
fn read(path: &Path) -> crate::Result<Vec<String>> {
    let wrong = |reason: String| Error::config(format!("--captions {}", path.display()), reason);
    let length = std::fs::metadata(path).map_err(Error::io(path))?.len();
    if length > MAX_BYTES {
        return Err(wrong(format!("has {length} bytes, more than the {MAX_BYTES} that are read")));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("is no UTF-8".into()))?;
    if path.extension().is_none_or(|ending| ending != "json") {
        return Ok(text.lines().map(str::to_owned).collect());
    }
    let records: Vec<Record> = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("is no list of records with captions: {error}")))?;
    let is_train = |record: &Record| record.split.as_deref().is_none_or(|split| split == "train");
    Ok(records.into_iter().filter(is_train).flat_map(|record| record.captions).collect())
}
