//! The vision tower.

use spotter_models::towers::Config;
use tch::Tensor;

use super::{
    Parameters,
    block::{Block, Norm, Side},
};
use crate::error::{Error, Result};

pub(super) struct VisionTower {
    patch: i64,
    patches: Tensor,
    class: Tensor,
    positions: Tensor,
    ln_pre: Norm,
    blocks: Vec<Block>,
    ln_post: Norm,
    proj: Tensor,
}

impl VisionTower {
    pub(super) fn new(config: &Config, parameters: &Parameters) -> Result<Self> {
        let block = |index| Block::new(config, parameters, Side::Vision, index);
        Ok(Self {
            patch: config.patch as i64,
            patches: parameters.get("visual.conv1.weight")?,
            class: parameters.get("visual.class_embedding")?,
            positions: parameters.get("visual.positional_embedding")?,
            ln_pre: Norm::new(parameters, "visual.ln_pre")?,
            blocks: (0..config.vision_layers).map(block).collect::<Result<_>>()?,
            ln_post: Norm::new(parameters, "visual.ln_post")?,
            proj: parameters.get("visual.proj")?,
        })
    }

    /// Embeddings `[N, embed]`, not yet of unit length. `prompts` has one tensor for each block.
    pub(super) fn forward(&self, pixels: &Tensor, prompts: Option<&[Tensor]>) -> Result<Tensor> {
        let batch = pixels.size4()?.0;
        let stride = [self.patch, self.patch];
        let patches = pixels.f_conv2d(&self.patches, None::<Tensor>, stride, [0, 0], [1, 1], 1)?;
        let patches = patches.f_flatten(2, 3)?.f_transpose(1, 2)?;
        let class = self.class.f_expand([batch, 1, -1], false)?;
        let x = Tensor::f_cat(&[class, patches], 1)?.f_add(&self.positions)?;
        let mut x = self.ln_pre.forward(&x)?;
        let Some((last, blocks)) = self.blocks.split_last() else {
            return Err(Error::invalid("vision tower", "has no blocks"));
        };
        // The first block's prompts pass the normalisation that the patches pass.
        let first = prompts.and_then(<[_]>::first).map(|p| self.ln_pre.forward(p)).transpose()?;
        let prompt = |index: usize| match index {
            0 => first.as_ref(),
            _ => prompts.and_then(|prompts| prompts.get(index)),
        };
        for (index, block) in blocks.iter().enumerate() {
            x = block.forward(&x, prompt(index), None)?;
        }
        let class = x.f_narrow(1, 0, 1)?;
        let class = last.last(&class, &x, prompt(blocks.len()), None)?;
        Ok(self.ln_post.forward(&class.f_squeeze_dim(1)?)?.f_matmul(&self.proj)?)
    }
}
