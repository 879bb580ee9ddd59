//! The text tower.

use spotter_models::towers::Config;
use tch::{Device, Kind, Tensor};

use super::{
    Parameters,
    block::{Block, Norm, Side},
};
use crate::error::{Error, Result};

/// A batch of captions as token ids, cut to the longest of them.
pub struct Captions {
    /// `[N, L]`: words, end of text, padding.
    ids: Tensor,
    /// `[N]`: where end of text is in each row.
    ends: Tensor,
}

impl Captions {
    /// Takes the word ids of each caption, without start and end; words beyond the limit are left out
    /// (`cskt.md` 1.2).
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no caption, or an id that is no word of the vocabulary.
    pub fn new(words: &[&[u32]], config: &Config, device: Device) -> Result<Self> {
        let limit = config.word_limit();
        let end = config.vocab as i64 - 1;
        let length = words.iter().map(|words| words.len().min(limit)).max().unwrap_or(0) + 1;
        if words.is_empty() {
            return Err(Error::invalid("captions", "there are none"));
        }
        let (mut ids, mut ends) = (Vec::with_capacity(words.len() * length), Vec::new());
        for words in words {
            let words = words.get(..limit).unwrap_or(words);
            if let Some(id) = words.iter().find(|id| i64::from(**id) >= end - 1) {
                return Err(Error::invalid("captions", format!("{id} is no word's id")));
            }
            ids.extend(words.iter().map(|id| i64::from(*id)));
            ids.push(end);
            ids.resize(ids.len() + length - words.len() - 1, 0);
            ends.push(words.len() as i64);
        }
        let ids = Tensor::f_from_slice(&ids)?.f_reshape([-1, length as i64])?;
        let ends = Tensor::f_from_slice(&ends)?;
        Ok(Self { ids: ids.f_to_device(device)?, ends: ends.f_to_device(device)? })
    }
}

pub(super) struct TextTower {
    /// Positions that prompts take, after start of text.
    slots: i64,
    start: i64,
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    ln_final: Norm,
    projection: Tensor,
}

impl TextTower {
    pub(super) fn new(config: &Config, parameters: &Parameters) -> Result<Self> {
        let block = |index| Block::new(config, parameters, Side::Text, index);
        Ok(Self {
            slots: 2 * config.prompts as i64,
            start: config.vocab as i64 - 2,
            tokens: parameters.get("token_embedding.weight")?,
            positions: parameters.get("positional_embedding")?,
            blocks: (0..config.text_layers).map(block).collect::<Result<_>>()?,
            ln_final: Norm::new(parameters, "ln_final")?,
            projection: parameters.get("text_projection")?,
        })
    }

    /// Embeddings `[N, embed]`, not yet of unit length. `prompts` has one tensor for each block.
    pub(super) fn forward(
        &self,
        captions: &Captions,
        prompts: Option<&[Tensor]>,
    ) -> Result<Tensor> {
        let (_, length) = captions.ids.size2()?;
        let first = 1 + self.slots;
        let words = Tensor::f_embedding(&self.tokens, &captions.ids, -1, false, false)?;
        let mut x = words.f_add(&self.positions.f_narrow(0, first, length)?)?;
        let mut start = self.tokens.f_narrow(0, self.start, 1)?;
        start = start.f_add(&self.positions.f_narrow(0, 0, 1)?)?.f_unsqueeze(0)?;
        let Some((last, blocks)) = self.blocks.split_last() else {
            return Err(Error::invalid("text tower", "has no blocks"));
        };
        let seen = (Kind::Bool, x.device());
        let prefix = Tensor::f_ones([length, first], seen)?;
        let causal = Tensor::f_ones([length, length], seen)?.f_tril(0)?;
        let mask = Tensor::f_cat(&[prefix, causal], 1)?;
        for (index, block) in blocks.iter().enumerate() {
            let prefix = self.prefix(index, &start, prompts)?;
            x = block.forward(&x, Some(&prefix), Some(&mask))?;
            start = block.alone(&start)?;
        }
        // Of the last block only what end of text sees and becomes.
        let batch = captions.ends.size1()?;
        let at = captions.ends.f_reshape([batch, 1, 1])?;
        let end = x.f_gather(1, &at.f_expand([-1, -1, x.size3()?.2], false)?, false)?;
        let rows = mask.f_index_select(0, &captions.ends)?.f_reshape([batch, 1, 1, -1])?;
        let prefix = self.prefix(blocks.len(), &start, prompts)?;
        let end = last.last(&end, &x, Some(&prefix), Some(&rows))?;
        Ok(self.ln_final.forward(&end.f_squeeze_dim(1)?)?.f_matmul(&self.projection)?)
    }

    /// What every word sees in a block besides words: start of text and the prompts.
    fn prefix(&self, block: usize, start: &Tensor, prompts: Option<&[Tensor]>) -> Result<Tensor> {
        let start = start.f_squeeze_dim(0)?;
        let Some(prompt) = prompts.and_then(|prompts| prompts.get(block)) else {
            return Ok(start);
        };
        // Only the first block's prompts have positions.
        let prompt = match block {
            0 => prompt.f_add(&self.positions.f_narrow(0, 1, self.slots)?)?,
            _ => prompt.shallow_clone(),
        };
        Ok(Tensor::f_cat(&[start, prompt], 0)?)
    }
}
