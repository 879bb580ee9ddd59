//! An open folder whose files are opened relative to it, never through a link.

use std::{
    fs::File,
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
};

use crate::{Error, Result};

/// Most entries that are listed: a bundle has a handful, and a wrong path may be a home folder.
const MOST_NAMES: usize = 64;

/// A folder held open: its files stay the same ones when its name is given to another.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    handle: OwnedFd,
}

impl Folder {
    /// Opens a folder; the path itself may lead through links.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| Error::io(path)(error.into()))?;
        Ok(Self { path: path.to_path_buf(), handle })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a plain file of this folder and tells its length in bytes.
    pub(super) fn open_file(&self, name: &str) -> Result<(File, u64)> {
        let path = self.path_of(name);
        // Without NONBLOCK a pipe by this name would block for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let handle =
            rustix::fs::openat(&self.handle, name, flags, Mode::empty()).map_err(|error| {
                match error {
                    Errno::LOOP => Error::corrupt(
                        &path,
                        "is a symbolic link; a bundle holds its files themselves, copy it again",
                    ),
                    Errno::NOENT => Error::corrupt(&path, "is missing; copy the bundle again"),
                    other => Error::io(&path)(other.into()),
                }
            })?;
        let status = rustix::fs::fstat(&handle).map_err(|error| Error::io(&path)(error.into()))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(Error::corrupt(&path, "is no plain file; copy the bundle again"));
        }
        Ok((File::from(handle), u64::try_from(status.st_size).unwrap_or(0)))
    }

    /// Whether there is an entry of this name, of whatever kind.
    pub(super) fn has(&self, name: &str) -> Result<bool> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(Error::io(self.path_of(name))(error.into())),
        }
    }

    /// The content of a plain file of at most `most` bytes.
    pub(super) fn read(&self, name: &str, most: u64) -> Result<Vec<u8>> {
        let path = self.path_of(name);
        let (file, _) = self.open_file(name)?;
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(Error::io(&path))?;
        if bytes.len() as u64 > most {
            return Err(Error::corrupt(path, format!("is larger than {most} bytes")));
        }
        Ok(bytes)
    }

    /// The content of a plain file, where there is one of this name.
    pub(super) fn read_if_there(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        self.has(name)?.then(|| self.read(name, most)).transpose()
    }

    /// Names of all entries, sorted; a name that is no UTF-8 appears with replacement characters.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let failed = |error: Errno| Error::io(&self.path)(error.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.handle).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            if names.len() == MOST_NAMES {
                return Err(Error::corrupt(
                    &self.path,
                    format!("holds more than {MOST_NAMES} entries, so it is no bundle"),
                ));
            }
            names.push(name);
        }
        names.sort_unstable();
        Ok(names)
    }
}
