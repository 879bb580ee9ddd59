//! A model's tensors: read from safetensors files, checked against a configuration, written back.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::fs::File;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View, tensor::TensorView};

use super::layout::{TOKEN_TABLE, VISION_POSITIONS, tensors};
use super::positions::{self, Grid};
use super::tensor::little_endian;
use super::{Config, Tensor, half};
use crate::{Error, Result};

/// Tensors that complete CLIP files hold and towers do not need.
const TOLERATED: [&str; 5] =
    ["logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size"];
/// How many names an error message lists.
const LISTED: usize = 5;

/// Writes tensors as one safetensors file, whole or not at all. Its mode is that of any new file, as the
/// umask gives it: the library's own files can be read by nobody else, and the daemon runs as another
/// user than whoever trained.
///
/// # Errors
/// [`Error::Io`] where it cannot be written.
pub fn save<S, V>(
    tensors: impl IntoIterator<Item = (S, V)>,
    metadata: Option<HashMap<String, String>>,
    path: &Path,
) -> Result<()>
where
    S: AsRef<str> + Ord + Display,
    V: View,
{
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    match std::fs::remove_file(part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(part)(error));
        }
        _ => {}
    }
    // The umask cannot be asked for without changing it, but a new file has its mode.
    let new = File::create_new(part).and_then(|file| file.metadata()).map_err(Error::io(part))?;
    safetensors::serialize_to_file(tensors, metadata, part).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(source) => Error::io(part)(source),
        error => Error::internal(format!("writing {}", path.display()), error),
    })?;
    std::fs::set_permissions(part, new.permissions()).map_err(Error::io(part))?;
    std::fs::rename(part, path).map_err(Error::io(path))
}

