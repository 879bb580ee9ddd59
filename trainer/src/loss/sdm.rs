//! Similarity distribution matching (IRRA, arXiv 2303.12501, section 3.2; `cskt.md` 1.5).

use tch::{Kind, Tensor};

use super::{Matches, cosines};
use crate::error::Result;

/// Keeps the logarithm of the wanted distribution finite.
const EPSILON: f64 = 1e-8;

/// The mean divergence of each row's softmax from an even distribution over the same person, in both
/// directions. `images` and `texts` are `[N, embed]` of unit length, `persons` holds whom each
/// pair shows (see [`super::LossKind::of`]); `temperature` is 0.02 in the paper.
///
/// # Errors
/// [`crate::Error::Torch`] where shapes do not fit or memory runs out.
pub fn sdm(images: &Tensor, texts: &Tensor, persons: &Tensor, temperature: f64) -> Result<Tensor> {
    let scores = cosines(images, texts)?.f_div_scalar(temperature)?;
    let direction = |scores: &Tensor, matches: &Matches| -> Result<Tensor> {
        let wanted = matches.even()?.f_add_scalar(EPSILON)?.f_log()?;
        let log_p = scores.f_log_softmax(1, Kind::Float)?;
        let rows = log_p.f_exp()?.f_mul(&log_p.f_sub(&wanted)?)?;
        matches.mean(&rows.f_sum_dim_intlist([1].as_slice(), false, Kind::Float)?)
    };
    let by_text = Matches::of(persons)?;
    let by_image = by_text.transposed()?;
    Ok(direction(&scores, &by_text)?.f_add(&direction(&scores.f_transpose(0, 1)?, &by_image)?)?)
}
