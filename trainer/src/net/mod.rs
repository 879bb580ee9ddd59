//! CSKT's two towers, as they are trained.
//!
//! Written as they are exported (`cskt.md` 1.7): prompts act only as further keys and values, because
//! what a block makes of them is overwritten before the next one; so they are never carried through a
//! block. The last block computes only the token that the loss reads. The start-of-text token sees
//! itself alone and is the same for every caption, so it runs once for a batch. Captions are packed one
//! after another: nothing but attention sees padding. All of this is exact.

mod block;
mod kind;
mod mlp;
mod norm;
mod norms;
mod packing;
mod parameters;
mod pass;
mod prompts;
mod stem;
mod text;
mod vision;

pub(crate) use kind::{in_kind, linear};
pub(crate) use mlp::Mlp;
pub use norms::{is_measured, is_norm, merged};
pub use parameters::{Parameters, SCALE};
pub use text::Captions;

use spotter_models::towers::Config;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use prompts::Prompts;
use text::TextTower;
use vision::VisionTower;

/// Both towers over one set of parameters.
pub struct Net {
    config: Config,
    prompts: Option<Prompts>,
    vision: VisionTower,
    text: TextTower,
}

impl Net {
    /// Builds the towers over these parameters; later changes of the parameters' values are seen.
    ///
    /// # Errors
    /// Where a parameter is missing.
    pub fn new(config: &Config, parameters: &Parameters) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config: config.clone(),
            prompts: (config.prompts > 0).then(|| Prompts::new(config, parameters)).transpose()?,
            vision: VisionTower::new(config, parameters)?,
            text: TextTower::new(config, parameters)?,
        })
    }

    /// Unit embeddings `[N, embed]` of crops `[N, 3, height, width]`, normalised as
    /// `spotter_models::preprocess` does.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another shape; [`Error::Torch`] where memory runs out.
    pub fn images(&self, pixels: &Tensor) -> Result<Tensor> {
        self.check(pixels)?;
        pass::forward(&self.vision.pass(pixels, self.prompts.as_ref()))
    }

    /// Unit embeddings `[N, embed]` of captions.
    ///
    /// # Errors
    /// [`Error::Torch`] where memory runs out.
    pub fn texts(&self, captions: &Captions) -> Result<Tensor> {
        pass::forward(&self.text.pass(captions, self.prompts.as_ref()))
    }

    /// Adds to the gradients of trained parameters what `gradient`, that of these crops' embeddings,
    /// makes of them. `frugal`: blocks are computed again instead of kept.
    ///
    /// # Errors
    /// As [`Net::images`].
    pub fn pull_images(&self, pixels: &Tensor, gradient: &Tensor, frugal: bool) -> Result<()> {
        self.check(pixels)?;
        let pass = self.vision.pass(pixels, self.prompts.as_ref());
        if frugal { pass::backward_again(&pass, gradient) } else { pass::backward(&pass, gradient) }
    }

    /// The same for captions.
    ///
    /// # Errors
    /// As [`Net::texts`].
    pub fn pull_texts(&self, captions: &Captions, gradient: &Tensor, frugal: bool) -> Result<()> {
        let pass = self.text.pass(captions, self.prompts.as_ref());
        if frugal { pass::backward_again(&pass, gradient) } else { pass::backward(&pass, gradient) }
    }

    fn check(&self, pixels: &Tensor) -> Result<()> {
        let (height, width) = (self.config.height as i64, self.config.width as i64);
        match pixels.size().as_slice() {
            [n, 3, h, w] if *n > 0 && (*h, *w) == (height, width) => Ok(()),
            size => {
                let reason = format!("{size:?} is not [N, 3, {height}, {width}]");
                Err(Error::invalid("crops", reason))
            }
        }
    }

    /// Its shapes.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// Rows of length 1, 32-bit.
fn unit(rows: &Tensor) -> Result<Tensor> {
    let rows = rows.f_to_kind(Kind::Float)?;
    let length = rows.f_norm_scalaropt_dim(2, [-1], true)?;
    Ok(rows.f_div(&length)?)
}
