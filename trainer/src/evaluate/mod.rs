//! How good a model is.

mod ranking;

pub use ranking::{Ranking, rank};
