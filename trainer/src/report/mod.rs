//! Pages that people read: one self-contained HTML file each, without scripts and without anything
//! from outside.

pub mod csv;
mod page;
mod picture;
pub mod plot;
pub mod training;

pub use page::{Page, escape};
pub use picture::inline_jpeg;
