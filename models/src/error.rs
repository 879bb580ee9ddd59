//! The crate's error: each variant carries what a person needs to act on it.

use std::path::{Path, PathBuf};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of trouble an error is; decides retry, exit code and log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody has to change what was asked for: an option, a configuration, a command line.
    Config,
    /// Something that is needed is not there now and may come back.
    Unavailable,
    /// A file or a message is not what it should be.
    Corrupt,
    /// A limit was reached: memory, disk, a quota.
    Exhausted,
    /// A bug, ours or a library's.
    Internal,
}

/// Everything that can go wrong with a bundle, a model, a text or a picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read, written or moved.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is there but is not what it claims to be.
    #[error("{}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// Weights, shapes or a configuration that do not fit together.
    #[error("{what}: {reason}")]
    Mismatch {
        /// The tensor, file or setting.
        what: String,
        /// How it disagrees.
        reason: String,
    },
    /// A library, model or file that is needed is not on this machine.
    #[error("{what} is not available: {reason}")]
    Unavailable {
        /// What is missing.
        what: String,
        /// Where it was looked for and how to get it.
        reason: String,
    },
    /// The request itself cannot be served.
    #[error("{what}: {reason}")]
    Invalid {
        /// The argument or field.
        what: String,
        /// Why it cannot be served and what would.
        reason: String,
    },
    /// A library failed in a way that its caller cannot mend.
    #[error("{what}: {reason}")]
    Internal {
        /// The step that failed.
        what: String,
        /// What the library said.
        reason: String,
    },
}

impl Error {
    /// The kind, which decides retry, exit code and log level.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => Kind::Config,
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::OutOfMemory => {
                    Kind::Exhausted
                }
                _ => Kind::Unavailable,
            },
            Error::Corrupt { .. } | Error::Mismatch { .. } => Kind::Corrupt,
            Error::Unavailable { .. } => Kind::Unavailable,
            Error::Invalid { .. } => Kind::Config,
            Error::Internal { .. } => Kind::Internal,
        }
    }

    /// For `map_err` on file operations.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }

    /// A file that is not what it claims to be.
    pub fn corrupt(path: impl AsRef<Path>, reason: impl Into<String>) -> Error {
        Error::Corrupt { path: path.as_ref().to_path_buf(), reason: reason.into() }
    }

    /// Parts that do not fit together.
    pub fn mismatch(what: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Mismatch { what: what.into(), reason: reason.into() }
    }

    /// A request that cannot be served.
    pub fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Invalid { what: what.into(), reason: reason.into() }
    }

    /// A library failure.
    pub fn internal(what: impl Into<String>, reason: impl std::fmt::Display) -> Error {
        Error::Internal { what: what.into(), reason: reason.to_string() }
    }
}
