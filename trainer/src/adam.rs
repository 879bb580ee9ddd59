//! Adam over tensors that we hold, because a checkpoint must hold its moments (tch's own optimiser
//! cannot give them away).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    error::{Error, Result},
    net::Parameters,
};

/// How steps are made (`cskt.md` 1.5).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Before the schedule's factor; 3e-4 in the paper.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment. Large on purpose: for small gradients a step is
    /// proportional to them.
    pub epsilon: f64,
    /// L2 decay; not for biases.
    pub weight_decay: f64,
    /// Whether decay shrinks the weights beside the step (AdamW, arXiv 1711.05101) instead of being
    /// added to the gradient.
    pub decoupled: bool,
    /// Factor on the learning rate of biases.
    pub bias_factor: f64,
    /// Longest gradient over all parameters; a longer one is shortened to it. 0: any length.
    pub clip: f64,
}

impl Default for Settings {
    /// The paper's.
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-3,
            weight_decay: 4e-5,
            decoupled: false,
            bias_factor: 2.0,
            clip: 0.0,
        }
    }
}

struct Moments {
    first: Tensor,
    second: Tensor,
}

/// The optimiser's state.
pub struct Adam {
    settings: Settings,
    moments: BTreeMap<String, Moments>,
    steps: i32,
}

impl Adam {
    /// Before the first step.
    pub fn new(settings: Settings) -> Self {
        Self { settings, moments: BTreeMap::new(), steps: 0 }
    }

    /// The length of all gradients together, after which they are no longer than
    /// [`Settings::clip`].
    ///
    /// # Errors
    /// [`crate::Error::Torch`] where memory runs out.
    pub fn clip(&self, parameters: &Parameters) -> Result<f64> {
        let _no_grad = tch::no_grad_guard();
        let mut squares = 0.0;
        let gradients = || parameters.trained().map(|(_, parameter)| parameter.f_grad());
        for gradient in gradients() {
            let gradient = gradient?;
            if gradient.defined() {
                squares += gradient.f_square()?.f_sum(Kind::Float)?.f_double_value(&[])?;
            }
        }
        let length = squares.sqrt();
        if self.settings.clip > 0.0 && length > self.settings.clip {
            for gradient in gradients() {
                let mut gradient = gradient?;
                if gradient.defined() {
                    let _ = gradient.f_mul_scalar_(self.settings.clip / length)?;
                }
            }
        }
        Ok(length)
    }

    /// Changes all trained parameters by their gradients, and clears those; `factor` is the schedule's.
    /// A parameter without a gradient stays.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] where memory runs out.
    pub fn step(&mut self, parameters: &Parameters, factor: f64) -> Result<()> {
        self.steps += 1;
        let _no_grad = tch::no_grad_guard();
        for (name, parameter) in parameters.trained() {
            let mut gradient = parameter.f_grad()?;
            if !gradient.defined() {
                continue;
            }
            if !self.moments.contains_key(name) {
                let zero = || parameter.f_zeros_like();
                let moments = Moments { first: zero()?, second: zero()? };
                self.moments.insert(name.to_owned(), moments);
            }
            self.change(name, parameter, &gradient, factor)?;
            let _ = gradient.f_zero_()?;
        }
        Ok(())
    }

    fn change(
        &mut self,
        name: &str,
        parameter: &Tensor,
        gradient: &Tensor,
        factor: f64,
    ) -> Result<()> {
        let Settings { learning_rate, beta_1, beta_2, epsilon, .. } = self.settings;
        let (unbias_1, unbias_2) = (1.0 - beta_1.powi(self.steps), 1.0 - beta_2.powi(self.steps));
        let is_bias = name.contains("bias");
        let rate = factor * learning_rate * if is_bias { self.settings.bias_factor } else { 1.0 };
        let decay = if is_bias { 0.0 } else { self.settings.weight_decay };
        let mut parameter = parameter.shallow_clone();
        let mut direction = gradient.shallow_clone();
        if decay > 0.0 && self.settings.decoupled {
            let _ = parameter.f_mul_scalar_(1.0 - rate * decay)?;
        } else if decay > 0.0 {
            direction = direction.f_add(&parameter.f_mul_scalar(decay)?)?;
        }
        let Some(Moments { first, second }) = self.moments.get_mut(name) else { return Ok(()) };
        let _ = first.f_mul_scalar_(beta_1)?.f_add_(&direction.f_mul_scalar(1.0 - beta_1)?)?;
        let square = direction.f_square()?.f_mul_scalar(1.0 - beta_2)?;
        let _ = second.f_mul_scalar_(beta_2)?.f_add_(&square)?;
        let root = second.f_sqrt()?.f_div_scalar(unbias_2.sqrt())?.f_add_scalar(epsilon)?;
        let change = first.f_div(&root)?.f_mul_scalar(rate / unbias_1)?;
        let _ = parameter.f_sub_(&change)?;
        Ok(())
    }

    /// How many steps were made.
    pub fn steps(&self) -> i32 {
        self.steps
    }

    /// The moments, for a checkpoint: `first.NAME` and `second.NAME`.
    pub fn state(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.moments.iter().flat_map(|(name, moments)| {
            [(format!("first.{name}"), &moments.first), (format!("second.{name}"), &moments.second)]
        })
    }

    /// Goes on from a checkpoint; `find` gives the moments by the names of [`Adam::state`].
    ///
    /// # Errors
    /// [`Error::Invalid`] where one is missing or of another shape.
    pub fn restore(
        &mut self,
        parameters: &Parameters,
        steps: i32,
        mut find: impl FnMut(&str) -> Option<Tensor>,
    ) -> Result<()> {
        self.steps = steps;
        self.moments.clear();
        for (name, parameter) in parameters.trained() {
            let mut moment = |kind: &str| -> Result<Option<Tensor>> {
                let name = format!("{kind}.{name}");
                let Some(moment) = find(&name) else { return Ok(None) };
                if moment.size() != parameter.size() {
                    return Err(Error::invalid(name, "has another shape than its parameter"));
                }
                Ok(Some(moment))
            };
            match (moment("first")?, moment("second")?) {
                (Some(first), Some(second)) => {
                    self.moments.insert(name.to_owned(), Moments { first, second });
                }
                // No step has touched it yet.
                (None, None) => {}
                _ => return Err(Error::invalid(name, "has one moment of two in the checkpoint")),
            }
        }
        Ok(())
    }
}
