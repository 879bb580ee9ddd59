//! CSKT's two towers, as they are trained.
//!
//! Written as they are exported (`cskt.md` 1.7): prompts act only as further keys and values, because
//! what a block makes of them is overwritten before the next one; so they are never carried through a
//! block. The last block computes only the token that the loss reads. The start-of-text token sees
//! itself alone and is the same for every caption, so it runs once for a batch. All of this is exact.

mod block;
mod parameters;
mod prompts;
mod text;
mod vision;

pub use parameters::Parameters;
pub use text::Captions;

use spotter_models::towers::Config;
use tch::Tensor;

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
        let (height, width) = (self.config.height as i64, self.config.width as i64);
        if !matches!(pixels.size().as_slice(), [n, 3, h, w] if *n > 0 && (*h, *w) == (height, width))
        {
            let reason = format!("{:?} is not [N, 3, {height}, {width}]", pixels.size());
            return Err(Error::invalid("crops", reason));
        }
        let prompts = self.prompts.as_ref().map(Prompts::vision).transpose()?;
        unit(&self.vision.forward(pixels, prompts.as_deref())?)
    }

    /// Unit embeddings `[N, embed]` of captions.
    ///
    /// # Errors
    /// [`Error::Torch`] where memory runs out.
    pub fn texts(&self, captions: &Captions) -> Result<Tensor> {
        let prompts = self.prompts.as_ref().map(Prompts::text).transpose()?;
        unit(&self.text.forward(captions, prompts.as_deref())?)
    }

    /// Its shapes.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// Rows of length 1.
fn unit(rows: &Tensor) -> Result<Tensor> {
    let length = rows.f_norm_scalaropt_dim(2, [-1], true)?;
    Ok(rows.f_div(&length)?)
}
