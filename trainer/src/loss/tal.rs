//! Triplet alignment loss (RDE, arXiv 2308.09911, section 3.3; `cskt.md` 5.4).

use tch::{Kind, Tensor};

use super::{Matches, cosines};
use crate::error::Result;

/// For each row `[margin - s + t log sum exp(s- / t)]`, not below zero: `s` is the mean cosine with the
/// same person, weighted by its own softmax, `s-` are the cosines with others. The soft maximum over
/// all others takes the place of the hardest one, which wrong captions would choose. Mean of the rows,
/// sum of both directions. The published values are `temperature` 0.015, `margin` 0.1.
///
/// # Errors
/// [`crate::Error::Torch`] where shapes do not fit or memory runs out.
pub fn tal(
    images: &Tensor,
    texts: &Tensor,
    persons: &Tensor,
    temperature: f64,
    margin: f64,
) -> Result<Tensor> {
    let cosines = cosines(images, texts)?;
    let direction = |cosines: &Tensor, matches: &Matches| -> Result<Tensor> {
        let same = &matches.same;
        let scaled = cosines.f_div_scalar(temperature)?;
        let none = f64::NEG_INFINITY;
        // Weights are judgements, not something to be trained. A row without a match has none to weigh, and
        // is left out of the mean: its zeros keep it finite.
        let others = same.f_logical_not()?;
        let weights = scaled.f_detach()?.f_masked_fill(&others, -1e9)?.f_softmax(1, Kind::Float)?;
        let right = weights.f_mul(cosines)?;
        let right = right.f_sum_dim_intlist([1].as_slice(), false, Kind::Float)?;
        let wrong = scaled.f_masked_fill(same, none)?.f_logsumexp([1].as_slice(), false)?;
        // A batch of one person has no others: nothing to push away.
        let wrong = wrong.f_clamp_min(-1e4)?.f_mul_scalar(temperature)?;
        let rows = wrong.f_sub(&right)?.f_add_scalar(margin)?.f_clamp_min(0.0)?;
        matches.mean(&rows)
    };
    let by_text = Matches::of(persons)?;
    let by_image = by_text.transposed()?;
    Ok(direction(&cosines, &by_text)?.f_add(&direction(&cosines.f_transpose(0, 1)?, &by_image)?)?)
}
