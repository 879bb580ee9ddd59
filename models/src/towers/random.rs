//! Random weights of any size, for benchmarks and for tests of the export.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::layout::{Start, TensorSpec, tensors};
use super::{Config, Tensor, Weights, tensor};
use crate::{Error, Result};

/// Biases and normalisations, which training starts at constants, vary by this much: an export that
/// forgot one would otherwise not show.
const CONSTANT_DEVIATION: f32 = 0.02;
/// Ten times the largest model that is meant here; more would only exhaust the memory.
const MOST_VALUES: usize = 1 << 31;

/// Weights near those that training starts from, so that activations keep their size through the
/// blocks; the same for the same `seed` on every machine.
///
/// # Errors
/// [`Error::Mismatch`] where `config` does not fit together, [`Error::Invalid`] where it is of
/// absurd size.
pub fn random(config: &Config, seed: u64) -> Result<Weights> {
    config.validate()?;
    let specs = tensors(config);
    check_count(&specs)?;
    let mut source = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = Weights::default();
    for spec in specs {
        let count = spec.shape.iter().product();
        weights.insert(spec.name, Tensor::new(spec.shape, draw(&mut source, spec.start, count))?);
    }
    Ok(weights)
}

/// Refuses tensors that together would exhaust the memory.
pub(super) fn check_count(specs: &[TensorSpec]) -> Result<()> {
    let values = specs.iter().try_fold(0usize, |sum, spec| {
        tensor::element_count(&spec.shape).and_then(|count| sum.checked_add(count))
    });
    if values.is_none_or(|values| values > MOST_VALUES) {
        return Err(Error::invalid(
            "random weights",
            format!("the configuration asks for more than {MOST_VALUES} numbers"),
        ));
    }
    Ok(())
}

/// Sums of four uniform 16-bit numbers: near enough to normal, and many times faster.
fn draw(source: &mut ChaCha8Rng, start: Start, count: usize) -> Vec<f32> {
    /// Standard deviation and mean of such a sum.
    const SUM_DEVIATION: f32 = 37_837.2;
    const SUM_MEAN: f32 = 131_070.0;
    let deviation = if start.deviation > 0.0 { start.deviation } else { CONSTANT_DEVIATION };
    let scale = deviation / SUM_DEVIATION;
    (0..count)
        .map(|_| {
            let bits = source.next_u64();
            let sum = (bits & 0xffff)
                + ((bits >> 16) & 0xffff)
                + (bits >> 32 & 0xffff)
                + (bits >> 48 & 0xffff);
            start.mean + (sum as f32 - SUM_MEAN) * scale
        })
        .collect()
}
