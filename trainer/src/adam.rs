//! Adam over tensors that we hold, because a checkpoint must hold its moments (tch's own optimiser
//! cannot give them away).

use std::collections::BTreeMap;

use tch::Tensor;

use crate::{error::Result, net::Parameters};

/// How steps are made (`cskt.md` 1.5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment. Large on purpose: for small gradients a step is
    /// proportional to them.
    pub epsilon: f64,
    /// L2 decay, added to the gradient; not for biases.
    pub weight_decay: f64,
    /// Factor on the learning rate of biases.
    pub bias_factor: f64,
}

impl Default for Settings {
    /// The paper's.
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-3, weight_decay: 4e-5, bias_factor: 2.0 }
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

    /// Changes all trained parameters by their gradients, and clears those. A parameter without a
    /// gradient stays.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] where memory runs out.
    pub fn step(&mut self, parameters: &Parameters, learning_rate: f64) -> Result<()> {
        self.steps += 1;
        let Settings { beta_1, beta_2, epsilon, weight_decay, bias_factor } = self.settings;
        let (unbias_1, unbias_2) = (1.0 - beta_1.powi(self.steps), 1.0 - beta_2.powi(self.steps));
        let _no_grad = tch::no_grad_guard();
        for (name, parameter) in parameters.trained() {
            let mut gradient = parameter.f_grad()?;
            if !gradient.defined() {
                continue;
            }
            let is_bias = name.contains("bias");
            let rate = if is_bias { learning_rate * bias_factor } else { learning_rate };
            let decay = if is_bias { 0.0 } else { weight_decay };
            let direction = gradient.f_add(&parameter.f_mul_scalar(decay)?)?;
            if !self.moments.contains_key(name) {
                let zero = || parameter.f_zeros_like();
                let moments = Moments { first: zero()?, second: zero()? };
                self.moments.insert(name.to_owned(), moments);
            }
            let Some(Moments { first, second }) = self.moments.get_mut(name) else { continue };
            let _ = first.f_mul_scalar_(beta_1)?.f_add_(&direction.f_mul_scalar(1.0 - beta_1)?)?;
            let square = direction.f_square()?.f_mul_scalar(1.0 - beta_2)?;
            let _ = second.f_mul_scalar_(beta_2)?.f_add_(&square)?;
            let root = second.f_sqrt()?.f_div_scalar(unbias_2.sqrt())?.f_add_scalar(epsilon)?;
            let change = first.f_div(&root)?.f_mul_scalar(rate / unbias_1)?;
            let _ = parameter.shallow_clone().f_sub_(&change)?;
            let _ = gradient.f_zero_()?;
        }
        Ok(())
    }
}
