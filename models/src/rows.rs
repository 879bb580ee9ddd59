//! Embeddings as the rows of a tensor in a safetensors file.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{Error, Result};

/// How far the length of a stored embedding may be from 1: what f32 rounding leaves.
const LENGTH_TOLERANCE: f64 = 1e-4;

/// Little-endian bytes of all rows, one after the other.
pub(crate) fn to_le<R: AsRef<[f32]>>(rows: &[R]) -> Vec<u8> {
    rows.iter().flat_map(|row| row.as_ref()).flat_map(|value| value.to_le_bytes()).collect()
}

/// A tensor by name and type; `None` where there is none of that name.
pub(crate) fn find<'a>(
    file: &SafeTensors<'a>,
    name: &str,
    dtype: Dtype,
) -> Result<Option<TensorView<'a>>> {
    match file.tensor(name) {
        Ok(view) if view.dtype() == dtype => Ok(Some(view)),
        Ok(view) => Err(Error::mismatch(name, format!("is {:?} and not {dtype:?}", view.dtype()))),
        Err(_) => Ok(None),
    }
}

/// The rows of a tensor of shape `[rows, size]`.
pub(crate) fn read(file: &SafeTensors<'_>, name: &str) -> Result<Vec<Vec<f32>>> {
    let view = find(file, name, Dtype::F32)?
        .ok_or_else(|| Error::mismatch(name, "is missing".to_string()))?;
    let size = match view.shape() {
        &[_, size] if size > 0 => size,
        shape => return Err(Error::mismatch(name, format!("has shape {shape:?}"))),
    };
    let (words, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok(values.chunks_exact(size).map(<[f32]>::to_vec).collect())
}

/// Refuses rows that are not of one size and of unit length; `what` is what errors call them.
pub(crate) fn check_unit<'a>(
    what: &str,
    size: usize,
    rows: impl IntoIterator<Item = &'a [f32]>,
) -> Result<()> {
    for row in rows {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let is_unit = (length - 1.0).abs() <= LENGTH_TOLERANCE;
        if row.len() != size || !is_unit {
            return Err(Error::mismatch(
                what,
                format!(
                    "{} values of length {length} where {size} of length 1 are meant",
                    row.len()
                ),
            ));
        }
    }
    Ok(())
}
