//! The vision tower.

use spotter_models::towers::Config;
use tch::{Kind, Tensor};

use super::{
    Parameters,
    block::{Block, Side, Sight},
    kind::in_kind,
    norm::Norm,
    norms::BatchNorm,
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
    patches_norm: Option<BatchNorm>,
    class: Tensor,
    positions: Tensor,
    ln_pre: Norm,
    blocks: Vec<Block>,
    last: Block,
    ln_post: Norm,
    norm: Option<BatchNorm>,
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
            patches_norm: BatchNorm::of(parameters, "visual.conv1")?,
            class: parameters.get("visual.class_embedding")?,
            positions: parameters.get("visual.positional_embedding")?,
            ln_pre: Norm::new(parameters, "visual.ln_pre")?,
            blocks: (0..last).map(block).collect::<Result<_>>()?,
            last: block(last)?,
            ln_post: Norm::new(parameters, "visual.ln_post")?,
            norm: BatchNorm::of(parameters, "visual.ln_post")?,
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
        let x = tower.stem.forward(&in_kind(self.pixels, tower.kind)?)?;
        let (stride, kernel) = ([tower.side; 2], in_kind(&tower.patches, tower.kind)?);
        let patches = x.f_conv2d(&kernel, None::<Tensor>, stride, [0, 0], [1, 1], 1)?;
        let norm = tower.patches_norm.iter();
        let patches = norm.into_iter().try_fold(patches, |x, norm| norm.forward(&x))?;
        let patches = in_kind(&patches.f_flatten(2, 3)?.f_transpose(1, 2)?, Kind::Float)?;
        let class = tower.class.f_expand([batch, 1, -1], false)?;
        let x = Tensor::f_cat(&[class, patches], 1)?.f_add(&tower.positions)?;
        Ok(vec![tower.ln_pre.forward(&x)?])
    }

    fn block(&self, index: usize, state: &[Tensor]) -> Result<State> {
        let ([x], Some(block)) = (state, self.tower.blocks.get(index)) else {
            return Err(Error::invalid("vision tower", "has no such block"));
        };
        let prompts = self.prompts(index)?;
        let sight = Sight { prefix: prompts.as_ref(), ..Sight::default() };
        Ok(vec![block.forward(x, &sight)?])
    }

    /// Of the last block only what the class token sees and becomes.
    fn end(&self, state: &[Tensor]) -> Result<Tensor> {
        let [x] = state else { return Err(Error::invalid("vision tower", "has no state")) };
        let prompts = self.prompts(self.tower.blocks.len())?;
        let sight = Sight { prefix: prompts.as_ref(), ..Sight::default() };
        let class = self.tower.last.last(&x.f_narrow(1, 0, 1)?, x, &sight)?;
        let class = self.tower.ln_post.forward(&class.f_squeeze_dim(1)?)?;
        let class = self.tower.norm.iter().try_fold(class, |class, norm| norm.forward(&class))?;
        let class = in_kind(&class, self.tower.kind)?;
        unit(&class.f_matmul(&in_kind(&self.tower.proj, self.tower.kind)?)?)
    }
}
