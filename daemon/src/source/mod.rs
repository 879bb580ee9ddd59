//! DECODE: cameras and recordings in, frames out.
//!
//! One supervised pipeline a source. Its frames keep the decoder's own format and memory; pixels are
//! converted when and where a later stage asks for them. Nothing here waits for a consumer: the newest
//! frame wins, and what is lost is counted. Called by `run` (many live sources) and by `replay` (one
//! file, every frame).

mod access;
pub mod backoff;
mod closing;
pub mod decoder;
pub mod device;
mod elements;
mod fault;
mod group;
mod knock;
mod link;
mod ondemand;
pub mod pipeline;
pub mod pixels;
pub mod reader;
pub mod reason;
mod recording;
pub mod slot;
pub mod spec;
pub mod supervise;
pub mod timeline;

pub use decoder::{Codec, DecoderChoice};
pub use elements::present;
pub use group::{Group, Unit};
pub use pipeline::{Pipeline, Pulled};
pub use reader::Reader;
pub use reason::{Reason, Retry};
pub use slot::{Signal, Slot};
pub use spec::{Fps, FrameSize, Pace, RtspUrl, SourceSpec, Transport, redacted};
pub use supervise::{Rules, Setup, Status, Supervisor, Taker};
