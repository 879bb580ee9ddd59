//! The text tower.

use spotter_models::towers::Config;
use tch::{Device, Kind, Tensor};

use super::{
    Parameters,
    block::{Block, Norm, Side},
    kind::like,
    pass::{Pass, State},
    prompts::Prompts,
    unit,
};
use crate::error::{Error, Result};

/// A batch of captions as rows of the token table, cut to the longest of them.
pub struct Captions {
    /// `[N, L]`: words, end of text, padding.
    rows: Tensor,
    /// `[N]`: where end of text is in each row.
    ends: Tensor,
}

impl Captions {
    /// Takes the word ids of each caption, without start and end; words beyond the limit are left out
    /// (`cskt.md` 1.2).
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no caption, or an id that is no word of the vocabulary.
    pub fn new<W: AsRef<[u32]>>(words: &[W], config: &Config, device: Device) -> Result<Self> {
        let limit = config.word_limit();
        let within = |words: &W| words.as_ref().len().min(limit);
        let length = words.iter().map(within).max().unwrap_or(0) + 1;
        if words.is_empty() {
            return Err(Error::invalid("captions", "there are none"));
        }
        let end = config.token_row(config.end_of_text()) as i64;
        let (mut rows, mut ends) = (Vec::with_capacity(words.len() * length), Vec::new());
        for words in words {
            let kept = words.as_ref().get(..within(words)).unwrap_or_default();
            if let Some(id) = kept.iter().find(|id| **id >= config.start_of_text()) {
                return Err(Error::invalid("captions", format!("{id} is no word's id")));
            }
            rows.extend(kept.iter().map(|id| config.token_row(*id) as i64));
            rows.push(end);
            rows.resize(rows.len() + length - kept.len() - 1, 0);
            ends.push(kept.len() as i64);
        }
        let rows = Tensor::f_from_slice(&rows)?.f_reshape([-1, length as i64])?;
        let ends = Tensor::f_from_slice(&ends)?;
        Ok(Self { rows: rows.f_to_device(device)?, ends: ends.f_to_device(device)? })
    }

    /// Some of them, in a row.
    ///
    /// # Errors
    /// [`Error::Torch`] where there are not that many.
    pub fn part(&self, from: i64, count: i64) -> Result<Self> {
        let ends = self.ends.f_narrow(0, from, count)?;
        let length = ends.f_max()?.f_int64_value(&[])? + 1;
        let rows = self.rows.f_narrow(0, from, count)?.f_narrow(1, 0, length)?;
        Ok(Self { rows, ends })
    }
}

pub(super) struct TextTower {
    /// Positions that prompts take, after start of text.
    slots: i64,
    /// The row of start of text in the token table.
    start: i64,
    kind: Kind,
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    last: Block,
    ln_final: Norm,
    projection: Tensor,
}

impl TextTower {
    pub(super) fn new(config: &Config, parameters: &Parameters) -> Result<Self> {
        let block = |index| Block::new(config, parameters, Side::Text, index);
        let last = config.text_layers.saturating_sub(1);
        Ok(Self {
            slots: config.prompt_positions() as i64,
            start: config.token_row(config.start_of_text()) as i64,
            kind: parameters.kind(),
            tokens: parameters.get("token_embedding.weight")?,
            positions: parameters.get("positional_embedding")?,
            blocks: (0..last).map(block).collect::<Result<_>>()?,
            last: block(last)?,
            ln_final: Norm::new(parameters, "ln_final")?,
            projection: parameters.get("text_projection")?,
        })
    }

    pub(super) fn pass<'a>(
        &'a self,
        captions: &'a Captions,
        prompts: Option<&'a Prompts>,
    ) -> TextPass<'a> {
        TextPass { tower: self, captions, prompts }
    }
}

/// The text tower with captions. Its state: words `[N, L, width]` and start of text `[1, 1, width]`,
/// which sees itself alone and so is the same for all.
pub(super) struct TextPass<'a> {
    tower: &'a TextTower,
    captions: &'a Captions,
    prompts: Option<&'a Prompts>,
}

impl TextPass<'_> {
    /// What every word sees in a block besides words: start of text and the prompts.
    fn prefix(&self, block: usize, start: &Tensor) -> Result<Tensor> {
        let start = start.f_squeeze_dim(0)?;
        let prompts = self.prompts.map(|prompts| prompts.text(block)).transpose()?.flatten();
        let Some(mut prompts) = prompts else { return Ok(start) };
        // Only the first block's prompts have positions, and only where they stand in any.
        if block == 0 && self.tower.slots > 0 {
            prompts = prompts.f_add(&self.tower.positions.f_narrow(0, 1, self.tower.slots)?)?;
        }
        let prompts = like(&prompts, &start)?;
        Ok(Tensor::f_cat(&[start, prompts], 0)?)
    }

    /// True where a word (row) sees the prefix or a word (column): `[L, prefix + L]`.
    fn mask(&self, prefix: &Tensor) -> Result<Tensor> {
        let (_, length) = self.captions.rows.size2()?;
        let seen = (Kind::Bool, prefix.device());
        let before = Tensor::f_ones([length, prefix.size2()?.0], seen)?;
        let causal = Tensor::f_ones([length, length], seen)?.f_tril(0)?;
        Ok(Tensor::f_cat(&[before, causal], 1)?)
    }
}

impl Pass for TextPass<'_> {
    fn blocks(&self) -> usize {
        self.tower.blocks.len()
    }

    fn begin(&self) -> Result<State> {
        let tower = self.tower;
        let (_, length) = self.captions.rows.size2()?;
        let words = Tensor::f_embedding(&tower.tokens, &self.captions.rows, -1, false, false)?;
        let words = words.f_add(&tower.positions.f_narrow(0, 1 + tower.slots, length)?)?;
        let start = tower.tokens.f_narrow(0, tower.start, 1)?;
        let start = start.f_add(&tower.positions.f_narrow(0, 0, 1)?)?.f_unsqueeze(0)?;
        Ok(vec![words.f_to_kind(tower.kind)?, start.f_to_kind(tower.kind)?])
    }

    fn block(&self, index: usize, state: &[Tensor]) -> Result<State> {
        let ([words, start], Some(block)) = (state, self.tower.blocks.get(index)) else {
            return Err(Error::invalid("text tower", "has no such block"));
        };
        let prefix = self.prefix(index, start)?;
        let mask = self.mask(&prefix)?;
        Ok(vec![block.forward(words, Some(&prefix), Some(&mask))?, block.alone(start)?])
    }

    /// Of the last block only what end of text sees and becomes.
    fn end(&self, state: &[Tensor]) -> Result<Tensor> {
        let [words, start] = state else {
            return Err(Error::invalid("text tower", "has no state"));
        };
        let (batch, _, width) = words.size3()?;
        let ends = &self.captions.ends;
        let at = ends.f_reshape([batch, 1, 1])?.f_expand([-1, -1, width], false)?;
        let end = words.f_gather(1, &at, false)?;
        let prefix = self.prefix(self.tower.blocks.len(), start)?;
        let mask = self.mask(&prefix)?.f_index_select(0, ends)?.f_reshape([batch, 1, 1, -1])?;
        let end = self.tower.last.last(&end, words, Some(&prefix), Some(&mask))?;
        let end = self.tower.ln_final.forward(&end.f_squeeze_dim(1)?)?;
        unit(&end.f_matmul(&like(&self.tower.projection, &end)?)?)
    }
}
