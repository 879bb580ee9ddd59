//! The tensors of one transformer block and of its prompts, as the weight files hold them.

use super::layout::{Side, TEXT_PROMPTS, VISION_PROMPTS};
use super::{Config, NORM_EPSILON, Weights};
use crate::Result;

/// Scale and shift of a normalisation.
#[derive(Clone, Copy)]
pub(super) struct Affine<'a> {
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
}

impl<'a> Affine<'a> {
    pub(super) fn read(weights: &'a Weights, prefix: &str, width: usize) -> Result<Self> {
        Ok(Self {
            weight: weights.get(&format!("{prefix}.weight"), &[width])?,
            bias: weights.get(&format!("{prefix}.bias"), &[width])?,
        })
    }

    /// Normalises a row, then scales and shifts it.
    pub(super) fn apply(&self, row: &[f64]) -> Vec<f64> {
        let mut row = normalised(row);
        for ((value, weight), bias) in row.iter_mut().zip(self.weight).zip(self.bias) {
            *value = *value * f64::from(*weight) + f64::from(*bias);
        }
        row
    }
}

/// A matrix with a row of weights for each output, and a bias.
#[derive(Clone, Copy)]
pub(super) struct Linear<'a> {
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl<'a> Linear<'a> {
    fn read(weights: &'a Weights, prefix: &str, outputs: usize, inputs: usize) -> Result<Self> {
        Self::named(
            weights,
            [&format!("{prefix}.weight"), &format!("{prefix}.bias")],
            outputs,
            inputs,
        )
    }

    fn named(
        weights: &'a Weights,
        [weight, bias]: [&str; 2],
        outputs: usize,
        inputs: usize,
    ) -> Result<Self> {
        let weight = weights.get(weight, &[outputs, inputs])?;
        Ok(Self { weight, bias: weights.get(bias, &[outputs])?, inputs, outputs })
    }

    /// The part that computes `count` outputs from `first` on.
    pub(super) fn outputs(&self, first: usize, count: usize) -> Linear<'a> {
        Linear {
            weight: &self.weight[first * self.inputs..(first + count) * self.inputs],
            bias: &self.bias[first..first + count],
            inputs: self.inputs,
            outputs: count,
        }
    }

    /// The weights with a row for each input, which is how ONNX multiplies, each passed through
    /// `change` with the number of its input.
    pub(super) fn transposed(&self, change: impl Fn(usize, f32) -> f32) -> Vec<f32> {
        /// Rows at a time: as many floats as a cache line holds, or every write would miss.
        const TILE: usize = 16;
        let mut transposed = vec![0f32; self.weight.len()];
        for (tile, rows) in self.weight.chunks(TILE * self.inputs).enumerate() {
            for input in 0..self.inputs {
                let start = input * self.outputs + tile * TILE;
                let rows = rows.chunks_exact(self.inputs);
                for (place, row) in transposed[start..].iter_mut().zip(rows) {
                    *place = change(input, row[input]);
                }
            }
        }
        transposed
    }

    fn apply(&self, row: &[f32]) -> Vec<f64> {
        let rows = self.weight.chunks_exact(self.inputs);
        rows.zip(self.bias)
            .map(|(weights, bias)| {
                let products = weights.iter().zip(row).map(|(w, x)| f64::from(*w) * f64::from(*x));
                products.sum::<f64>() + f64::from(*bias)
            })
            .collect()
    }
}

/// The bottleneck beside an MLP.
#[derive(Clone, Copy)]
pub(super) struct Adapter<'a> {
    pub(super) ln: Affine<'a>,
    pub(super) down: Linear<'a>,
    pub(super) up: Linear<'a>,
    pub(super) scale: f32,
}

/// One block of a tower.
pub(super) struct Block<'a> {
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) ln_1: Affine<'a>,
    /// Queries, keys and values, `width` outputs each.
    pub(super) attention: Linear<'a>,
    pub(super) projection: Linear<'a>,
    pub(super) ln_2: Affine<'a>,
    pub(super) expansion: Linear<'a>,
    pub(super) contraction: Linear<'a>,
    pub(super) adapter: Option<Adapter<'a>>,
}

