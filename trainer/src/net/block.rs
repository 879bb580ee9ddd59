//! A transformer block of CLIP with CSKT's adapter beside its MLP.

use spotter_models::towers::Config;
use tch::{Kind, Tensor};

use super::{
    Parameters,
    kind::{in_kind, linear},
    mlp::Mlp,
    norm::Norm,
    packing::Packing,
};
use crate::error::{Error, Result};

struct Linear {
    weight: Tensor,
    bias: Tensor,
    kind: Kind,
}

impl Linear {
    fn new(parameters: &Parameters, weight: &str, bias: &str) -> Result<Self> {
        let (weight, bias) = (parameters.get(weight)?, parameters.get(bias)?);
        Ok(Self { weight, bias, kind: parameters.kind() })
    }

    fn named(parameters: &Parameters, name: &str) -> Result<Self> {
        Self::new(parameters, &format!("{name}.weight"), &format!("{name}.bias"))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight, &self.bias, self.kind)
    }

    /// Only some of its outputs.
    fn part(&self, x: &Tensor, from: i64, count: i64) -> Result<Tensor> {
        let weight = self.weight.f_narrow(0, from, count)?;
        linear(x, &weight, &self.bias.f_narrow(0, from, count)?, self.kind)
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

/// What tokens see besides each other.
#[derive(Clone, Copy, Default)]
pub(super) struct Sight<'a> {
    /// `[P, D]`, the same for all of the batch.
    pub(super) prefix: Option<&'a Tensor>,
    /// What is seen of prefix and tokens (true: seen), broadcast to `[N, 1, L, P + L]`; absent: all.
    pub(super) mask: Option<&'a Tensor>,
    /// Where the tokens are packed: how.
    pub(super) packing: Option<&'a Packing>,
}

/// A block.
pub(super) struct Block {
    heads: i64,
    ln_1: Norm,
    in_proj: Linear,
    out_proj: Linear,
    mlp: Mlp,
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
            mlp: Mlp::new(parameters, &name)?,
            adapter: (bottleneck > 0).then(adapter).transpose()?,
        })
    }

    /// Tokens `x` `[N, L, D]`, or packed, through the block.
    pub(super) fn forward(&self, x: &Tensor, sight: &Sight<'_>) -> Result<Tensor> {
        let normed = self.ln_1.forward(x)?;
        let query = self.in_proj.part(&normed, 0, self.width(x)?)?;
        let Some(packing) = sight.packing else {
            return self.rest(x, &self.attend(&query, &normed, sight)?);
        };
        let attended = self.attend(&packing.pad(&query)?, &normed, sight)?;
        self.rest(x, &packing.pack(&attended)?)
    }

    /// Only the tokens `asked` `[N, 1, D]` of `x`: what the last block has to compute.
    pub(super) fn last(&self, asked: &Tensor, x: &Tensor, sight: &Sight<'_>) -> Result<Tensor> {
        let query = self.in_proj.part(&self.ln_1.forward(asked)?, 0, self.width(x)?)?;
        self.rest(asked, &self.attend(&query, &self.ln_1.forward(x)?, sight)?)
    }

    /// A token that sees only itself: all its attention is on its own value.
    pub(super) fn alone(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.width(x)?;
        let value = self.in_proj.part(&self.ln_1.forward(x)?, 2 * width, width)?;
        self.rest(x, &value)
    }

    /// Attention of queries `[N, L, D]` to normalised tokens and a prefix that is not normalised yet.
    fn attend(&self, query: &Tensor, keys: &Tensor, sight: &Sight<'_>) -> Result<Tensor> {
        let width = self.width(query)?;
        let mut both = self.in_proj.part(keys, width, 2 * width)?;
        if let Some(packing) = sight.packing {
            both = packing.pad(&both)?;
        }
        if let Some(prefix) = sight.prefix {
            let constant = self.in_proj.part(&self.ln_1.forward(prefix)?, width, 2 * width)?;
            let batch = both.size3()?.0;
            let constant = constant.f_unsqueeze(0)?.f_expand([batch, -1, -1], false)?;
            both = Tensor::f_cat(&[constant, both], 1)?;
        }
        // In 16 bits this attention is several times slower on processors.
        let split = |x: &Tensor| -> Result<Tensor> {
            let x = in_kind(x, Kind::Float)?;
            let (n, length, wide) = x.size3()?;
            Ok(x.f_reshape([n, length, self.heads, wide / self.heads])?.f_transpose(1, 2)?)
        };
        // One split, whose gradient is one concatenation.
        let parts = both.f_chunk(2, 2)?;
        let [key, value] = parts.as_slice() else {
            return Err(Error::invalid("attention", "has no keys and values"));
        };
        let (query, key, value) = (split(query)?, split(key)?, split(value)?);
        let attended = Tensor::f_scaled_dot_product_attention(
            &query, &key, &value, sight.mask, 0.0, false, None, false,
        )?;
        let (n, _, length, _) = attended.size4()?;
        Ok(attended.f_transpose(1, 2)?.f_reshape([n, length, width])?)
    }

    /// What follows attention: projection, MLP and adapter, each added to its input.
    fn rest(&self, x: &Tensor, attended: &Tensor) -> Result<Tensor> {
        let x = x.f_add(&self.out_proj.forward(attended)?)?;
        let mut out = x.f_add(&self.mlp.forward(&x)?)?;
        if let Some(adapter) = &self.adapter {
            out = out.f_add(&adapter.forward(&x)?)?;
        }
        Ok(out)
    }

    fn width(&self, x: &Tensor) -> Result<i64> {
        Ok(x.size3()?.2)
    }
}
