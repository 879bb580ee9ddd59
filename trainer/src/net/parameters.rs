//! A model's tensors in libtorch: which there are, and which are trained.

use std::collections::BTreeMap;

use spotter_models::towers::{Config, Tensor as Stored, Weights};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// Tensors by their names in weight files.
pub struct Parameters {
    tensors: BTreeMap<String, Tensor>,
    trained: Vec<String>,
}

impl Parameters {
    /// Takes the weights that `config` asks for; `is_trained` says of each name whether a step may
    /// change it.
    ///
    /// # Errors
    /// Where a tensor is missing, too many, or of another shape; [`Error::Torch`] where memory runs
    /// out.
    pub fn new(
        weights: &Weights,
        config: &Config,
        device: Device,
        is_trained: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        weights.check(config)?;
        let (mut tensors, mut trained) = (BTreeMap::new(), Vec::new());
        for (name, stored) in weights.iter() {
            let shape: Vec<i64> = stored.shape().iter().map(|side| *side as i64).collect();
            let tensor = Tensor::f_from_slice(stored.values())?.f_reshape(shape)?;
            // Also on the same device: what is trained must be nobody else's memory.
            let tensor = tensor.f_to_device(device)?.f_set_requires_grad(is_trained(name))?;
            if is_trained(name) {
                trained.push(name.to_owned());
            }
            tensors.insert(name.to_owned(), tensor);
        }
        Ok(Self { tensors, trained })
    }

    /// A tensor that shares its memory with this one.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is none of this name.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        match self.tensors.get(name) {
            Some(tensor) => Ok(tensor.shallow_clone()),
            None => Err(Error::invalid(name, "is not among the model's tensors")),
        }
    }

    /// Tensors that are trained, by name.
    pub fn trained(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.trained.iter().filter_map(|name| Some((name.as_str(), self.tensors.get(name)?)))
    }

    /// All tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// How many numbers are trained, and how many there are.
    pub fn counts(&self) -> (usize, usize) {
        let trained = self.trained().map(|(_, tensor)| tensor.numel()).sum();
        (trained, self.tensors.values().map(Tensor::numel).sum())
    }

    /// Copies of the tensors whose names are wanted, to be written to a file.
    ///
    /// # Errors
    /// [`Error::Torch`] where memory runs out.
    pub fn to_weights(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Weights> {
        let mut weights = Weights::default();
        for (name, tensor) in self.iter().filter(|(name, _)| is_wanted(name)) {
            let shape: Vec<usize> =
                tensor.size().iter().map(|side| usize::try_from(*side).unwrap_or(0)).collect();
            let mut values = vec![0f32; tensor.numel()];
            let count = values.len();
            let plain = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
            plain.f_contiguous()?.f_copy_data(&mut values, count)?;
            weights.insert(name, Stored::new(shape, values)?);
        }
        Ok(weights)
    }
}