/// Named tensors of 32-bit floats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Reads safetensors files and merges them: a frozen base and trained adapters, say. F16 and
    /// BF16 become F32.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read, [`Error::Corrupt`] where it is no safetensors
    /// file, holds other types than floats, or a tensor that an earlier file has too.
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Self> {
        let mut weights = Self::default();
        for path in paths {
            let path = path.as_ref();
            let bytes = std::fs::read(path).map_err(Error::io(path))?;
            for (name, tensor) in Self::from_bytes(path, &bytes)?.tensors {
                if weights.tensors.contains_key(&name) {
                    return Err(Error::corrupt(
                        path,
                        format!("tensor {name} is in an earlier file too; name each file once"),
                    ));
                }
                weights.tensors.insert(name, tensor);
            }
        }
        Ok(weights)
    }

    /// Reads the bytes of one safetensors file; `name` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the bytes are cut short, no safetensors file, or a tensor is of
    /// another type than F32, F16 or BF16.
    pub fn from_bytes(name: &Path, bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| {
            Error::corrupt(
                name,
                format!("no complete safetensors file: {error}; copy or download it again"),
            )
        })?;
        let mut tensors = BTreeMap::new();
        for (tensor, view) in file.iter() {
            if let Some(values) = floats(&view) {
                tensors.insert(tensor.to_owned(), Tensor::new(view.shape(), values)?);
            } else if !TOLERATED.contains(&tensor) {
                return Err(Error::corrupt(
                    name,
                    format!(
                        "tensor {tensor} is of type {}; F32, F16, BF16 can be read",
                        view.dtype()
                    ),
                ));
            }
        }
        Ok(Self { tensors })
    }

    /// Writes one safetensors file, whole or not at all, with the mode of any new file.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let entries = self.tensors.iter().map(|(name, tensor)| (name, Little(tensor)));
        save(entries, None, path)
    }

    /// The same rounded to half precision, which [`Weights::write_half`] keeps exactly.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a value is too large for it.
    pub fn to_half(&self) -> Result<Self> {
        let round = |name: &String, tensor: &Tensor| {
            let round = |value: &f32| half::to_float(half::from_float(*value));
            let values: Vec<f32> = tensor.values().iter().map(round).collect();
            if values.iter().any(|value| !value.is_finite()) {
                return Err(Error::invalid(name, "holds values beyond half precision"));
            }
            Ok((name.clone(), Tensor::new(tensor.shape(), values)?))
        };
        let tensors = self.tensors.iter().map(|(name, tensor)| round(name, tensor));
        Ok(Self { tensors: tensors.collect::<Result<_>>()? })
    }

    /// Writes one safetensors file in half precision, half as large.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn write_half(&self, path: &Path) -> Result<()> {
        let entries = self.tensors.iter().map(|(name, tensor)| (name, Half(tensor)));
        save(entries, None, path)
    }

    /// The bytes of one safetensors file in half precision; the same tensors give the same bytes.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn to_half_bytes(&self) -> Result<Vec<u8>> {
        let entries = self.tensors.iter().map(|(name, tensor)| (name, Half(tensor)));
        safetensors::serialize(entries, None).map_err(|error| Error::internal("weights", error))
    }

    /// Adds a tensor or replaces the one of that name, which is returned.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Option<Tensor> {
        self.tensors.insert(name.into(), tensor)
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The values of a tensor that must have this shape.
    ///
    /// # Errors
    /// [`Error::Mismatch`] that names the tensor, where it is missing or of another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<&[f32]> {
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| Error::mismatch(name, "this tensor is missing from the weights"))?;
        if tensor.shape() != shape {
            let advice = match name {
                VISION_POSITIONS => "; a table of a square grid can be interpolated",
                _ => "",
            };
            return Err(Error::mismatch(
                name,
                format!("the shape is {:?} instead of {shape:?}{advice}", tensor.shape()),
            ));
        }
        Ok(tensor.values())
    }

    /// Checks that every tensor that `config` asks for is there, of the right shape and finite.
    /// Returns the names of tensors that nothing asks for, which do no harm but may tell that the
    /// configuration is another model's.
    ///
    /// # Errors
    /// [`Error::Mismatch`] that names the tensors.
    pub fn check(&self, config: &Config) -> Result<Vec<String>> {
        config.validate()?;
        let specs = tensors(config);
        let missing = specs.iter().map(|spec| spec.name.as_str());
        let missing: Vec<_> = missing.filter(|name| !self.tensors.contains_key(*name)).collect();
        if !missing.is_empty() {
            let mut names = missing[..missing.len().min(LISTED)].join(", ");
            if missing.len() > LISTED {
                names += &format!(" and {} more", missing.len() - LISTED);
            }
            return Err(Error::mismatch("weights", format!("missing from them: {names}")));
        }
        for spec in &specs {
            let values = self.get(&spec.name, &spec.shape)?;
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(Error::mismatch(
                    &spec.name,
                    format!(
                        "value {index} is {}; the training diverged or the file is damaged",
                        values[index]
                    ),
                ));
            }
        }
        let needed: std::collections::HashSet<_> =
            specs.iter().map(|spec| spec.name.as_str()).collect();
        let unexpected = self
            .tensors
            .keys()
            .filter(|name| !needed.contains(name.as_str()) && !TOLERATED.contains(&name.as_str()));
        Ok(unexpected.cloned().collect())
    }

    /// Interpolates the vision tower's position table where it is that of another, square grid than
    /// `config`'s; leaves it where it fits.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the table is missing or its grid cannot be told.
    pub fn fit_positions(&mut self, config: &Config) -> Result<()> {
        config.validate()?;
        let shape = [config.patches() + 1, config.vision_width];
        let Some(table) = self.tensors.get(VISION_POSITIONS).filter(|t| t.shape() != shape) else {
            return self.get(VISION_POSITIONS, &shape).map(|_| ());
        };
        let grid = match *table.shape() {
            [rows, width] if width == config.vision_width => Grid::square_of(rows),
            _ => None,
        };
        let Some(grid) = grid else {
            return Err(Error::mismatch(
                VISION_POSITIONS,
                format!("the shape {:?} is neither {shape:?} nor a square grid", table.shape()),
            ));
        };
        let target =
            Grid { rows: config.height / config.patch, columns: config.width / config.patch };
        let table = positions::interpolate(table, grid, target)?;
        self.tensors.insert(VISION_POSITIONS.into(), table);
        Ok(())
    }

    /// Keeps the rows of `ids` and of the special ids in a full token table; one more row, the mean
    /// of those that are dropped, stands for every other id. Returns the weights and the
    /// configuration that belongs to them.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the table is missing or already reduced, [`Error::Invalid`] where
    /// an id is outside the vocabulary.
    pub fn reduce_vocabulary(mut self, config: &Config, ids: &[u32]) -> Result<(Self, Config)> {
        config.validate()?;
        if config.token_ids.is_some() {
            return Err(Error::mismatch(TOKEN_TABLE, "the vocabulary is already reduced"));
        }
        let width = config.text_width;
        let table = self.get(TOKEN_TABLE, &[config.vocab, width])?;
        let mut kept = ids.to_vec();
        kept.extend([config.start_of_text(), config.end_of_text()]);
        kept.sort_unstable();
        kept.dedup();
        if let Some(id) = kept.iter().find(|&&id| id as usize >= config.vocab) {
            return Err(Error::invalid(
                "token ids",
                format!("{id} is not below the vocabulary's size of {}", config.vocab),
            ));
        }
        let mut values = Vec::with_capacity((kept.len() + 1) * width);
        let mut dropped = vec![0f64; width];
        let mut next = kept.iter().peekable();
        for (id, row) in table.chunks_exact(width).enumerate() {
            if next.next_if(|&&kept| kept as usize == id).is_some() {
                values.extend_from_slice(row);
            } else {
                dropped.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            }
        }
        let count = (config.vocab - kept.len()).max(1) as f64;
        values.extend(dropped.iter().map(|sum| (sum / count) as f32));
        self.insert(TOKEN_TABLE, Tensor::new([kept.len() + 1, width], values)?);
        Ok((self, Config { token_ids: Some(kept), ..config.clone() }))
    }
}

