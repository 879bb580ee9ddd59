//! A convolutional stem in front of the vision blocks (residual stages, arXiv 1512.03385).

use spotter_models::towers::Config;
use tch::Tensor;

use super::{Parameters, kind::like, norms::BatchNorm};
use crate::error::Result;

struct Convolution {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
    /// While a backbone is trained from nothing; later it is part of weight and bias.
    norm: Option<BatchNorm>,
}

impl Convolution {
    fn new(parameters: &Parameters, name: &str, stride: i64, padding: i64) -> Result<Self> {
        Ok(Self {
            weight: parameters.get(&format!("{name}.weight"))?,
            bias: parameters.get(&format!("{name}.bias"))?,
            stride,
            padding,
            norm: BatchNorm::of(parameters, name)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        let weight = like(&self.weight, x)?;
        if let Some(norm) = &self.norm {
            // Its shift takes the place of the bias.
            let x = x.f_conv2d(&weight, None::<Tensor>, stride, padding, [1, 1], 1)?;
            return norm.forward(&x);
        }
        let bias = like(&self.bias, x)?;
        Ok(x.f_conv2d(&weight, Some(&bias), stride, padding, [1, 1], 1)?)
    }
}

enum Stage {
    First(Convolution),
    Residual { conv_1: Convolution, conv_2: Convolution, skip: Convolution },
}

impl Stage {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Stage::First(conv) => Ok(conv.forward(x)?.f_relu()?),
            Stage::Residual { conv_1, conv_2, skip } => {
                let inner = conv_2.forward(&conv_1.forward(x)?.f_relu()?)?;
                Ok(inner.f_add(&skip.forward(x)?)?.f_relu()?)
            }
        }
    }
}

/// The stages, each of which halves height and width.
pub(super) struct Stem {
    stages: Vec<Stage>,
}

impl Stem {
    pub(super) fn new(config: &Config, parameters: &Parameters) -> Result<Self> {
        let stage = |index: usize| -> Result<Stage> {
            let part = |part: &str, stride, padding| {
                let name = format!("visual.stem.{index}.{part}");
                Convolution::new(parameters, &name, stride, padding)
            };
            Ok(match index {
                0 => Stage::First(part("conv", 2, 2)?),
                _ => Stage::Residual {
                    conv_1: part("conv_1", 2, 1)?,
                    conv_2: part("conv_2", 1, 1)?,
                    skip: part("skip", 2, 0)?,
                },
            })
        };
        Ok(Self { stages: (0..config.stem.len()).map(stage).collect::<Result<_>>()? })
    }

    /// `[N, 3, height, width]` to the last stage's channels.
    pub(super) fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let mut x = pixels.shallow_clone();
        for stage in &self.stages {
            x = stage.forward(&x)?;
        }
        Ok(x)
    }
}
