//! CSKT's towers written plainly (`cskt.md` 1.2, 1.3): what the folded ones are measured against.
//!
//! Prompts are tokens: they pass through every block and are overwritten at the entry of the next.
//! Captions fill all positions, start of text runs once for each of them, and all tokens pass the last
//! block, the last normalisation and the projection. The kernels are those of [`crate::net`]: the fused
//! attention of libtorch, one product for queries, keys and values, the same MLP and number formats. So
//! the difference in time and memory is that of folding and leaving out alone.

use spotter_models::towers::{Config, Coupling, PromptPlace};
use tch::{Kind, Tensor};

use crate::{
    error::{Error, Result},
    net::{Mlp, Parameters, in_kind, linear},
};

/// CLIP's layer normalisation.
const EPSILON: f64 = 1e-5;

/// Weight and bias of a linear map or a normalisation.
struct Pair {
    weight: Tensor,
    bias: Tensor,
    kind: Kind,
}

impl Pair {
    fn new(parameters: &Parameters, weight: &str, bias: &str) -> Result<Self> {
        let (weight, bias) = (parameters.get(weight)?, parameters.get(bias)?);
        Ok(Self { weight, bias, kind: parameters.kind() })
    }

    fn named(parameters: &Parameters, name: &str) -> Result<Self> {
        Self::new(parameters, &format!("{name}.weight"), &format!("{name}.bias"))
    }

    fn map(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight, &self.bias, self.kind)
    }

    fn normalise(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.size();
        Ok(x.f_layer_norm(width, Some(&self.weight), Some(&self.bias), EPSILON, false)?)
    }
}

struct Block {
    heads: i64,
    ln_1: Pair,
    in_proj: Pair,
    out_proj: Pair,
    mlp: Mlp,
    ln_3: Pair,
    down: Pair,
    up: Pair,
    scale: f64,
}

impl Block {
    fn new(parameters: &Parameters, name: &str, dat: &str, heads: usize, s: f32) -> Result<Self> {
        let pair = |part: &str| Pair::named(parameters, &format!("{name}.{part}"));
        let adapter = |part: &str| Pair::named(parameters, &format!("{dat}.{part}"));
        let in_proj = |part: &str| format!("{name}.attn.in_proj_{part}");
        Ok(Self {
            heads: heads as i64,
            ln_1: pair("ln_1")?,
            in_proj: Pair::new(parameters, &in_proj("weight"), &in_proj("bias"))?,
            out_proj: pair("attn.out_proj")?,
            mlp: Mlp::new(parameters, name)?,
            ln_3: adapter("ln")?,
            down: adapter("down")?,
            up: adapter("up")?,
            scale: f64::from(s),
        })
    }

    /// Tokens `[N, L, D]` to tokens.
    fn forward(&self, x: &Tensor, causal: bool) -> Result<Tensor> {
        let x = x.f_add(&self.attend(&self.ln_1.normalise(x)?, causal)?)?;
        let adapted = self.down.map(&self.ln_3.normalise(&x)?)?.f_relu()?;
        let adapted = self.up.map(&adapted)?.f_mul_scalar(self.scale)?;
        Ok(x.f_add(&self.mlp.forward(&x)?)?.f_add(&adapted)?)
    }

    fn attend(&self, x: &Tensor, causal: bool) -> Result<Tensor> {
        let (n, length, width) = x.size3()?;
        let parts = self.in_proj.map(x)?.f_chunk(3, 2)?;
        let split = |part: &Tensor| -> Result<Tensor> {
            let part = in_kind(part, Kind::Float)?;
            Ok(part.f_reshape([n, length, self.heads, width / self.heads])?.f_transpose(1, 2)?)
        };
        let [query, key, value] = parts.as_slice() else {
            return Err(Error::invalid("attention", "has no three parts"));
        };
        let attended = Tensor::f_scaled_dot_product_attention(
            &split(query)?,
            &split(key)?,
            &split(value)?,
            None::<Tensor>,
            0.0,
            causal,
            None,
            false,
        )?;
        self.out_proj.map(&attended.f_transpose(1, 2)?.f_reshape([n, length, width])?)
    }
}

