//! BPT (`cskt.md` 1.2): prompts of each tower, and projections that carry them into the other one.

use spotter_models::towers::Config;
use tch::Tensor;

use super::Parameters;
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
        Ok(prompts.f_linear(&self.weight, Some(&self.bias))?)
    }
}

/// The prompts of all blocks.
pub(super) struct Prompts {
    /// `[blocks, prompts, text width]`.
    text: Tensor,
    /// `[blocks, prompts, vision width]`.
    vision: Tensor,
    text_to_vision: Vec<Coupling>,
    vision_to_text: Vec<Coupling>,
}

impl Prompts {
    pub(super) fn new(config: &Config, parameters: &Parameters) -> Result<Self> {
        let all = |direction: &str| -> Result<Vec<Coupling>> {
            (0..config.text_layers).map(|l| Coupling::new(parameters, direction, l)).collect()
        };
        Ok(Self {
            text: parameters.get("bpt.text_prompts")?,
            vision: parameters.get("bpt.vision_prompts")?,
            text_to_vision: all("text_to_vision")?,
            vision_to_text: all("vision_to_text")?,
        })
    }

    /// What each vision block sees, `[2 * prompts, vision width]`: carried over first, its own second.
    pub(super) fn vision(&self) -> Result<Vec<Tensor>> {
        let both = |(block, coupling): (usize, &Coupling)| -> Result<Tensor> {
            let carried = coupling.forward(&self.text.f_get(block as i64)?)?;
            Ok(Tensor::f_cat(&[carried, self.vision.f_get(block as i64)?], 0)?)
        };
        self.text_to_vision.iter().enumerate().map(both).collect()
    }

    /// What each text block sees, `[2 * prompts, text width]`: its own first, carried over second.
    pub(super) fn text(&self) -> Result<Vec<Tensor>> {
        let both = |(block, coupling): (usize, &Coupling)| -> Result<Tensor> {
            let carried = coupling.forward(&self.vision.f_get(block as i64)?)?;
            Ok(Tensor::f_cat(&[self.text.f_get(block as i64)?, carried], 0)?)
        };
        self.vision_to_text.iter().enumerate().map(both).collect()
    }
}
