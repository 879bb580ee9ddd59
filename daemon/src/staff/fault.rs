//! Why a command of the staff could not be carried out.

use spotter_models::Kind;

use crate::error::Error;

/// Why a command could not be carried out, with what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// An option, an alert's text, or a file that an option names.
    #[error(transparent)]
    Setting(#[from] Error),
    /// The broker cannot be used.
    #[error("broker {broker}: {why}")]
    Broker {
        /// Host and port.
        broker: String,
        /// What happened and what to do.
        why: String,
    },
    /// The broker works, the request does not fit what is there.
    #[error("{0}")]
    Unfit(String),
    /// What was found out cannot be written down.
    #[error("output: {0}")]
    Output(#[from] std::io::Error),
}

impl Fault {
    /// The exit status: 2 where the command line or a file it names is wrong, 3 where something
    /// needed is missing, 1 where the request does not fit.
    pub fn status(&self) -> u8 {
        match self {
            Self::Setting(error) if error.kind() == Kind::Config => 2,
            Self::Setting(_) | Self::Broker { .. } | Self::Output(_) => 3,
            Self::Unfit(_) => 1,
        }
    }
}
