//! Weights as training starts from them.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::Digest as _;

use super::layout::{Start, tensors};
use super::random::check_count;
use super::{Config, Tensor, Weights};
use crate::Result;

/// Draws the tensors whose names `is_wanted`, each from its [`Start`] in the layout: normal numbers,
/// or the mean alone where the deviation is 0.
///
/// Every tensor has a stream of its own, of ChaCha8 keyed by its name and `seed`, so that a tensor
/// that another configuration adds, or that is not wanted, changes none of the others.
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) where `config` does not fit together,
/// [`Error::Invalid`](crate::Error::Invalid) where it is of absurd size.
pub fn starting_weights(
    config: &Config,
    seed: u64,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Weights> {
    config.validate()?;
    let mut specs = tensors(config);
    specs.retain(|spec| is_wanted(&spec.name));
    check_count(&specs)?;
    let mut weights = Weights::default();
    for spec in specs {
        let count = spec.shape.iter().product();
        let values = draw(&mut stream(&spec.name, seed), spec.start, count);
        weights.insert(spec.name, Tensor::new(spec.shape, values)?);
    }
    Ok(weights)
}

/// The stream of one tensor.
fn stream(name: &str, seed: u64) -> ChaCha8Rng {
    let key = sha2::Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name);
    ChaCha8Rng::from_seed(key.finalize().into())
}

fn draw(source: &mut ChaCha8Rng, start: Start, count: usize) -> Vec<f32> {
    if start.deviation == 0.0 {
        return vec![start.mean; count];
    }
    let (mean, deviation) = (f64::from(start.mean), f64::from(start.deviation));
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        values.extend(normal_pair(source).map(|value| (mean + deviation * value) as f32));
    }
    values.truncate(count);
    values
}

/// Two independent standard normal numbers, by Marsaglia's polar method (Marsaglia and Bray, 1964).
fn normal_pair(source: &mut ChaCha8Rng) -> [f64; 2] {
    /// Half of what 53 bits, the precision of the numbers, can count.
    const HALF: f64 = (1u64 << 52) as f64;
    loop {
        let [x, y] = std::array::from_fn(|_| (source.next_u64() >> 11) as f64 / HALF - 1.0);
        let square: f64 = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            let factor = (-2.0 * square.ln() / square).sqrt();
            return [x * factor, y * factor];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::is_trained;
    use super::*;

    fn small() -> Config {
        Config {
            vision_width: 64,
            vision_layers: 2,
            vision_heads: 2,
            height: 48,
            width: 16,
            text_width: 64,
            text_layers: 2,
            text_heads: 2,
            vocab: 600,
            embed: 32,
            vision_bottleneck: 8,
            text_bottleneck: 8,
            ..Config::vit_b16()
        }
    }

    #[test]
    fn each_tensor_has_the_distribution_of_the_layout() {
        let config = small();
        let weights = starting_weights(&config, 5, |_| true).unwrap();
        assert!(weights.check(&config).unwrap().is_empty());
        for spec in tensors(&config) {
            let values = weights.get(&spec.name, &spec.shape).unwrap();
            let (mean, deviation) = (spec.start.mean, spec.start.deviation);
            if deviation == 0.0 {
                assert!(values.iter().all(|value| *value == mean), "{}", spec.name);
                continue;
            }
            let scaled: Vec<f64> =
                values.iter().map(|v| f64::from((v - mean) / deviation)).collect();
            let moment =
                |power| scaled.iter().map(|v| v.powi(power)).sum::<f64>() / scaled.len() as f64;
            // Five standard errors of each estimate on this many values.
            let bound = |variance: f64| 5.0 * (variance / scaled.len() as f64).sqrt();
            assert!(moment(1).abs() < bound(1.0), "{}", spec.name);
            assert!((moment(2) - 1.0).abs() < bound(2.0), "{}", spec.name);
            assert!((moment(4) - 3.0).abs() < bound(96.0), "{}", spec.name);
        }
    }

    #[test]
    fn a_tensor_depends_on_its_name_and_the_seed_alone() {
        let config = small();
        let all = starting_weights(&config, 5, |_| true).unwrap();
        let trained = starting_weights(&config, 5, is_trained).unwrap();
        assert!(trained.iter().all(|(name, tensor)| all.tensor(name) == Some(tensor)));
        assert!(trained.iter().all(|(name, _)| is_trained(name)));
        let plain = Config { prompts: 0, vision_bottleneck: 0, text_bottleneck: 0, ..config };
        let frozen = starting_weights(&plain, 5, |_| true).unwrap();
        assert!(frozen.iter().all(|(name, tensor)| all.tensor(name) == Some(tensor)));
        assert_eq!(frozen.iter().count() + trained.iter().count(), all.iter().count());
        let other = starting_weights(&plain, 6, |_| true).unwrap();
        assert_ne!(other.tensor("visual.proj"), all.tensor("visual.proj"));
        assert_ne!(
            all.tensor("dat.vision.0.up.weight"),
            all.tensor("dat.vision.1.up.weight"),
            "tensors of one shape must differ"
        );
    }
}