/// Both towers over one set of parameters.
pub struct Plain {
    config: Config,
    kind: Kind,
    /// `[blocks, prompts, width]` of each tower.
    text_prompts: Tensor,
    vision_prompts: Tensor,
    text_to_vision: Vec<Pair>,
    vision_to_text: Vec<Pair>,
    patches: Tensor,
    class: Tensor,
    vision_positions: Tensor,
    ln_pre: Pair,
    vision: Vec<Block>,
    ln_post: Pair,
    vision_projection: Tensor,
    tokens: Tensor,
    text_positions: Tensor,
    text: Vec<Block>,
    ln_final: Pair,
    text_projection: Tensor,
}

impl Plain {
    /// Builds the towers over these parameters.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a layout other than the published one, or where a parameter is missing.
    pub fn new(config: &Config, parameters: &Parameters) -> Result<Self> {
        check(config)?;
        let get = |name: &str| parameters.get(name);
        let coupling = |name: &str| -> Result<Vec<Pair>> {
            let blocks = 0..config.vision_layers;
            blocks.map(|l| Pair::named(parameters, &format!("bpt.{name}.{l}"))).collect()
        };
        let vision = |l: usize| {
            let name = format!("visual.transformer.resblocks.{l}");
            let dat = format!("dat.vision.{l}");
            Block::new(parameters, &name, &dat, config.vision_heads, config.vision_scale)
        };
        let text = |l: usize| {
            let (name, dat) = (format!("transformer.resblocks.{l}"), format!("dat.text.{l}"));
            Block::new(parameters, &name, &dat, config.text_heads, config.text_scale)
        };
        Ok(Self {
            config: config.clone(),
            kind: parameters.kind(),
            text_prompts: get("bpt.text_prompts")?,
            vision_prompts: get("bpt.vision_prompts")?,
            text_to_vision: coupling("text_to_vision")?,
            vision_to_text: coupling("vision_to_text")?,
            patches: get("visual.conv1.weight")?,
            class: get("visual.class_embedding")?,
            vision_positions: get("visual.positional_embedding")?,
            ln_pre: Pair::named(parameters, "visual.ln_pre")?,
            vision: (0..config.vision_layers).map(vision).collect::<Result<_>>()?,
            ln_post: Pair::named(parameters, "visual.ln_post")?,
            vision_projection: get("visual.proj")?,
            tokens: get("token_embedding.weight")?,
            text_positions: get("positional_embedding")?,
            text: (0..config.text_layers).map(text).collect::<Result<_>>()?,
            ln_final: Pair::named(parameters, "ln_final")?,
            text_projection: get("text_projection")?,
        })
    }

    /// Unit embeddings `[N, embed]` of crops `[N, 3, height, width]`.
    ///
    /// # Errors
    /// [`Error::Torch`] for another shape, or where memory runs out.
    pub fn images(&self, pixels: &Tensor) -> Result<Tensor> {
        let batch = pixels.size4()?.0;
        let (stride, kernel) = ([self.config.patch as i64; 2], in_kind(&self.patches, self.kind)?);
        let pixels = in_kind(pixels, self.kind)?;
        let x = pixels.f_conv2d(&kernel, None::<Tensor>, stride, [0, 0], [1, 1], 1)?;
        let x = in_kind(&x.f_flatten(2, 3)?.f_transpose(1, 2)?, Kind::Float)?;
        let class = self.class.f_expand([batch, 1, -1], false)?;
        let mut x = Tensor::f_cat(&[class, x], 1)?.f_add(&self.vision_positions)?;
        let kept = x.size3()?.1;
        for (index, block) in self.vision.iter().enumerate() {
            let prompts = repeated(&self.vision_tokens(index)?, batch)?;
            x = Tensor::f_cat(&[x.f_narrow(1, 0, kept)?, prompts], 1)?;
            if index == 0 {
                x = self.ln_pre.normalise(&x)?;
            }
            x = block.forward(&x, false)?;
        }
        let x = self.project(&self.ln_post.normalise(&x)?, &self.vision_projection)?;
        unit(&x.f_select(1, 0)?)
    }

    /// Unit embeddings `[N, embed]` of captions as word ids, without start and end of text.
    ///
    /// # Errors
    /// [`Error::Torch`] where there is no caption, or memory runs out.
    pub fn texts<W: AsRef<[u32]>>(&self, words: &[W]) -> Result<Tensor> {
        let batch = words.len() as i64;
        let (rows, ends) = self.rows(words)?;
        let mut x = Tensor::f_embedding(&self.tokens, &rows, -1, false, false)?;
        for (index, block) in self.text.iter().enumerate() {
            let prompts = repeated(&self.text_tokens(index)?, batch)?;
            let (length, slots) = (x.size3()?.1, prompts.size3()?.1);
            let after = x.f_narrow(1, 1 + slots, length - 1 - slots)?;
            x = Tensor::f_cat(&[x.f_narrow(1, 0, 1)?, prompts, after], 1)?;
            if index == 0 {
                x = x.f_add(&self.text_positions)?;
            }
            x = block.forward(&x, true)?;
        }
        let x = self.project(&self.ln_final.normalise(&x)?, &self.text_projection)?;
        let at = ends.f_reshape([batch, 1, 1])?.f_expand([-1, -1, x.size3()?.2], false)?;
        unit(&x.f_gather(1, &at, false)?.f_squeeze_dim(1)?)
    }

