//! How good a model is: it ranks the pictures of a data set for each of its captions, and is asked for
//! persons who are not there.
//!
//! [`judge`] is for embeddings that one has; [`evaluate`] makes them with an [`Embedder`] and sums up in a
//! [`Report`]; [`page`] shows it.

pub mod bootstrap;
mod choice;
pub mod embed;
mod judge;
pub mod openset;
pub mod page;
mod ranking;
mod report;

pub use bootstrap::Intervals;
pub use choice::{Choice, Ids, Part};
pub use embed::{BundleEmbedder, Embedder, ModelRecord, NetEmbedder};
pub use judge::{Histogram, Scored, judge};
pub use openset::OpenSet;
pub use ranking::{Judged, Ranking, order, rank};
pub use report::{Counts, DataRecord, Outcome, Query, Report, evaluate};

/// Seed of everything that is drawn for a report, so that the same model has the same figures.
pub const SEED: u64 = 1;
