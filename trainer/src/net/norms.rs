//! Normalisation over batches (arXiv 1502.03167): only while a backbone is trained from nothing.
//!
//! A finished backbone has it merged into the convolutions before it, so that nothing at inference and
//! nothing in adaptation depends on who else is in a batch.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use spotter_models::towers::{Tensor as Stored, Weights};
use tch::Tensor;

use super::Parameters;
use crate::error::Result;

/// Share of a new batch in the running figures.
const MOMENTUM: f64 = 0.1;
/// Added to a variance.
const EPSILON: f64 = 1e-5;
/// The parts: what is trained, and what is measured.
const PARTS: [(&str, f32); 4] = [("weight", 1.0), ("bias", 0.0), ("mean", 0.0), ("variance", 1.0)];

/// Whether a parameter is a running figure, which batches change and steps do not.
pub fn is_measured(name: &str) -> bool {
    name.ends_with(".norm.mean") || name.ends_with(".norm.variance")
}

/// Whether a parameter belongs to a normalisation over batches.
pub fn is_norm(name: &str) -> bool {
    name.contains(".norm.")
}

/// The tensors of normalisations after every convolution of the stem, as training starts.
///
/// # Errors
/// [`crate::Error::Model`] where the sizes do not fit.
pub fn starting_norms(weights: &Weights) -> Result<Weights> {
    let mut norms = Weights::default();
    for (name, tensor) in weights.iter() {
        let Some(prefix) = convolution(name) else { continue };
        let channels = tensor.shape().first().copied().unwrap_or(0);
        for (part, value) in PARTS {
            let values = Stored::new([channels].as_slice(), vec![value; channels])?;
            norms.insert(format!("{prefix}.norm.{part}"), values);
        }
    }
    Ok(norms)
}

fn convolution(name: &str) -> Option<&str> {
    name.strip_suffix(".weight").filter(|p| p.starts_with("visual.stem.") && !is_norm(name))
}

/// The same model without normalisations over batches: their running figures become part of the
/// convolutions.
///
/// # Errors
/// [`crate::Error::Model`] where a tensor is missing.
pub fn merged(weights: &Weights) -> Result<Weights> {
    let mut plain = Weights::default();
    for (name, tensor) in weights.iter().filter(|(name, _)| !is_norm(name)) {
        plain.insert(name, tensor.clone());
    }
    for (name, tensor) in weights.iter() {
        let Some(prefix) = convolution(name) else { continue };
        let part = |part: &str| weights.tensor(&format!("{prefix}.norm.{part}"));
        let (Some(weight), Some(bias), Some(mean), Some(variance)) =
            (part("weight"), part("bias"), part("mean"), part("variance"))
        else {
            continue;
        };
        let channels = weight.values().len().max(1);
        let (mut kernel, mut shift) = (tensor.values().to_vec(), Vec::with_capacity(channels));
        let each = kernel.len() / channels;
        let figures = mean.values().iter().zip(variance.values());
        let affine = weight.values().iter().zip(bias.values());
        for ((kernel, (mean, variance)), (weight, bias)) in
            kernel.chunks_exact_mut(each.max(1)).zip(figures).zip(affine)
        {
            let gain = f64::from(*weight) / (f64::from(*variance) + EPSILON).sqrt();
            kernel.iter_mut().for_each(|value| *value = (f64::from(*value) * gain) as f32);
            shift.push((f64::from(*bias) - f64::from(*mean) * gain) as f32);
        }
        plain.insert(name, Stored::new(tensor.shape(), kernel)?);
        plain.insert(format!("{prefix}.bias"), Stored::new([channels].as_slice(), shift)?);
    }
    Ok(plain)
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
    /// The one after this convolution, if there is one.
    pub(super) fn of(parameters: &Parameters, convolution: &str) -> Result<Option<Self>> {
        let part = |part: &str| parameters.get(&format!("{convolution}.norm.{part}"));
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
