//! Where a run may be kept: never on top of what belongs to another.

use std::{
    io::ErrorKind,
    path::{Component, Path, PathBuf},
};

use super::{
    Job, Origin,
    folder::{LOCK, LOG, RUN, VALIDATION},
};
use crate::error::{Error, Result};

/// What a run that was killed at its beginning leaves, before it has written `run.json`.
const BEFORE_RUN: [&str; 4] = [LOCK, LOG, VALIDATION, "run.json.part"];

/// Refuses a folder for the run in which something else lies, or that belongs to the base or the data.
///
/// # Errors
/// [`Error::Invalid`] with what to do; of kind corrupt where a `run.json` is none.
pub(super) fn check(job: &Job) -> Result<()> {
    let refuse =
        |reason: String| Err(Error::invalid(format!("--out {}", job.out.display()), reason));
    let out = real(&job.out);
    let base = job.base.as_deref().map(|base| ("base model", base));
    let inputs: Vec<_> = base.into_iter().chain([("data", job.data.as_path())]).collect();
    refuse_inside(&job.out, &inputs)?;
    if let Some((_, base)) = base.filter(|(_, base)| real(base).starts_with(&out)) {
        return refuse(format!(
            "holds the base model, {}, which a run must not change; choose a new folder elsewhere",
            base.display()
        ));
    }
    match job.out.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() != ErrorKind::NotADirectory => {
            return Err(spotter_models::Error::io(&job.out)(error).into());
        }
        Ok(found) if found.is_dir() => {}
        _ => return refuse("is no folder; choose a new name".into()),
    }
    if Origin::read(&job.out)?.is_some() {
        return Ok(());
    }
    match other_than_a_run(&job.out)? {
        Some(other) => refuse(format!(
            "is no run's folder: it has no {RUN}, but {other}; choose a new or an empty folder"
        )),
        None => Ok(()),
    }
}

/// Refuses a folder for results that lies in one of these, which are named by what they hold.
pub(crate) fn refuse_inside(out: &Path, inputs: &[(&str, &Path)]) -> Result<()> {
    let lies = |folder: &Path| real(out).starts_with(real(folder));
    match inputs.iter().find(|(_, folder)| lies(folder)) {
        Some((what, folder)) => {
            let reason = format!(
                "lies in the folder of the {what}, {}, which a run must not change; choose a new folder \
                 elsewhere",
                folder.display()
            );
            Err(Error::invalid(format!("--out {}", out.display()), reason))
        }
        None => Ok(()),
    }
}

/// The name of something in a folder that no run has left there before its `run.json`.
fn other_than_a_run(folder: &Path) -> Result<Option<String>> {
    let io = |error| spotter_models::Error::io(folder)(error);
    for entry in folder.read_dir().map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if !BEFORE_RUN.iter().any(|known| name == *known) {
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

/// A path without links and `..`, also where its end is not there yet.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|folder| Some((folder, folder.canonicalize().ok()?)));
    let Some((folder, mut real)) = there else { return path };
    // What is not there is no link, and `..` after it is what comes before it.
    for part in path.strip_prefix(folder).unwrap_or(Path::new("")).components() {
        match part {
            Component::ParentDir => drop(real.pop()),
            part => real.push(part),
        }
    }
    real
}
