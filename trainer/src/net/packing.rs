//! Captions of different lengths one after another, so that what works on single words (products,
//! normalisations) works on words alone; only attention sees them side by side with padding.

use tch::{Device, Tensor};

use crate::error::Result;

/// Where the words of a batch are, packed `[1, T, D]` and padded `[N, L, D]`.
pub(super) struct Packing {
    batch: i64,
    length: i64,
    /// `[N * L]`: the packed row of each padded one; padding repeats a caption's last word.
    padded: Tensor,
    /// `[T]`: the padded row of each packed one.
    packed: Tensor,
    /// `[T]`: position of each word in its caption.
    positions: Tensor,
    /// `[N]`: the packed row of each caption's last word.
    lasts: Tensor,
    /// `[N]`: position of each caption's last word.
    ends: Tensor,
}

impl Packing {
    /// Of captions of these lengths, each at least 1.
    pub(super) fn new(lengths: &[i64], device: Device) -> Result<Self> {
        let length = lengths.iter().copied().max().unwrap_or(0);
        let [mut padded, mut packed, mut positions, mut lasts] = [const { Vec::<i64>::new() }; 4];
        for (caption, own) in (0..).zip(lengths) {
            let first = packed.len() as i64;
            padded.extend((0..length).map(|word| first + word.min(own - 1)));
            packed.extend((0..*own).map(|word| caption * length + word));
            positions.extend(0..*own);
            lasts.push(first + own - 1);
        }
        let ends: Vec<i64> = lengths.iter().map(|own| own - 1).collect();
        let tensor = |values: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_device(device)?)
        };
        Ok(Self {
            batch: lengths.len() as i64,
            length,
            padded: tensor(&padded)?,
            packed: tensor(&packed)?,
            positions: tensor(&positions)?,
            lasts: tensor(&lasts)?,
            ends: tensor(&ends)?,
        })
    }

    /// Words of the longest caption.
    pub(super) fn length(&self) -> i64 {
        self.length
    }

    pub(super) fn positions(&self) -> &Tensor {
        &self.positions
    }

    pub(super) fn ends(&self) -> &Tensor {
        &self.ends
    }

    /// `[1, T, D]` to `[N, L, D]`.
    pub(super) fn pad(&self, words: &Tensor) -> Result<Tensor> {
        let words = words.f_squeeze_dim(0)?.f_index_select(0, &self.padded)?;
        Ok(words.f_reshape([self.batch, self.length, -1])?)
    }

    /// `[N, L, D]` to `[1, T, D]`.
    pub(super) fn pack(&self, words: &Tensor) -> Result<Tensor> {
        let words = words.f_flatten(0, 1)?.f_index_select(0, &self.packed)?;
        Ok(words.f_unsqueeze(0)?)
    }

    /// The last word of each caption: `[1, T, D]` to `[N, 1, D]`.
    pub(super) fn last(&self, words: &Tensor) -> Result<Tensor> {
        Ok(words.f_squeeze_dim(0)?.f_index_select(0, &self.lasts)?.f_unsqueeze(1)?)
    }
}
