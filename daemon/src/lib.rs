//! Spotter's daemon: cameras in, persons who fit a description out.
//!
//! The modules are the stages of the data path, in its order: [`source`] decodes, [`detect`] finds
//! persons, [`track`] follows them, [`crop`] chooses which views are worth embedding.

pub mod clock;
pub mod crop;
pub mod detect;
pub mod error;
pub mod frame;
pub mod geometry;
pub mod mqtt;
pub mod outbox;
pub mod source;
pub mod track;

pub use error::{Error, Kind, Result};
