//! A transformer block of CLIP with CSKT's adapter beside its MLP.

use spotter_models::towers::Config;
use tch::Tensor;

use super::{Parameters, kind::like};
use crate::error::Result;

/// CLIP's layer normalisation.
const EPS: f64 = 1e-5;

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
        let (weight, bias) = (like(&self.weight, x)?, like(&self.bias, x)?);
        Ok(x.f_layer_norm(weight.size(), Some(&weight), Some(&bias), EPS, false)?)
    }
}

struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn new(parameters: &Parameters, weight: &str, bias: &str) -> Result<Self> {
        Ok(Self { weight: parameters.get(weight)?, bias: parameters.get(bias)? })
    }

    fn named(parameters: &Parameters, name: &str) -> Result<Self> {
        Self::new(parameters, &format!("{name}.weight"), &format!("{name}.bias"))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&like(&self.weight, x)?, Some(&like(&self.bias, x)?))?)
    }

    /// Only some of its outputs.
    fn part(&self, x: &Tensor, from: i64, count: i64) -> Result<Tensor> {
        let weight = like(&self.weight.f_narrow(0, from, count)?, x)?;
        let bias = like(&self.bias.f_narrow(0, from, count)?, x)?;
        Ok(x.f_linear(&weight, Some(&bias))?)
    }
}

/// DAT (`cskt.md` 1.3): `scale * Up(ReLU(Down(ln_3(x))))`.
struct Adapter {
    norm: Norm,
    down: Linear,
    up: Linear,
    scale: f64,
}

impl Adapter {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let inner = self.down.forward(&self.norm.forward(x)?)?.f_relu()?;
        Ok(self.up.forward(&inner)?.f_mul_scalar(self.scale)?)
    }
}

/// Which tower a block belongs to.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Vision,
    Text,
}

impl Side {
    fn of(self, config: &Config) -> (&'static str, usize, usize, f32) {
        match self {
            Side::Vision => {
                ("vision", config.vision_heads, config.vision_bottleneck, config.vision_scale)
            }
            Side::Text => ("text", config.text_heads, config.text_bottleneck, config.text_scale),
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Side::Vision => "visual.transformer.resblocks",
            Side::Text => "transformer.resblocks",
        }
    }
}

/// A block.
pub(super) struct Block {
    heads: i64,
    ln_1: Norm,
    in_proj: Linear,
    out_proj: Linear,
    ln_2: Norm,
    fc: Linear,
    proj: Linear,
    adapter: Option<Adapter>,
}

impl Block {
    pub(super) fn new(
        config: &Config,
        parameters: &Parameters,
        side: Side,
        index: usize,
    ) -> Result<Self> {
        let name = format!("{}.{index}", side.prefix());
        let (tower, heads, bottleneck, scale) = side.of(config);
        let dat = format!("dat.{tower}.{index}");
        let adapter = || -> Result<Adapter> {
            Ok(Adapter {
                norm: Norm::new(parameters, &format!("{dat}.ln"))?,
                down: Linear::named(parameters, &format!("{dat}.down"))?,
                up: Linear::named(parameters, &format!("{dat}.up"))?,
                scale: f64::from(scale),
            })
        };
        let in_proj = |part: &str| format!("{name}.attn.in_proj_{part}");
        Ok(Self {
            heads: heads as i64,
            ln_1: Norm::new(parameters, &format!("{name}.ln_1"))?,
            in_proj: Linear::new(parameters, &in_proj("weight"), &in_proj("bias"))?,
            out_proj: Linear::named(parameters, &format!("{name}.attn.out_proj"))?,
            ln_2: Norm::new(parameters, &format!("{name}.ln_2"))?,
            fc: Linear::named(parameters, &format!("{name}.mlp.c_fc"))?,
            proj: Linear::named(parameters, &format!("{name}.mlp.c_proj"))?,
            adapter: (bottleneck > 0).then(adapter).transpose()?,
        })
    }

    /// Tokens `x` `[N, L, D]` through the block. They see `prefix` `[P, D]`, which is the same for all
    /// of the batch, and of each other what `mask` (true: seen; broadcast to `[N, 1, L, P + L]`)
    /// allows.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        prefix: Option<&Tensor>,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let normed = self.ln_1.forward(x)?;
        self.rest(x, &self.attend(&normed, &normed, prefix, mask)?)
    }

    /// Only the tokens `asked` `[N, 1, D]` of `x`: what the last block has to compute.
    pub(super) fn last(
        &self,
        asked: &Tensor,
        x: &Tensor,
        prefix: Option<&Tensor>,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (queries, keys) = (self.ln_1.forward(asked)?, self.ln_1.forward(x)?);
        self.rest(asked, &self.attend(&queries, &keys, prefix, mask)?)
    }

    /// A token that sees only itself: all its attention is on its own value.
    pub(super) fn alone(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.width(x)?;
        let value = self.in_proj.part(&self.ln_1.forward(x)?, 2 * width, width)?;
        self.rest(x, &value)
    }

    /// Attention of normalised queries to normalised keys and a prefix that is not normalised yet.
    fn attend(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        prefix: Option<&Tensor>,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let width = self.width(queries)?;
        let batch = keys.size3()?.0;
        let query = self.in_proj.part(queries, 0, width)?;
        let mut both = self.in_proj.part(keys, width, 2 * width)?;
        if let Some(prefix) = prefix {
            let constant = self.in_proj.part(&self.ln_1.forward(prefix)?, width, 2 * width)?;
            let constant = constant.f_unsqueeze(0)?.f_expand([batch, -1, -1], false)?;
            both = Tensor::f_cat(&[constant, both], 1)?;
        }
        let split = |x: &Tensor| -> Result<Tensor> {
            let (n, length, wide) = x.size3()?;
            Ok(x.f_reshape([n, length, self.heads, wide / self.heads])?.f_transpose(1, 2)?)
        };
        let (key, value) = (both.f_narrow(2, 0, width)?, both.f_narrow(2, width, width)?);
        let (query, key, value) = (split(&query)?, split(&key)?, split(&value)?);
        let attended = Tensor::f_scaled_dot_product_attention(
            &query, &key, &value, mask, 0.0, false, None, false,
        )?;
        let (n, _, length, _) = attended.size4()?;
        Ok(attended.f_transpose(1, 2)?.f_reshape([n, length, width])?)
    }

    /// What follows attention: projection, MLP and adapter, each added to its input.
    fn rest(&self, x: &Tensor, attended: &Tensor) -> Result<Tensor> {
        let x = x.f_add(&self.out_proj.forward(attended)?)?;
        let inner = self.fc.forward(&self.ln_2.forward(&x)?)?;
        // CLIP's QuickGELU.
        let inner = inner.f_mul(&inner.f_mul_scalar(1.702)?.f_sigmoid()?)?;
        let mut out = x.f_add(&self.proj.forward(&inner)?)?;
        if let Some(adapter) = &self.adapter {
            out = out.f_add(&adapter.forward(&x)?)?;
        }
        Ok(out)
    }

    fn width(&self, x: &Tensor) -> Result<i64> {
        Ok(x.size3()?.2)
    }
}
