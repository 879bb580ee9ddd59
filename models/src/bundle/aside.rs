//! Writing aside: a folder that appears under its name only when it is complete and on disk.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use rustix::{fs::FlockOperation, io::Errno};

use crate::{Error, Result};

/// A folder in the making. Removed when it is dropped unfinished.
pub(crate) struct Aside {
    path: PathBuf,
    /// Locked, so that another process does not take it for a leftover of a crash.
    folder: File,
    finished: bool,
}

impl Aside {
    /// Makes an empty folder, after removing what a crash left under this name.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where another process is writing it or the place is read-only.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let busy = || Error::Unavailable {
            what: format!("{}", path.display()),
            reason: "another process is writing it; try again when that has ended".into(),
        };
        if path.symlink_metadata().is_ok() {
            let leftover = File::open(&path).map_err(Error::io(&path))?;
            lock(&leftover, &path)?.then_some(()).ok_or_else(busy)?;
            remove(&path)?;
        }
        std::fs::create_dir(&path).map_err(writing(&path))?;
        let folder = File::open(&path).map_err(Error::io(&path))?;
        lock(&folder, &path)?.then_some(()).ok_or_else(busy)?;
        Ok(Self { path, folder, finished: false })
    }

    /// Where it is made.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file, lets `fill` write it, and waits until it is on disk.
    pub(crate) fn file(
        &self,
        name: &str,
        fill: impl FnOnce(&mut File) -> Result<()>,
    ) -> Result<()> {
        let path = self.path.join(name);
        let mut file = File::create_new(&path).map_err(writing(&path))?;
        fill(&mut file)?;
        file.sync_all().map_err(Error::io(&path))
    }

    /// [`Aside::file`] with its whole content.
    pub(crate) fn bytes(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.file(name, |file| file.write_all(bytes).map_err(Error::io(self.path.join(name))))
    }

    /// Gives the folder its name. A damaged folder of that name is replaced in one step.
    pub(crate) fn finish(mut self, target: &Path) -> Result<()> {
        self.folder.sync_all().map_err(Error::io(&self.path))?;
        if target.symlink_metadata().is_ok() {
            // Swapped, not removed first: there is no moment without a folder of this name.
            let here = rustix::fs::CWD;
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(here, &self.path, here, target, exchange)
                .map_err(|error| Error::io(target)(error.into()))?;
            sync_parent(target)?;
            self.finished = true;
            return remove(&self.path);
        }
        std::fs::rename(&self.path, target).map_err(Error::io(target))?;
        self.finished = true;
        sync_parent(target)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is removed by the next writer.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Takes the lock of an open folder; `false` where another holds it.
pub(crate) fn lock(folder: &File, path: &Path) -> Result<bool> {
    match rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(Error::io(path)(error.into())),
    }
}

/// Replaces a small file in one step.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = beside(path)?;
    remove(&aside)?;
    let mut file = File::create_new(&aside).map_err(writing(&aside))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(&aside))?;
    std::fs::rename(&aside, path).map_err(Error::io(path))?;
    sync_parent(path)
}

/// Points a symbolic link elsewhere in one step.
pub(crate) fn replace_link(path: &Path, target: &Path) -> Result<()> {
    let aside = beside(path)?;
    remove(&aside)?;
    std::os::unix::fs::symlink(target, &aside).map_err(writing(&aside))?;
    std::fs::rename(&aside, path).map_err(Error::io(path))?;
    sync_parent(path)
}

/// The hidden name next to `path` under which its successor is made.
pub(crate) fn beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        Error::invalid("path", format!("`{}` does not end in a name", path.display()))
    })?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".partial");
    Ok(path.with_file_name(hidden))
}

/// Removes a file, link or folder, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(status) if status.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(writing(path)(error)),
        _ => Ok(()),
    }
}

/// Waits until the entries of the folder that holds `path` are on disk.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(Error::io(parent))
}

/// For `map_err` where something is made or removed: a place that cannot be written to is said so.
pub(crate) fn writing(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |error| match error.kind() {
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
            Error::Unavailable {
                what: format!("a place to write {}", path.display()),
                reason: format!("{error}; run as the user who owns it, or choose another folder"),
            }
        }
        _ => Error::Io { path, source: error },
    }
}