impl<'a> Block<'a> {
    pub(super) fn read(
        weights: &'a Weights,
        config: &Config,
        side: Side,
        index: usize,
    ) -> Result<Self> {
        let (prefix, width) = (side.block_prefix(index), side.width(config));
        let named = |part: &str| format!("{prefix}.{part}");
        let attention = [&*named("attn.in_proj_weight"), &*named("attn.in_proj_bias")];
        Ok(Self {
            width,
            heads: side.heads(config),
            ln_1: Affine::read(weights, &named("ln_1"), width)?,
            attention: Linear::named(weights, attention, 3 * width, width)?,
            projection: Linear::read(weights, &named("attn.out_proj"), width, width)?,
            ln_2: Affine::read(weights, &named("ln_2"), width)?,
            expansion: Linear::read(weights, &named("mlp.c_fc"), 4 * width, width)?,
            contraction: Linear::read(weights, &named("mlp.c_proj"), width, 4 * width)?,
            adapter: match side.bottleneck(config) {
                0 => None,
                bottleneck => {
                    let prefix = side.adapter_prefix(index);
                    let named = |part: &str| format!("{prefix}.{part}");
                    Some(Adapter {
                        ln: Affine::read(weights, &named("ln"), width)?,
                        down: Linear::read(weights, &named("down"), bottleneck, width)?,
                        up: Linear::read(weights, &named("up"), width, bottleneck)?,
                        scale: side.scale(config),
                    })
                }
            },
        })
    }

    pub(super) fn queries(&self) -> Linear<'a> {
        self.attention.outputs(0, self.width)
    }

    pub(super) fn keys(&self) -> Linear<'a> {
        self.attention.outputs(self.width, self.width)
    }

    pub(super) fn values(&self) -> Linear<'a> {
        self.attention.outputs(2 * self.width, self.width)
    }

    /// Width of one attention head.
    pub(super) fn head_width(&self) -> usize {
        self.width / self.heads
    }
}

/// The rows of a block's prompts as they enter it, without positions: for vision those carried over
/// from the text tower, then its own; for text its own, then those carried over. Empty where the block
/// has none.
pub(super) fn prompts(
    weights: &Weights,
    config: &Config,
    side: Side,
    block: usize,
) -> Result<Vec<Vec<f64>>> {
    if block >= config.prompted_layers() {
        return Ok(vec![]);
    }
    let own = own_prompts(weights, config, side, block)?.into_iter().map(wide);
    let carried = carried_prompts(weights, config, side, block)?.into_iter();
    Ok(match side {
        Side::Vision => carried.chain(own).collect(),
        Side::Text => own.chain(carried).collect(),
    })
}

/// The prompts of a tower's own in a block that has any.
fn own_prompts<'a>(
    weights: &'a Weights,
    config: &Config,
    side: Side,
    block: usize,
) -> Result<Vec<&'a [f32]>> {
    let (name, count) = match side {
        Side::Vision => (VISION_PROMPTS, config.own_vision_prompts()),
        Side::Text => (TEXT_PROMPTS, config.own_text_prompts()),
    };
    let width = side.width(config);
    let all = weights.get(name, &[config.prompted_layers(), count, width])?;
    Ok(all.chunks_exact(width).skip(block * count).take(count).collect())
}

/// The first prompts of the other tower, carried over into this one; none where no coupling does it.
fn carried_prompts(
    weights: &Weights,
    config: &Config,
    side: Side,
    block: usize,
) -> Result<Vec<Vec<f64>>> {
    let (other, name, is_coupled) = match side {
        Side::Vision => (Side::Text, "bpt.text_to_vision", config.coupling.into_vision()),
        Side::Text => (Side::Vision, "bpt.vision_to_text", config.coupling.into_text()),
    };
    if !is_coupled {
        return Ok(vec![]);
    }
    let name = format!("{name}.{block}");
    let coupling = Linear::read(weights, &name, side.width(config), other.width(config))?;
    let rows = own_prompts(weights, config, other, block)?.into_iter().take(config.prompts);
    Ok(rows.map(|row| coupling.apply(row)).collect())
}

/// A row in double precision, in which the folding computes.
pub(super) fn wide(row: &[f32]) -> Vec<f64> {
    row.iter().map(|value| f64::from(*value)).collect()
}

/// A row with zero mean and unit variance, as `LayerNormalization` computes it before scale and
/// shift.
pub(super) fn normalised(row: &[f64]) -> Vec<f64> {
    let count = row.len() as f64;
    let mean = row.iter().sum::<f64>() / count;
    let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    let scale = 1.0 / (variance + f64::from(NORM_EPSILON)).sqrt();
    row.iter().map(|value| (value - mean) * scale).collect()
}
