//! Contrastive loss (CLIP, arXiv 2103.00020) whose right answers are all pairs of the same person.

use tch::{Kind, Tensor};

use super::{Matches, cosines};
use crate::error::Result;

/// The mean cross-entropy of each row's softmax against an even distribution over the same person, the
/// mean of both directions. Where a batch has each person once it is CLIP's loss.
///
/// # Errors
/// [`crate::Error::Torch`] where shapes do not fit or memory runs out.
pub fn itc(images: &Tensor, texts: &Tensor, persons: &Tensor, temperature: f64) -> Result<Tensor> {
    let scores = cosines(images, texts)?.f_div_scalar(temperature)?;
    let direction = |scores: &Tensor, matches: &Matches| -> Result<Tensor> {
        let rows = scores.f_log_softmax(1, Kind::Float)?.f_mul(&matches.even()?)?;
        matches.mean(&rows.f_sum_dim_intlist([1].as_slice(), false, Kind::Float)?)
    };
    let by_text = Matches::of(persons)?;
    let by_image = by_text.transposed()?;
    let both =
        direction(&scores, &by_text)?.f_add(&direction(&scores.f_transpose(0, 1)?, &by_image)?)?;
    Ok(both.f_mul_scalar(-0.5)?)
}
