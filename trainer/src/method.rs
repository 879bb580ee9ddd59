//! Which parts of a model are trained, and what they start from.

use serde::{Deserialize, Serialize};
use spotter_models::towers::{Config, Tensor, Weights, layout::is_trained, starting_weights};

use crate::error::Result;

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Nothing: the base model as it is.
    ZeroShot,
    /// Every weight of the base.
    Full,
    /// Bidirectional prompts only.
    Bpt,
    /// Adapters only.
    Dat,
    /// Prompts and adapters: the paper.
    #[default]
    Cskt,
    /// A small backbone from nothing.
    Scratch,
}

impl Method {
    /// Whether anything is trained.
    pub fn learns(self) -> bool {
        self != Method::ZeroShot
    }

    /// Whether the model has prompts.
    pub fn has_prompts(self) -> bool {
        matches!(self, Method::Bpt | Method::Cskt)
    }

    /// Whether the model has adapters.
    pub fn has_adapters(self) -> bool {
        matches!(self, Method::Dat | Method::Cskt)
    }

    /// Whether the backbone itself is trained.
    pub fn trains_backbone(self) -> bool {
        matches!(self, Method::Full | Method::Scratch)
    }

    /// Whether a step may change the tensor of this name.
    pub fn trains(self, name: &str) -> bool {
        is_trained(name) || self.trains_backbone()
    }
}

/// What prompts and adapters start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initialisation {
    /// Small random numbers everywhere, as published. The first step's model is broken by it.
    #[default]
    Paper,
    /// Adapters add nothing at first: `up` is zero and `down` drawn as for a linear layer
    /// (AdaptFormer, arXiv 2205.13535).
    ZeroUp,
}

impl Initialisation {
    /// The tensors that `config` has beyond a backbone.
    ///
    /// # Errors
    /// Where `config` is not valid.
    pub fn weights(self, config: &Config, seed: u64) -> Result<Weights> {
        let mut weights = starting_weights(config, seed, is_trained)?;
        if self == Initialisation::ZeroUp {
            let adapters = weights.iter().filter_map(|(name, tensor)| {
                Some((name.to_owned(), tensor.shape().to_vec(), zero_up(name, tensor)?))
            });
            for (name, shape, values) in adapters.collect::<Vec<_>>() {
                weights.insert(name, Tensor::new(shape, values)?);
            }
        }
        Ok(weights)
    }
}

/// The paper's deviation of an adapter's weights.
const PAPER_DEVIATION: f32 = 0.02;

fn zero_up(name: &str, tensor: &Tensor) -> Option<Vec<f32>> {
    if !name.starts_with("dat.") || !name.ends_with(".weight") {
        return None;
    }
    if name.ends_with(".up.weight") {
        return Some(vec![0.0; tensor.values().len()]);
    }
    if !name.ends_with(".down.weight") {
        return None;
    }
    // Kaiming's uniform distribution for a linear layer has this deviation.
    let inputs = tensor.shape().get(1).copied().unwrap_or(1) as f32;
    let factor = (3.0 * inputs).sqrt().recip() / PAPER_DEVIATION;
    Some(tensor.values().iter().map(|value| value * factor).collect())
}
