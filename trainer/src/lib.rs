//! What the trainer does: CSKT (arXiv 2309.09496) on libtorch, trained and judged.
//!
//! [`net`] is the model, [`loss`] what it is trained by, [`adam`] how a step is made, [`evaluate`] how
//! good the result is. Names, shapes and files of weights are those of [`spotter_models::towers`].

pub mod ablate;
pub mod adam;
pub mod adapt;
pub mod augment;
pub mod base;
pub mod bench;
mod bounded;
pub mod cmd;
pub mod dataset;
pub mod error;
pub mod evaluate;
pub mod export;
pub mod import;
pub mod loss;
mod memory;
pub mod method;
pub mod net;
pub mod recipe;
pub mod report;
pub mod run;
pub mod schedule;
mod status;
mod stopwatch;
mod tell;

pub use error::{Error, Result};
pub use tell::tell;
