//! What people read of a training: its tables, and its page in the style of [`spotter_models::page`].

pub mod csv;
mod picture;
pub mod training;

pub use picture::inline_jpeg;
