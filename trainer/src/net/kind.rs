//! Number formats: matrix products and convolutions may be computed in 16 bits; everything between them
//! is 32-bit, and so is what is trained.

use tch::{Kind, Tensor};

use crate::error::Result;

/// A tensor in this number format; where it has it already, itself.
pub(crate) fn in_kind(tensor: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(match tensor.kind() == kind {
        true => tensor.shallow_clone(),
        false => tensor.f_to_kind(kind)?,
    })
}

/// `x` times a matrix, plus a bias, in the number format of products.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor, kind: Kind) -> Result<Tensor> {
    let [x, weight, bias] = [in_kind(x, kind)?, in_kind(weight, kind)?, in_kind(bias, kind)?];
    Ok(x.f_linear(&weight, Some(&bias))?)
}
