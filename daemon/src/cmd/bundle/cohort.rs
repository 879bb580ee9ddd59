//! `spotterd bundle cohort`.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use spotter_models::{bundle, cohort::Cohort};

use crate::{
    cmd::{model::ModelArgs, print},
    embed::Embedder,
    error::Error,
    picture,
};

/// Copy a bundle and put a background cohort in: persons whom no alert means
///
/// The policy budget=N judges by them until many have passed on the site, and zscore=Z always. Take some
/// hundred pictures of different people, as the cameras see them: one person in each, cut out from
/// head to foot.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A folder with JPEG or PNG pictures, one person in each; give the option again for more
    #[arg(long, value_name = "FOLDER", required = true)]
    pictures: Vec<PathBuf>,
    /// The folder to make
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

const EXAMPLES: &str = "\
Example:
  spotterd bundle cohort --bundle site --pictures passers-by --out site-with-cohort

Exit status: 0 done; 1 it cannot be made, or some pictures were not used and are named.";

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let opened = args.model.open()?;
    let mut files = Vec::new();
    for folder in &args.pictures {
        files.extend(pictures(folder)?);
    }
    let (persons, unused) = embed(&files, &mut opened.embedder()?);
    let cohort = Cohort::new(persons)?;
    let generation = bundle::write_with_cohort(&args.out, &opened.bundle, &cohort)?;
    let (count, out) = (cohort.persons(), args.out.display());
    print(&format!("bundle {generation} with a cohort of {count} persons in {out}\n"))?;
    if unused > 0 {
        eprintln!("spotterd: {unused} of {} pictures were not used", files.len());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder's pictures by name, so that the same folder gives the same bundle.
fn pictures(folder: &Path) -> crate::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        if ending.is_some_and(|ending| ["jpg", "jpeg", "png"].iter().any(|it| ending == *it)) {
            files.push(path);
        }
    }
    if files.is_empty() {
        let place = format!("--pictures {}", folder.display());
        return Err(Error::config(place, "holds no .jpg, .jpeg or .png file"));
    }
    files.sort();
    Ok(files)
}

/// The pictures' embeddings, and how many could not be used.
fn embed(files: &[PathBuf], embedder: &mut Embedder) -> (Vec<Vec<f32>>, usize) {
    let shows = std::io::stderr().is_terminal();
    let (mut persons, mut unused) = (Vec::new(), 0);
    for (index, path) in files.iter().enumerate() {
        if shows {
            eprint!("\r{} of {}\x1b[K", index + 1, files.len());
        }
        match picture::read(path).and_then(|picture| embedder.embed(picture.view())) {
            Ok(embedding) => persons.push(embedding.values().to_vec()),
            Err(error) => {
                eprintln!("spotterd: not used: {error}");
                unused += 1;
            }
        }
    }
    if shows {
        eprint!("\r\x1b[K");
    }
    (persons, unused)
}
