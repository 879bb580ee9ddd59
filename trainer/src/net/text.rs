//! The text tower.

use spotter_models::towers::Config;
use tch::{Device, Kind, Tensor};

use super::{
    Parameters,
    block::{Block, Side, Sight},
    kind::in_kind,
    norm::Norm,
    norms::BatchNorm,
    packing::Packing,
    pass::{Pass, State},
    prompts::Prompts,
    unit,
};
use crate::error::{Error, Result};

/// A batch of captions as rows of the token table.
pub struct Captions {
    /// `[T]`: words and end of text of one caption after another.
    rows: Tensor,
    /// Rows of each.
    lengths: Vec<i64>,
    packing: Packing,
}

impl Captions {
    /// Takes the word ids of each caption, without start and end; words beyond the limit are left out
    /// (`cskt.md` 1.2).
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no caption, or an id that is no word of the vocabulary.
    pub fn new<W: AsRef<[u32]>>(words: &[W], config: &Config, device: Device) -> Result<Self> {
        if words.is_empty() {
            return Err(Error::invalid("captions", "there are none"));
        }
        let limit = config.word_limit();
        let end = config.token_row(config.end_of_text()) as i64;
        let (mut rows, mut lengths) = (Vec::new(), Vec::with_capacity(words.len()));
        for words in words.iter().map(AsRef::as_ref) {
            let kept = words.get(..words.len().min(limit)).unwrap_or_default();
            if let Some(id) = kept.iter().find(|id| **id >= config.start_of_text()) {
                return Err(Error::invalid("captions", format!("{id} is no word's id")));
            }
            rows.extend(kept.iter().map(|id| config.token_row(*id) as i64));
            rows.push(end);
            lengths.push(kept.len() as i64 + 1);
        }
        let rows = Tensor::f_from_slice(&rows)?.f_to_device(device)?;
        let packing = Packing::new(&lengths, device)?;
        Ok(Self { rows, lengths, packing })
    }

    /// `count` of them, in a row.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there are not that many.
    pub fn part(&self, from: usize, count: usize) -> Result<Self> {
        let part = self.lengths.get(from..).and_then(|rest| rest.get(..count));
        let (Some(lengths), Some(before)) = (part, self.lengths.get(..from)) else {
            let reason = format!("{count} from {from} on are not among {}", self.lengths.len());
            return Err(Error::invalid("captions", reason));
        };
        let rows = self.rows.f_narrow(0, before.iter().sum(), lengths.iter().sum())?;
        let packing = Packing::new(lengths, self.rows.device())?;
        Ok(Self { rows, lengths: lengths.to_vec(), packing })
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
    norm: Option<BatchNorm>,
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
            norm: BatchNorm::of(parameters, "ln_final")?,
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

/// The text tower with captions. Its state: words `[1, T, width]`,
/// packed, and start of text `[1, 1, width]`,
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
        Ok(Tensor::f_cat(&[start, prompts], 0)?)
    }

    /// True where a word (row) sees the prefix or a word (column): `[L, prefix + L]`.
    fn mask(&self, prefix: &Tensor) -> Result<Tensor> {
        let length = self.captions.packing.length();
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
        let Captions { rows, packing, .. } = self.captions;
        let words = Tensor::f_embedding(&tower.tokens, rows, -1, false, false)?;
        let positions = tower.positions.f_narrow(0, 1 + tower.slots, packing.length())?;
        let positions = positions.f_index_select(0, packing.positions())?;
        let words = words.f_add(&positions)?.f_unsqueeze(0)?;
        let start = tower.tokens.f_narrow(0, tower.start, 1)?;
        let start = start.f_add(&tower.positions.f_narrow(0, 0, 1)?)?.f_unsqueeze(0)?;
        Ok(vec![words, start])
    }

    fn block(&self, index: usize, state: &[Tensor]) -> Result<State> {
        let ([words, start], Some(block)) = (state, self.tower.blocks.get(index)) else {
            return Err(Error::invalid("text tower", "has no such block"));
        };
        let prefix = self.prefix(index, start)?;
        let mask = self.mask(&prefix)?;
        let packing = Some(&self.captions.packing);
        let sight = Sight { prefix: Some(&prefix), mask: Some(&mask), packing };
        Ok(vec![block.forward(words, &sight)?, block.alone(start)?])
    }

    /// Of the last block only what end of text sees and becomes.
    fn end(&self, state: &[Tensor]) -> Result<Tensor> {
        let [words, start] = state else {
            return Err(Error::invalid("text tower", "has no state"));
        };
        let packing = &self.captions.packing;
        let (end, ends) = (packing.last(words)?, packing.ends());
        let prefix = self.prefix(self.tower.blocks.len(), start)?;
        let mask = self.mask(&prefix)?.f_index_select(0, ends)?.f_unsqueeze(1)?.f_unsqueeze(1)?;
        let sight = Sight { prefix: Some(&prefix), mask: Some(&mask), packing: Some(packing) };
        let end = self.tower.last.last(&end, words, &sight)?;
        let end = self.tower.ln_final.forward(&end.f_squeeze_dim(1)?)?;
        let end = self.tower.norm.iter().try_fold(end, |end, norm| norm.forward(&end))?;
        let end = in_kind(&end, self.tower.kind)?;
        unit(&end.f_matmul(&in_kind(&self.tower.projection, self.tower.kind)?)?)
    }
}
