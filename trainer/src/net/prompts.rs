//! BPT (`cskt.md` 1.2): prompts of each tower, and projections that carry them into the other one.

use spotter_models::towers::Config;
use tch::Tensor;

use super::{Parameters, kind::like};
use crate::error::Result;

/// A linear map from one tower's width to the other's.
struct Coupling {
    weight: Tensor,
    bias: Tensor,
}

impl Coupling {
    fn new(parameters: &Parameters, direction: &str, block: usize) -> Result<Self> {
        let name = format!("bpt.{direction}.{block}");
        Ok(Self {
            weight: parameters.get(&format!("{name}.weight"))?,
            bias: parameters.get(&format!("{name}.bias"))?,
        })
    }

    fn forward(&self, prompts: &Tensor) -> Result<Tensor> {
        Ok(prompts.f_linear(&like(&self.weight, prompts)?, Some(&like(&self.bias, prompts)?))?)
    }
}

/// The prompts of all blocks.
pub(super) struct Prompts {
    /// How many are carried over in each coupled direction.
    carried: i64,
    /// `[blocks, own prompts, text width]`.
    text: Tensor,
    /// `[blocks, own prompts, vision width]`.
    vision: Tensor,
    /// One for each block; empty where nothing is carried over.
    text_to_vision: Vec<Coupling>,
    vision_to_text: Vec<Coupling>,
}

impl Prompts {
    pub(super) fn new(config: &Config, parameters: &Parameters) -> Result<Self> {
        let all = |direction: &str, coupled: bool| -> Result<Vec<Coupling>> {
            let blocks = if coupled { config.prompted_layers() } else { 0 };
            (0..blocks).map(|block| Coupling::new(parameters, direction, block)).collect()
        };
        Ok(Self {
            carried: config.prompts as i64,
            text: parameters.get("bpt.text_prompts")?,
            vision: parameters.get("bpt.vision_prompts")?,
            text_to_vision: all("text_to_vision", config.coupling.into_vision())?,
            vision_to_text: all("vision_to_text", config.coupling.into_text())?,
        })
    }

    /// What a vision block sees, `[prompts, vision width]`: carried over first, its own second.
    /// `None` beyond the depth of prompts.
    pub(super) fn vision(&self, block: usize) -> Result<Option<Tensor>> {
        let Some(own) = of_block(&self.vision, block)? else { return Ok(None) };
        let Some(coupling) = self.text_to_vision.get(block) else { return Ok(Some(own)) };
        let carried = self.text.f_get(block as i64)?.f_narrow(0, 0, self.carried)?;
        Ok(Some(Tensor::f_cat(&[coupling.forward(&carried)?, own], 0)?))
    }

    /// What a text block sees, `[prompts, text width]`: its own first, carried over second. `None`
    /// beyond the depth of prompts.
    pub(super) fn text(&self, block: usize) -> Result<Option<Tensor>> {
        let Some(own) = of_block(&self.text, block)? else { return Ok(None) };
        let Some(coupling) = self.vision_to_text.get(block) else { return Ok(Some(own)) };
        let carried = self.vision.f_get(block as i64)?.f_narrow(0, 0, self.carried)?;
        Ok(Some(Tensor::f_cat(&[own, coupling.forward(&carried)?], 0)?))
    }
}

fn of_block(prompts: &Tensor, block: usize) -> Result<Option<Tensor>> {
    let depth = prompts.size().first().copied().unwrap_or(0);
    ((block as i64) < depth).then(|| Ok(prompts.f_get(block as i64)?)).transpose()
}
