//! A random rotation that costs almost nothing: it spreads what a vector has over all components, so
//! that every bit of a code says about as much as every other.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rounds of signs and butterflies; four, as the authors of RaBitQ take.
const ROUNDS: usize = 4;

/// A rotation of a space that is filled up to a multiple of 64: random signs and the fast Hadamard
/// transform of the first and of the last 2^k components, in turn (Gao and Long, "RaBitQ", SIGMOD 2024;
/// for sizes that are no power of two as their library does it).
#[derive(Clone, Debug)]
pub struct Rotation {
    size: usize,
    signs: Vec<Vec<f32>>,
}

impl Rotation {
    /// A rotation of vectors with `size` components. The same seed gives the same one.
    pub fn new(size: usize, seed: u64) -> Self {
        let size = size.next_multiple_of(64);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut signs = || -> Vec<f32> {
            (0..size).map(|_| if random.random::<bool>() { 1.0 } else { -1.0 }).collect()
        };
        Self { size, signs: (0..ROUNDS).map(|_| signs()).collect() }
    }

    /// Components after the rotation.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The vector rotated; its length stays. `out` becomes [`Rotation::size`] long.
    pub fn apply(&self, values: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend(values.iter().take(self.size));
        out.resize(self.size, 0.0);
        if self.size == 0 {
            return;
        }
        let width = 1usize << self.size.ilog2();
        for (round, signs) in self.signs.iter().enumerate() {
            out.iter_mut().zip(signs).for_each(|(v, sign)| *v *= sign);
            let part = if round % 2 == 0 {
                out.get_mut(..width)
            } else {
                out.get_mut(self.size - width..)
            };
            part.into_iter().for_each(hadamard);
        }
    }
}

/// The Hadamard transform in place, scaled so that lengths stay; of 2^k values.
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (values.len() as f32).sqrt();
    values.iter_mut().for_each(|v| *v *= scale);
}
