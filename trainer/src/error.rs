//! The trainer's error: each variant carries what a person needs to act on it.

use spotter_models::Kind;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong while training or judging a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of weights, configurations or bundles.
    #[error(transparent)]
    Model(#[from] spotter_models::Error),
    /// Inputs that do not fit the model or each other.
    #[error("{what}: {reason}")]
    Invalid {
        /// The input.
        what: String,
        /// How it does not fit.
        reason: String,
    },
    /// Training left the numbers: no checkpoint has what is none.
    #[error(
        "training diverged: {found}; diverged.json in the run's folder has the step and what it was made \
         of. Lower optimiser.learning_rate, set optimiser.clip, or lengthen schedule.warmup_epochs, and \
         begin again in a new folder"
    )]
    Diverged {
        /// What is no number.
        found: String,
    },
    /// libtorch refused an operation: no memory, or a bug.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

impl Error {
    /// The kind, which decides exit code and log level.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Model(error) => error.kind(),
            Error::Invalid { .. } => Kind::Config,
            Error::Diverged { .. } => Kind::Corrupt,
            Error::Torch(_) => Kind::Internal,
        }
    }

    /// A step whose loss or gradient is no number, before it changed anything.
    pub(crate) fn diverged_step(loss: f64, gradient: f64) -> Self {
        Error::Diverged { found: format!("loss {loss}, gradient {gradient}") }
    }

    /// Inputs that do not fit.
    pub fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Invalid { what: what.into(), reason: reason.into() }
    }
}
