//! Sources.

/// Why there are no frames.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown")]
pub struct Reason;
