//! Whether something can be written, seen before anything is computed for it.

use std::path::Path;

use anyhow::{Context, Result};

use crate::error::Error;

/// Sees that a new folder can be made.
pub(super) fn check_folder(out: &Path) -> Result<()> {
    if out.symlink_metadata().is_ok() {
        let reason = "exists already; choose a new name or remove it";
        return Err(Error::invalid(format!("bundle folder {}", out.display()), reason).into());
    }
    // The nearest folder that is there is the one that is written to.
    let there = out.ancestors().skip(1).find(|folder| folder.symlink_metadata().is_ok());
    let there = there.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    may_write(there).with_context(|| format!("--out {} cannot be made", out.display()))
}

/// Sees that a file can be made or replaced.
pub(super) fn check_file(option: &str, path: &Path) -> Result<()> {
    let wrong = |reason: &str| {
        Err(Error::invalid(format!("{option} {}", path.display()), reason.to_owned()).into())
    };
    match path.metadata() {
        Ok(found) if !found.is_file() => return wrong("is no regular file; name a file"),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return wrong(&format!("cannot be written: {error}"));
        }
        _ => {}
    }
    let Some(folder) = path.parent().filter(|_| path.file_name().is_some()) else {
        return wrong("names no file");
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if !folder.is_dir() {
        return wrong("cannot be written: its folder is not there; make it first");
    }
    may_write(folder).with_context(|| format!("{option} {} cannot be written", path.display()))
}

fn may_write(folder: &Path) -> Result<()> {
    let may = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::accessat(rustix::fs::CWD, folder, may, rustix::fs::AtFlags::EACCESS)
        .map_err(|error| spotter_models::Error::io(folder)(error.into()).into())
}
