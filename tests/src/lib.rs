//! What the end-to-end tests share.

pub mod census;
pub mod clip;
pub mod program;
pub mod rtsp;
pub mod watch;
