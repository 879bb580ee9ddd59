//! Similarity distribution matching (IRRA, arXiv 2303.12501, section 3.2; `cskt.md` 1.5).

use tch::{Kind, Tensor};

use super::{cosines, even};
use crate::error::Result;

/// Keeps the logarithm of the wanted distribution finite.
const EPSILON: f64 = 1e-8;

/// The mean divergence of each row's softmax from an even distribution over the same person, in both
/// directions. `images` and `texts` are `[N, embed]` of unit length, `persons` `[N]` holds whom each
/// pair shows; `temperature` is 0.02 in the paper.
///
/// # Errors
/// [`crate::Error::Torch`] where shapes do not fit or memory runs out.
pub fn sdm(images: &Tensor, texts: &Tensor, persons: &Tensor, temperature: f64) -> Result<Tensor> {
    let scores = cosines(images, texts)?.f_div_scalar(temperature)?;
    let wanted = even(persons)?.f_add_scalar(EPSILON)?.f_log()?;
    let direction = |scores: &Tensor| -> Result<Tensor> {
        let log_p = scores.f_log_softmax(1, Kind::Float)?;
        let rows = log_p.f_exp()?.f_mul(&log_p.f_sub(&wanted)?)?;
        Ok(rows.f_sum_dim_intlist([1].as_slice(), false, Kind::Float)?.f_mean(Kind::Float)?)
    };
    Ok(direction(&scores)?.f_add(&direction(&scores.f_transpose(0, 1)?)?)?)
}
