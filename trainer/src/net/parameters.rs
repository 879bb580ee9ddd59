//! A model's tensors in libtorch: which there are, and which are trained.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use spotter_models::towers::{Config, Tensor as Stored, Weights, layout::is_trained};
use tch::{Device, Kind, Tensor};

use super::norms;
use crate::error::{Error, Result};

/// CLIP's name for the logarithm of the reciprocal temperature.
pub const SCALE: &str = "logit_scale";

/// Tensors by their names in weight files.
pub struct Parameters {
    tensors: BTreeMap<String, Tensor>,
    trained: Vec<String>,
    training: Arc<AtomicBool>,
    kind: Kind,
    device: Device,
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
        let mut parameters = Self {
            tensors: BTreeMap::new(),
            trained: Vec::new(),
            training: Arc::default(),
            kind: Kind::Float,
            device,
        };
        parameters.add(weights, is_trained)?;
        Ok(parameters)
    }

    /// Adds normalisations over batches, as training starts; their scales and shifts are trained.
    ///
    /// # Errors
    /// [`Error::Torch`] where memory runs out.
    pub fn add_norms(&mut self, weights: &Weights) -> Result<()> {
        let starting = norms::starting_norms(weights)?;
        self.add(&starting, |name| !norms::is_measured(name))
    }

    /// Adds the logarithm of the reciprocal temperature, CLIP's `logit_scale`, to what is trained.
    ///
    /// # Errors
    /// [`Error::Torch`] where memory runs out.
    pub fn add_scale(&mut self, temperature: f64) -> Result<()> {
        let mut weights = Weights::default();
        let scale = temperature.recip().ln() as f32;
        weights.insert(SCALE, Stored::new([1].as_slice(), vec![scale])?);
        self.add(&weights, |_| true)
    }

    /// The temperature where it is trained.
    pub fn scale(&self) -> Option<&Tensor> {
        self.tensors.get(SCALE)
    }

    fn add(&mut self, weights: &Weights, is_trained: impl Fn(&str) -> bool) -> Result<()> {
        for (name, stored) in weights.iter() {
            let shape: Vec<i64> = stored.shape().iter().map(|side| *side as i64).collect();
            let tensor = Tensor::f_from_slice(stored.values())?.f_reshape(shape)?;
            // Also on the same device: what is trained must be nobody else's memory.
            let tensor = tensor.f_to_device(self.device)?.f_set_requires_grad(is_trained(name))?;
            if is_trained(name) {
                self.trained.push(name.to_owned());
            }
            self.tensors.insert(name.to_owned(), tensor);
        }
        Ok(())
    }

    /// Computes matrix products and convolutions in this number format from now on. Frozen matrices are
    /// kept in it; what is trained stays 32-bit and is rounded where it is used. Build a
    /// [`super::Net`] afterwards.
    ///
    /// # Errors
    /// [`Error::Torch`] where memory runs out.
    pub fn compute_in(&mut self, kind: Kind) -> Result<()> {
        self.kind = kind;
        for (name, tensor) in &mut self.tensors {
            let is_table = name.ends_with("embedding.weight") || name.ends_with("_embedding");
            // Also of what can be trained and is held fixed: prompts flow through the couplings as they are.
            let is_held = is_trained(name) && !tensor.requires_grad();
            if !tensor.requires_grad() && tensor.dim() > 1 && !is_table && !is_held {
                *tensor = tensor.f_to_kind(kind)?;
            }
        }
        Ok(())
    }

    /// Where the tensors are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The number format of matrix products.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether normalisations over batches go by the batch (training) or by their running figures.
    pub fn set_training(&self, training: bool) {
        self.training.store(training, Ordering::Relaxed);
    }

    pub(super) fn training(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.training)
    }

    /// Puts new values into a parameter, whose shape they must have.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is none of this name, or the shapes differ.
    pub fn set(&self, name: &str, values: &Tensor) -> Result<()> {
        let mut parameter = self.get(name)?;
        if parameter.size() != values.size() {
            let reason = format!("{:?} are not {:?}", values.size(), parameter.size());
            return Err(Error::invalid(name, reason));
        }
        tch::no_grad(|| Ok(parameter.f_copy_(values)?))
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
