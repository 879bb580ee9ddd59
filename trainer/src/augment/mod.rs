//! Changes to pictures and captions that training sees and evaluation does not.
//!
//! All of them are functions of their input and a generator. [`Draws`] gives one for each pair of each
//! epoch, so that what is drawn depends neither on threads nor on where a run was interrupted.

pub mod image;
pub mod text;

pub use image::{Fill, ImageAugment};
pub use text::TextAugment;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// What is drawn; each has a sequence of its own.
#[derive(Clone, Copy, Debug)]
pub enum Draws {
    /// The order of an epoch.
    Order = 1,
    /// Changes of a picture.
    Image = 2,
    /// Changes of a caption.
    Text = 3,
}

impl Draws {
    /// The generator for one thing, `number`, in one epoch.
    pub fn generator(self, seed: u64, epoch: u64, number: u64) -> ChaCha8Rng {
        let mut key = [0; 32];
        let parts = [seed, epoch, number, self as u64];
        for (place, part) in key.chunks_exact_mut(8).zip(parts) {
            place.copy_from_slice(&part.to_le_bytes());
        }
        ChaCha8Rng::from_seed(key)
    }
}

/// Standard normal (Box and Muller 1958).
fn normal(random: &mut impl Rng) -> f64 {
    // Above 0, whose logarithm is infinite.
    let radius: f64 = 1.0 - random.random::<f64>();
    let angle: f64 = random.random::<f64>() * std::f64::consts::TAU;
    (-2.0 * radius.ln()).sqrt() * angle.cos()
}

/// Refuses a number outside `low..=high`.
fn within(what: &str, value: f64, low: f64, high: f64) -> Result<()> {
    match (low..=high).contains(&value) {
        true => Ok(()),
        false => Err(Error::invalid(what, format!("{value} is not between {low} and {high}"))),
    }
}
