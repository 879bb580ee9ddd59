//! The daemon's error: each variant carries what a person needs to act on it.

pub use spotter_models::Kind;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong between a camera and a score.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A bundle, a model or a picture.
    #[error(transparent)]
    Model(#[from] spotter_models::Error),
    /// The configuration, with the place in the file where there is one.
    #[error("{place}: {reason}")]
    Config {
        /// File and line, or the option.
        place: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A camera or recording.
    #[error("camera {camera}: {reason}")]
    Source {
        /// Which one.
        camera: String,
        /// Why there are no frames.
        reason: crate::source::Reason,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A step that can only fail by a bug, ours or a library's.
    #[error("{what}: {reason}")]
    Internal {
        /// The step.
        what: String,
        /// What the library said.
        reason: String,
    },
}

/// How the reason begins where files are open elsewhere.
const IN_USE: &str = "another process has";

impl Error {
    /// The kind, which decides retry, exit code and log level.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Model(error) => error.kind(),
            Error::Config { .. } => Kind::Config,
            Error::Source { .. } => Kind::Unavailable,
            Error::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    Kind::Exhausted
                }
                _ => Kind::Unavailable,
            },
            Error::Internal { .. } => Kind::Internal,
        }
    }

    /// For `map_err` on file operations.
    pub fn io(path: impl AsRef<std::path::Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }

    /// Files that another process has open.
    pub(crate) fn in_use(place: impl Into<String>, what: &str) -> Error {
        let reason = format!("{IN_USE} this {what} open: stop it, or name another folder");
        Error::config(place, reason)
    }

    /// Whether it says that another process has files open, which may be asked instead.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(self, Error::Config { reason, .. } if reason.starts_with(IN_USE))
    }

    /// A setting that cannot be served.
    pub fn config(place: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Config { place: place.into(), reason: reason.into() }
    }

    /// A library failure.
    pub fn internal(what: impl Into<String>, reason: impl std::fmt::Display) -> Error {
        Error::Internal { what: what.into(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::*;

    #[test]
    fn a_full_disk_is_exhausted_and_other_trouble_of_a_file_may_pass() {
        let of = |kind: ErrorKind| Error::io("/box")(io::Error::from(kind)).kind();
        assert_eq!(of(ErrorKind::StorageFull), Kind::Exhausted);
        assert_eq!(of(ErrorKind::QuotaExceeded), Kind::Exhausted);
        assert_eq!(of(ErrorKind::PermissionDenied), Kind::Unavailable);
        let errno = io::Error::from(rustix::io::Errno::NOSPC);
        assert_eq!(Error::io("/box")(errno).kind(), Kind::Exhausted);
    }
}
