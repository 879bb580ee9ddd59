//! What training minimises, from unit embeddings of pictures and captions.

mod itc;
mod sdm;
mod tal;

pub use itc::itc;
pub use sdm::sdm;
pub use tal::tal;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::Result;

/// Which loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossKind {
    /// Similarity distribution matching, the paper's.
    #[default]
    Sdm,
    /// Plain contrastive.
    Itc,
    /// Triplet alignment, which bears wrong captions better.
    Tal,
}

impl LossKind {
    /// The loss of a batch: `images` and `texts` `[N, embed]` of unit length, `persons` `[N]` whom each
    /// pair shows, or `[2, N]`, whom each picture shows and whom each caption means, where some pairs do not match
    /// (a sighting that staff rejected): their pictures are wrong answers, and they ask nothing. `temperature` divides the cosines; `margin` is for [`LossKind::Tal`].
    ///
    /// # Errors
    /// [`crate::Error::Torch`] where shapes do not fit or memory runs out.
    pub fn of(
        self,
        [images, texts]: [&Tensor; 2],
        persons: &Tensor,
        temperature: f64,
        margin: f64,
    ) -> Result<Tensor> {
        match self {
            LossKind::Sdm => sdm(images, texts, persons, temperature),
            LossKind::Itc => itc(images, texts, persons, temperature),
            LossKind::Tal => tal(images, texts, persons, temperature, margin),
        }
    }
}

/// Which captions (rows) and pictures (columns) of a batch belong together.
struct Matches {
    /// `[N, N]`, true where the caption means whom the picture shows.
    same: Tensor,
    /// Whether some captions or pictures may have no match in the batch.
    is_ragged: bool,
}

impl Matches {
    /// `persons` is `[N]` where every caption means whom its picture shows, else `[2, N]`: whom the pictures
    /// show, and whom the captions mean.
    fn of(persons: &Tensor) -> Result<Self> {
        let is_ragged = persons.dim() == 2;
        let (shown, meant) = match is_ragged {
            true => (persons.f_get(0)?, persons.f_get(1)?),
            false => (persons.shallow_clone(), persons.shallow_clone()),
        };
        let same = shown.f_unsqueeze(0)?.f_eq_tensor(&meant.f_unsqueeze(1)?)?;
        Ok(Self { same, is_ragged })
    }

    /// The same for pictures as rows and captions as columns.
    fn transposed(&self) -> Result<Self> {
        Ok(Self { same: self.same.f_transpose(0, 1)?, is_ragged: self.is_ragged })
    }

    /// In each row an even distribution over its matches; zeros where it has none.
    fn even(&self) -> Result<Tensor> {
        let same = self.same.f_to_kind(Kind::Float)?;
        let count = same.f_sum_dim_intlist([1].as_slice(), true, Kind::Float)?;
        let count = if self.is_ragged { count.f_clamp_min(1.0)? } else { count };
        Ok(same.f_div(&count)?)
    }

    /// The mean over rows that have a match: of what has none, a loss would only say that it fits nothing.
    fn mean(&self, rows: &Tensor) -> Result<Tensor> {
        if !self.is_ragged {
            return Ok(rows.f_mean(Kind::Float)?);
        }
        let counts = self.same.f_any_dim(1, false)?.f_to_kind(Kind::Float)?;
        let sum = rows.f_mul(&counts)?.f_sum(Kind::Float)?;
        Ok(sum.f_div(&counts.f_sum(Kind::Float)?.f_clamp_min(1.0)?)?)
    }
}

/// Cosines of each caption (row) with each picture (column).
fn cosines(images: &Tensor, texts: &Tensor) -> Result<Tensor> {
    Ok(texts.f_matmul(&images.f_transpose(0, 1)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(rows: &[[f32; 2]]) -> Tensor {
        Tensor::from_slice2(rows)
    }

    /// A pair that staff rejected counts as a picture that is wrong for its caption, and asks nothing itself.
    #[test]
    fn a_rejected_pair_pushes_its_picture_away_and_has_no_row_of_its_own() {
        let texts = unit(&[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]);
        // The third picture was rejected for the first caption, which is the third's too.
        let images = unit(&[[0.8, 0.6], [0.0, 1.0], [0.6, 0.8]]).set_requires_grad(true);
        let persons = Tensor::from_slice(&[1i64, 2, 3, 1, 2, 1]).reshape([2, 3]);
        for kind in [LossKind::Sdm, LossKind::Itc, LossKind::Tal] {
            let mut images = images.detach().set_requires_grad(true);
            images.zero_grad();
            let loss = kind.of([&images, &texts], &persons, 0.1, 0.2).unwrap();
            assert!(loss.isfinite().int64_value(&[]) == 1, "{kind:?}");
            loss.backward();
            let gradient = images.grad();
            // Down the gradient the confirmed picture comes closer to the first caption, the rejected one
            // goes away.
            assert!(gradient.double_value(&[0, 0]) < 0.0, "{kind:?}: {gradient}");
            assert!(gradient.double_value(&[2, 0]) > 0.0, "{kind:?}: {gradient}");
        }
    }

    #[test]
    fn pairs_that_all_match_have_the_same_loss_in_either_form() {
        let texts = unit(&[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]);
        let images = unit(&[[0.8, 0.6], [0.0, 1.0], [1.0, 0.0]]);
        let plain = Tensor::from_slice(&[1i64, 2, 1]);
        let both = Tensor::stack(&[&plain, &plain], 0);
        for kind in [LossKind::Sdm, LossKind::Itc, LossKind::Tal] {
            let loss = |persons: &Tensor| {
                kind.of([&images, &texts], persons, 0.1, 0.2).unwrap().double_value(&[])
            };
            assert!((loss(&plain) - loss(&both)).abs() < 1e-6, "{kind:?}");
        }
    }
}
