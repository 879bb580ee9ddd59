//! What the end-to-end tests share.

pub mod census;
pub mod clip;
pub mod daemon;
pub mod delivery;
#[allow(
    clippy::unwrap_used,
    reason = "what the daemon's tests use too: a test that cannot go on says so"
)]
#[path = "../../daemon/tests/folder/mod.rs"]
pub mod folder;
pub mod program;
#[allow(
    missing_docs,
    clippy::new_without_default,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the rig of the link's own tests: a test that cannot go on says so"
)]
#[path = "../../daemon/tests/link/rig.rs"]
pub mod rig;
pub mod rtsp;
pub mod site;
pub mod watch;
