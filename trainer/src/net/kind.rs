//! Number formats: parameters that are trained stay 32-bit, and are rounded where they are used.

use tch::Tensor;

use crate::error::Result;

/// A parameter in the number format of `x`; gradients arrive in its own.
pub(super) fn like(parameter: &Tensor, x: &Tensor) -> Result<Tensor> {
    Ok(match parameter.kind() == x.kind() {
        true => parameter.shallow_clone(),
        false => parameter.f_to_kind(x.kind())?,
    })
}