    /// Rows of the token table for all positions, `[N, context]`, and where end of text is, `[N]`.
    fn rows<W: AsRef<[u32]>>(&self, words: &[W]) -> Result<(Tensor, Tensor)> {
        let config = &self.config;
        let row = |id: u32| config.token_row(id) as i64;
        let (mut rows, mut ends) = (Vec::new(), Vec::new());
        for (index, words) in words.iter().enumerate() {
            let words = words.as_ref();
            let kept = words.get(..words.len().min(config.word_limit())).unwrap_or_default();
            rows.push(row(config.start_of_text()));
            // What stands in the prompts' positions is overwritten.
            rows.resize(rows.len() + config.prompt_positions(), 0);
            rows.extend(kept.iter().map(|id| row(*id)));
            rows.push(row(config.end_of_text()));
            rows.resize((index + 1) * config.context, 0);
            ends.push((1 + config.prompt_positions() + kept.len()) as i64);
        }
        let device = self.tokens.device();
        let rows = Tensor::f_from_slice(&rows)?.f_reshape([-1, config.context as i64])?;
        Ok((rows.f_to_device(device)?, Tensor::f_from_slice(&ends)?.f_to_device(device)?))
    }

    /// Prompts of a vision block: carried over first, its own second.
    fn vision_tokens(&self, block: usize) -> Result<Tensor> {
        let (text, vision) = self.own(block)?;
        Ok(Tensor::f_cat(&[carried(&self.text_to_vision, block, &text)?, vision], 0)?)
    }

    /// Prompts of a text block: its own first, carried over second.
    fn text_tokens(&self, block: usize) -> Result<Tensor> {
        let (text, vision) = self.own(block)?;
        let carried = carried(&self.vision_to_text, block, &vision)?;
        Ok(Tensor::f_cat(&[text, carried], 0)?)
    }

    fn own(&self, block: usize) -> Result<(Tensor, Tensor)> {
        let block = block as i64;
        Ok((self.text_prompts.f_get(block)?, self.vision_prompts.f_get(block)?))
    }

    /// All tokens `[N, L, width]` into the common space.
    fn project(&self, x: &Tensor, projection: &Tensor) -> Result<Tensor> {
        Ok(in_kind(x, self.kind)?.f_matmul(&in_kind(projection, self.kind)?)?)
    }
}

/// Refuses what the published model does not have.
fn check(config: &Config) -> Result<()> {
    config.validate()?;
    let is_published = config.prompts > 0
        && config.coupling == Coupling::Both
        && config.prompt_place == PromptPlace::Inserted
        && config.prompted_layers() == config.vision_layers
        && config.vision_bottleneck > 0
        && config.text_bottleneck > 0
        && config.stem.is_empty();
    if is_published {
        return Ok(());
    }
    let reason = "only the published layout is written plainly: coupled prompts inserted in every \
                  block, adapters in both towers, no stem";
    Err(Error::invalid("plain towers", reason))
}

/// Prompts through one block's projection into the other tower, which rounds nothing.
fn carried(couplings: &[Pair], block: usize, prompts: &Tensor) -> Result<Tensor> {
    let Some(Pair { weight, bias, .. }) = couplings.get(block) else {
        return Err(Error::invalid("prompts", format!("block {block} has no coupling")));
    };
    Ok(prompts.f_linear(weight, Some(bias))?)
}

/// `[P, D]` for each of a batch.
fn repeated(prompts: &Tensor, batch: i64) -> Result<Tensor> {
    Ok(prompts.f_unsqueeze(0)?.f_expand([batch, -1, -1], false)?)
}

/// Rows of length 1, 32-bit.
fn unit(rows: &Tensor) -> Result<Tensor> {
    let rows = in_kind(rows, Kind::Float)?;
    Ok(rows.f_div(&rows.f_norm_scalaropt_dim(2, [-1], true)?)?)
}
