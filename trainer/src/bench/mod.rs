//! What folding is worth: the training step against the same step written plainly.

mod plain;
mod report;
mod step;

pub use plain::Plain;
pub use report::{Comparison, Machine, Memory, Spread, Times, compare, memory};
pub use step::{Bench, LARGEST_BATCH, Setup, Size, Took, Variant};
