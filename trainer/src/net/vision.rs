//! The vision tower.

use spotter_models::towers::Config;
use tch::{Kind, Tensor};

use super::{
    Parameters,
    block::{Block, Norm, Side},
    kind::like,
    pass::{Pass, State},
    prompts::Prompts,
    stem::Stem,
    unit,
};
use crate::error::{Error, Result};

pub(super) struct VisionTower {
    kind: Kind,
    stem: Stem,
    /// Side and stride of the projection's kernel.
    side: i64,
    patches: Tensor,
    class: Tensor,
    positions: Tensor,
    ln_pre: Norm,
    blocks: Vec<Block>,
    last: Block,
    ln_post: Norm,
    proj: Tensor,
}

impl VisionTower {
    pub(super) fn new(config: &Config, parameters: &Parameters) -> Result<Self> {
        let block = |index| Block::new(config, parameters, Side::Vision, index);
        let last = config.vision_layers.saturating_sub(1);
        Ok(Self {
            kind: parameters.kind(),
            stem: Stem::new(config, parameters)?,
            side: config.patch_inputs().1 as i64,
            patches: parameters.get("visual.conv1.weight")?,
            class: parameters.get("visual.class_embedding")?,
            positions: parameters.get("visual.positional_embedding")?,
            ln_pre: Norm::new(parameters, "visual.ln_pre")?,
            blocks: (0..last).map(block).collect::<Result<_>>()?,
            last: block(last)?,
            ln_post: Norm::new(parameters, "visual.ln_post")?,
            proj: parameters.get("visual.proj")?,
        })
    }

    pub(super) fn pass<'a>(
        &'a self,
        pixels: &'a Tensor,
        prompts: Option<&'a Prompts>,
    ) -> VisionPass<'a> {
        VisionPass { tower: self, pixels, prompts }
    }
}

/// The vision tower with pictures. Its state: class token and patches `[N, 1 + patches, width]`.
pub(super) struct VisionPass<'a> {
    tower: &'a VisionTower,
    pixels: &'a Tensor,
    prompts: Option<&'a Prompts>,
}

impl VisionPass<'_> {
    fn prompts(&self, block: usize) -> Result<Option<Tensor>> {
        let prompts = self.prompts.map(|prompts| prompts.vision(block)).transpose()?.flatten();
        let prompts = prompts.map(|prompts| prompts.f_to_kind(self.tower.kind)).transpose()?;
        // The first block's prompts pass the normalisation that the patches pass.
        match (block, prompts) {
            (0, Some(prompts)) => Ok(Some(self.tower.ln_pre.forward(&prompts)?)),
            (_, prompts) => Ok(prompts),
        }
    }
}

impl Pass for VisionPass<'_> {
    fn blocks(&self) -> usize {
        self.tower.blocks.len()
    }

    fn begin(&self) -> Result<State> {
        let tower = self.tower;
        let batch = self.pixels.size4()?.0;
        let x = tower.stem.forward(&self.pixels.f_to_kind(tower.kind)?)?;
        let (stride, kernel) = ([tower.side; 2], like(&tower.patches, &x)?);
        let patches = x.f_conv2d(&kernel, None::<Tensor>, stride, [0, 0], [1, 1], 1)?;
        let patches = patches.f_flatten(2, 3)?.f_transpose(1, 2)?;
        let class = like(&tower.class, &x)?.f_expand([batch, 1, -1], false)?;
        let x = Tensor::f_cat(&[class, patches], 1)?.f_add(&like(&tower.positions, &x)?)?;
        Ok(vec![tower.ln_pre.forward(&x)?])
    }

    fn block(&self, index: usize, state: &[Tensor]) -> Result<State> {
        let ([x], Some(block)) = (state, self.tower.blocks.get(index)) else {
            return Err(Error::invalid("vision tower", "has no such block"));
        };
        Ok(vec![block.forward(x, self.prompts(index)?.as_ref(), None)?])
    }

    /// Of the last block only what the class token sees and becomes.
    fn end(&self, state: &[Tensor]) -> Result<Tensor> {
        let [x] = state else { return Err(Error::invalid("vision tower", "has no state")) };
        let prompts = self.prompts(self.tower.blocks.len())?;
        let class = self.tower.last.last(&x.f_narrow(1, 0, 1)?, x, prompts.as_ref(), None)?;
        let class = self.tower.ln_post.forward(&class.f_squeeze_dim(1)?)?;
        unit(&class.f_matmul(&like(&self.tower.proj, &class)?)?)
    }
}
