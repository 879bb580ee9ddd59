//! Which parts of a model are trained, and what they start from.

use serde::{Deserialize, Serialize};
use spotter_models::towers::{Config, Tensor, Weights, layout::is_trained, starting_weights};

use crate::{error::Result, net::SCALE};

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
        is_trained(name) || name == SCALE || self.trains_backbone()
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

/// The tensors of a backbone from nothing, which must learn in minutes: pictures and texts differ from
/// the first step on, and attention begins as a mean over all that is seen.
///
/// # Errors
/// Where `config` is not valid.
pub fn from_nothing(config: &Config, seed: u64) -> Result<Weights> {
    let mut weights = starting_weights(config, seed, |_| true)?;
    let changed: Vec<(String, Tensor)> = weights
        .iter()
        .filter_map(|(name, tensor)| Some((name, tensor, lively(name, tensor, config)?)))
        .map(|(name, tensor, values)| Ok((name.to_owned(), Tensor::new(tensor.shape(), values)?)))
        .collect::<Result<_>>()?;
    for (name, tensor) in changed {
        weights.insert(name, tensor);
    }
    Ok(weights)
}

/// Other starting values than CLIP's; `None` where CLIP's stay.
fn lively(name: &str, tensor: &Tensor, config: &Config) -> Option<Vec<f32>> {
    /// Queries and keys small: attention begins as a mean.
    const FLAT: f32 = 0.3;
    /// Values large: what attention gathers shows in the token that gathers.
    const GATHERED: f32 = 1.5;
    let values = tensor.values();
    let scaled = |factor: f32| Some(values.iter().map(|value| value * factor).collect());
    let to_deviation = |wanted: f32| {
        let square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let deviation = (square / values.len().max(1) as f64).sqrt() as f32;
        scaled(wanted / deviation.max(f32::MIN_POSITIVE))
    };
    match name {
        "visual.class_embedding" => to_deviation(0.3),
        "visual.positional_embedding" => to_deviation(0.5),
        "positional_embedding" => Some(waves(config.context, config.text_width, 0.3)),
        "token_embedding.weight" => {
            // The end of a text gathers: it begins with little of its own.
            let end = config.token_row(config.end_of_text());
            let mut values: Vec<f32> = to_deviation(0.3)?;
            let row = values.chunks_exact_mut(config.text_width).nth(end)?;
            row.iter_mut().for_each(|value| *value *= 0.1);
            Some(values)
        }
        _ if name.ends_with("attn.in_proj_weight") => {
            let third = values.len() / 3 * 2;
            let factor = |index: usize| if index < third { FLAT } else { GATHERED };
            Some(values.iter().enumerate().map(|(i, value)| value * factor(i)).collect())
        }
        _ if name.ends_with("attn.out_proj.weight") => {
            let width = tensor.shape().first().copied().unwrap_or(1) as f32;
            to_deviation(GATHERED * width.sqrt().recip())
        }
        _ => None,
    }
}

/// Positions as waves of many lengths (arXiv 1706.03762, 3.5), of which neighbours can be told by
/// linear maps.
fn waves(positions: usize, width: usize, deviation: f32) -> Vec<f32> {
    let wave = |position: usize, column: usize| {
        let rate = 10_000f32.powf(-((column / 2 * 2) as f32) / width.max(1) as f32);
        let angle = position as f32 * rate;
        let value = if column.is_multiple_of(2) { angle.sin() } else { angle.cos() };
        value * deviation * std::f32::consts::SQRT_2
    };
    (0..positions).flat_map(|p| (0..width).map(move |c| wave(p, c))).collect()
}
