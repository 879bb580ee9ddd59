//! What a Spotter model bundle is: the contract between the trainer, which writes bundles, and the
//! daemon, which runs them.
//!
//! Everything that must be the same on both sides lives here and nowhere else: the tokenizer, the
//! preprocessing, the manifest, the folded towers and the probe that proves a machine computes what
//! the exporter computed; and the one look of the reports that both write ([`page`]). Nothing here knows of cameras, brokers or training.

pub mod assets;
pub mod bundle;
pub mod calibration;
pub mod cohort;
pub mod digest;
pub mod embedding;
pub mod error;
pub mod feedback;
pub mod kernel;
pub mod manifest;
pub mod page;
pub mod preprocess;
pub mod probe;
pub mod rgb;
mod rows;
#[cfg(feature = "ort")]
pub mod session;
pub mod signature;
pub mod tokenize;
pub mod towers;
pub mod vocabulary;

pub use digest::Digest;
pub use embedding::{Embedding, Generation};
pub use error::{Error, Kind, Result};
pub use rgb::{Rgb, RgbView};
