//! Real time, which the trainer measures and shows; nothing that it computes depends on it.

use std::time::Instant;

/// Now.
#[expect(clippy::disallowed_methods, reason = "the one place where real time enters")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
