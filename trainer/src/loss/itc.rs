//! Contrastive loss (CLIP, arXiv 2103.00020) whose right answers are all pairs of the same person.

use tch::{Kind, Tensor};

use super::{cosines, even};
use crate::error::Result;

/// The mean cross-entropy of each row's softmax against an even distribution over the same person, the
/// mean of both directions. Where a batch has each person once it is CLIP's loss.
///
/// # Errors
/// [`crate::Error::Torch`] where shapes do not fit or memory runs out.
pub fn itc(images: &Tensor, texts: &Tensor, persons: &Tensor, temperature: f64) -> Result<Tensor> {
    let scores = cosines(images, texts)?.f_div_scalar(temperature)?;
    let wanted = even(persons)?;
    let direction = |scores: &Tensor| -> Result<Tensor> {
        let rows = scores.f_log_softmax(1, Kind::Float)?.f_mul(&wanted)?;
        Ok(rows.f_sum_dim_intlist([1].as_slice(), false, Kind::Float)?.f_mean(Kind::Float)?)
    };
    let both = direction(&scores)?.f_add(&direction(&scores.f_transpose(0, 1)?)?)?;
    Ok(both.f_mul_scalar(-0.5)?)
}
