//! The MLP of a CLIP block with the normalisation before it.

use tch::Tensor;

use super::{Parameters, kind::linear, norm::Norm};
use crate::error::Result;

/// Factor of QuickGELU, `x * sigmoid(1.702 x)`.
const STEEPNESS: f64 = 1.702;

/// `proj(QuickGELU(fc(ln_2(x))))`.
///
/// QuickGELU is `silu(1.702 x) / 1.702`: one kernel in each direction instead of five, and one tensor to
/// keep instead of two, of the widest there are. The factors go into the normalisation and the biases,
/// which are small.
pub(crate) struct Mlp {
    norm: Norm,
    fc: [Tensor; 2],
    proj: [Tensor; 2],
    kind: tch::Kind,
}

impl Mlp {
    /// That of the block of this name.
    pub(crate) fn new(parameters: &Parameters, block: &str) -> Result<Self> {
        let pair = |part: &str| -> Result<[Tensor; 2]> {
            let of = |which: &str| parameters.get(&format!("{block}.mlp.{part}.{which}"));
            Ok([of("weight")?, of("bias")?])
        };
        Ok(Self {
            norm: Norm::new(parameters, &format!("{block}.ln_2"))?,
            fc: pair("c_fc")?,
            proj: pair("c_proj")?,
            kind: parameters.kind(),
        })
    }

    /// Tokens `[N, L, D]` to what is added to them.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let ([fc, fc_bias], [proj, proj_bias]) = (&self.fc, &self.proj);
        let steep = self.norm.scaled(x, STEEPNESS)?;
        let inner = linear(&steep, fc, &fc_bias.f_mul_scalar(STEEPNESS)?, self.kind)?.f_silu()?;
        let out = linear(&inner, proj, &proj_bias.f_mul_scalar(STEEPNESS)?, self.kind)?;
        Ok(out.f_mul_scalar(STEEPNESS.recip())?)
    }
}
