//! Normalisation over a token.

use tch::Tensor;

use super::Parameters;
use crate::error::Result;

/// CLIP's.
const EPSILON: f64 = 1e-5;

/// A layer normalisation.
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    pub(super) fn new(parameters: &Parameters, name: &str) -> Result<Self> {
        Ok(Self {
            weight: parameters.get(&format!("{name}.weight"))?,
            bias: parameters.get(&format!("{name}.bias"))?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_layer_norm(
            self.weight.size(),
            Some(&self.weight),
            Some(&self.bias),
            EPSILON,
            false,
        )?)
    }

    /// The result times a factor, at no cost for the tokens.
    pub(super) fn scaled(&self, x: &Tensor, factor: f64) -> Result<Tensor> {
        let (weight, bias) = (self.weight.f_mul_scalar(factor)?, self.bias.f_mul_scalar(factor)?);
        Ok(x.f_layer_norm(self.weight.size(), Some(&weight), Some(&bias), EPSILON, false)?)
    }
}