/// What safetensors writes of a tensor.
struct Little<'a>(&'a Tensor);

impl safetensors::View for Little<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        little_endian(self.0.values()).into()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.0.values())
    }
}

/// What safetensors writes of a tensor in half precision.
struct Half<'a>(&'a Tensor);

impl safetensors::View for Half<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F16
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        let halves = self.0.values().iter().map(|value| half::from_float(*value));
        halves.flat_map(u16::to_le_bytes).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        self.0.values().len() * 2
    }
}

/// The values as f32; `None` for types that hold no weights.
fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = view.data();
    let halves = || data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    match view.dtype() {
        Dtype::F32 => Some(
            data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        ),
        Dtype::F16 => Some(halves().map(half::to_float).collect()),
        Dtype::BF16 => Some(halves().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rounded_to_half_precision_survives_its_file() {
        let mut weights = Weights::default();
        weights.insert("a", Tensor::new([3].as_slice(), vec![0.1, -65_000.0, 1e-6]).unwrap());
        let rounded = weights.to_half().unwrap();
        assert_ne!(rounded, weights);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("half.safetensors");
        weights.write_half(&path).unwrap();
        assert_eq!(Weights::read(&[&path]).unwrap(), rounded);
        weights.insert("b", Tensor::new([1].as_slice(), vec![1e6]).unwrap());
        assert!(weights.to_half().unwrap_err().to_string().starts_with("b:"));
    }

    #[test]
    fn files_of_half_precision_are_read() {
        let entry = |dtype, bytes| TensorView::new(dtype, vec![2], bytes).unwrap();
        let file = safetensors::serialize(
            [
                ("half", entry(Dtype::F16, &[0x00, 0x3c, 0x00, 0xc0])),
                ("brain", entry(Dtype::BF16, &[0x80, 0x3f, 0x00, 0xc0])),
            ],
            None,
        );
        let weights = Weights::from_bytes(Path::new("halves"), &file.unwrap()).unwrap();
        for name in ["half", "brain"] {
            assert_eq!(weights.get(name, &[2]).unwrap(), [1.0, -2.0], "{name}");
        }
    }
}
