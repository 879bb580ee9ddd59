//! Normalisation over batches (arXiv 1502.03167): only while a backbone is trained from nothing.
//!
//! It stands after every convolution, and after the towers' last normalisations, which brings embeddings
//! apart that begin nearly equal. A finished backbone has it merged into what is before it, so that nothing at inference and
//! nothing in adaptation depends on who else is in a batch.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use spotter_models::towers::{Tensor as Stored, Weights};
use tch::Tensor;

use super::{Parameters, SCALE};
use crate::error::Result;

/// Share of a new batch in the running figures.
const MOMENTUM: f64 = 0.1;
/// Added to a variance.
const EPSILON: f64 = 1e-5;
/// The parts: what is trained, and what is measured.
const PARTS: [(&str, f32); 4] = [("weight", 1.0), ("bias", 0.0), ("mean", 0.0), ("variance", 1.0)];

/// The projection into the vision blocks.
const PROJECTION: &str = "visual.conv1";
/// What normalisations follow besides the convolutions of the stem.
const FOLLOWED: [&str; 3] = [PROJECTION, "visual.ln_post", "ln_final"];

/// Whether a parameter is a running figure, which batches change and steps do not.
pub fn is_measured(name: &str) -> bool {
    name.ends_with(".norm.mean") || name.ends_with(".norm.variance")
}

/// Whether a parameter belongs to a normalisation over batches.
pub fn is_norm(name: &str) -> bool {
    name.contains(".norm.")
}

/// The tensors of these normalisations, as training starts.
///
/// # Errors
/// [`crate::Error::Model`] where the sizes do not fit.
pub fn starting_norms(weights: &Weights) -> Result<Weights> {
    let mut norms = Weights::default();
    for (name, tensor) in weights.iter() {
        let Some(prefix) = before_norm(name) else { continue };
        let channels = tensor.shape().first().copied().unwrap_or(0);
        for (part, value) in PARTS {
            let values = Stored::new([channels].as_slice(), vec![value; channels])?;
            norms.insert(format!("{prefix}.norm.{part}"), values);
        }
    }
    Ok(norms)
}

/// The name of what a normalisation follows, from the name of its weights.
fn before_norm(weights: &str) -> Option<&str> {
    let prefix = weights.strip_suffix(".weight").filter(|_| !is_norm(weights))?;
    let is_followed = prefix.starts_with("visual.stem.") || FOLLOWED.contains(&prefix);
    is_followed.then_some(prefix)
}

/// The same model without what only training needs: a trained temperature goes, normalisations'
/// running figures become part of what they follow.
///
/// # Errors
/// [`crate::Error::Model`] where a tensor is missing.
pub fn merged(weights: &Weights) -> Result<Weights> {
    let mut plain = Weights::default();
    let only_trained = |name: &str| is_norm(name) || name == SCALE;
    for (name, tensor) in weights.iter().filter(|(name, _)| !only_trained(name)) {
        plain.insert(name, tensor.clone());
    }
    for (name, tensor) in weights.iter() {
        let Some(prefix) = before_norm(name) else { continue };
        let Some((gains, shifts)) = gains_and_shifts(weights, prefix) else { continue };
        let mut values = tensor.values().to_vec();
        let each = (values.len() / gains.len().max(1)).max(1);
        for (values, gain) in values.chunks_exact_mut(each).zip(&gains) {
            values.iter_mut().for_each(|value| *value = (f64::from(*value) * gain) as f32);
        }
        plain.insert(name, Stored::new(tensor.shape(), values)?);
        if prefix == PROJECTION {
            shift_patches(&mut plain, &shifts)?;
        } else {
            let name = format!("{prefix}.bias");
            let Some(bias) = plain.tensor(&name) else { continue };
            // A convolution's own bias is not computed while its normalisation is there.
            let own = |bias: f32, gain: f64| match each {
                1 => f64::from(bias) * gain,
                _ => 0.0,
            };
            let biases = bias.values().iter().zip(&gains).zip(&shifts);
            let values = biases.map(|((b, gain), shift)| (own(*b, *gain) + shift) as f32).collect();
            plain.insert(&*name, Stored::new([gains.len()].as_slice(), values)?);
        }
    }
    Ok(plain)
}

/// What a normalisation multiplies by and adds, for each channel; `None` where there is none.
fn gains_and_shifts(weights: &Weights, prefix: &str) -> Option<(Vec<f64>, Vec<f64>)> {
    let part = |part: &str| Some(weights.tensor(&format!("{prefix}.norm.{part}"))?.values());
    let variances = part("variance")?.iter().map(|v| (f64::from(*v) + EPSILON).sqrt());
    let gains: Vec<f64> =
        part("weight")?.iter().zip(variances).map(|(w, d)| f64::from(*w) / d).collect();
    let means = part("mean")?.iter().zip(&gains).map(|(mean, gain)| f64::from(*mean) * gain);
    let shifts =
        part("bias")?.iter().zip(means).map(|(bias, mean)| f64::from(*bias) - mean).collect();
    Some((gains, shifts))
}

/// The projection of patches has no bias: the positions of all patches take it.
fn shift_patches(weights: &mut Weights, shifts: &[f64]) -> Result<()> {
    const POSITIONS: &str = "visual.positional_embedding";
    let Some(table) = weights.tensor(POSITIONS) else { return Ok(()) };
    let (shape, mut values) = (table.shape().to_vec(), table.values().to_vec());
    // The first row is the class token's.
    for row in values.chunks_exact_mut(shifts.len().max(1)).skip(1) {
        row.iter_mut().zip(shifts).for_each(|(value, shift)| *value += *shift as f32);
    }
    weights.insert(POSITIONS, Stored::new(shape, values)?);
    Ok(())
}

/// One normalisation.
pub(super) struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    /// Whether a batch is normalised by its own figures (and changes the running ones).
    training: Arc<AtomicBool>,
}

impl BatchNorm {
    /// The one after what has this name, if there is one.
    pub(super) fn of(parameters: &Parameters, prefix: &str) -> Result<Option<Self>> {
        let part = |part: &str| parameters.get(&format!("{prefix}.norm.{part}"));
        if part("weight").is_err() {
            return Ok(None);
        }
        Ok(Some(Self {
            weight: part("weight")?,
            bias: part("bias")?,
            mean: part("mean")?,
            variance: part("variance")?,
            training: parameters.training(),
        }))
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_batch_norm(
            Some(&self.weight),
            Some(&self.bias),
            Some(&self.mean),
            Some(&self.variance),
            self.training.load(Ordering::Relaxed),
            MOMENTUM,
            EPSILON,
            false,
        )?)
    }
}
