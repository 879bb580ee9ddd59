//! Named-tensor values: numbers with a shape.

use crate::{Error, Result};

/// Numbers in row-major order with their shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Tensor {
    /// Takes the numbers of a tensor.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where their count is not the product of the sizes.
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        if element_count(&shape) != Some(values.len()) {
            return Err(Error::mismatch(
                "tensor",
                format!("{} values do not fill the shape {shape:?}", values.len()),
            ));
        }
        Ok(Self { shape, values })
    }

    /// The sizes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The numbers, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

/// The product of the sizes; `None` where it does not fit.
pub(super) fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))
}

/// The bytes of numbers as ONNX and safetensors hold them.
pub(super) fn little_endian(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; size_of_val(values)];
    for (place, value) in bytes.chunks_exact_mut(size_of::<f32>()).zip(values) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}
