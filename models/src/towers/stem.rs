//! From pixels to patches: the convolutional stem, where a model has one, and the projection.

use super::arithmetic::Arithmetic;
use super::graph::{Graph, Kernel, Value};
use super::layout::stem_name;
use super::{Config, Weights};
use crate::Result;

/// The patches of `pixels` f32 [N,3,height,width] before their positions, row by row:
/// f32 [N,patches,width].
pub(super) fn patches(
    graph: &mut Graph,
    arithmetic: Arithmetic,
    weights: &Weights,
    config: &Config,
    pixels: &Value,
) -> Result<Value> {
    let pixels = arithmetic.enter(graph, pixels);
    let mut stem = Stem { graph, arithmetic, weights };
    let mut x = pixels;
    let mut inputs = 3;
    for (stage, &outputs) in config.stem.iter().enumerate() {
        stem.graph.enter(format!("stem.{stage}"));
        x = stem.stage(stage, &x, inputs, outputs)?;
        inputs = outputs;
    }
    let (width, (channels, side)) = (config.vision_width, config.patch_inputs());
    let shape = [width, channels, side, side];
    let kernel = weights.get("visual.conv1.weight", &shape)?;
    let kernel = arithmetic.constant(graph, "conv1", &shape, kernel);
    let patches = graph.convolve(&x, &kernel, None, Kernel { side, stride: side, padding: 0 });
    let patches = graph.reshape(&patches, &[0, width as i64, -1]);
    let patches = graph.transpose(&patches, &[0, 2, 1]);
    Ok(arithmetic.leave(graph, &patches))
}

/// A stem under construction.
struct Stem<'a> {
    graph: &'a mut Graph,
    arithmetic: Arithmetic,
    weights: &'a Weights,
}

impl Stem<'_> {
    /// Halves height and width.
    fn stage(&mut self, stage: usize, x: &Value, inputs: usize, outputs: usize) -> Result<Value> {
        let halving = |side| Kernel { side, stride: 2, padding: side / 2 };
        if stage == 0 {
            let x = self.convolve(&stem_name(stage, "conv"), x, [outputs, inputs], halving(5))?;
            return Ok(self.graph.relu(&x));
        }
        let skip = self.convolve(&stem_name(stage, "skip"), x, [outputs, inputs], halving(1))?;
        let x = self.convolve(&stem_name(stage, "conv_1"), x, [outputs, inputs], halving(3))?;
        let x = self.graph.relu(&x);
        let same = Kernel { side: 3, stride: 1, padding: 1 };
        let x = self.convolve(&stem_name(stage, "conv_2"), &x, [outputs, outputs], same)?;
        let sum = self.graph.add(&x, &skip);
        Ok(self.graph.relu(&sum))
    }

    fn convolve(
        &mut self,
        name: &str,
        x: &Value,
        [outputs, inputs]: [usize; 2],
        kernel: Kernel,
    ) -> Result<Value> {
        let shape = [outputs, inputs, kernel.side, kernel.side];
        let weight = self.weights.get(&format!("{name}.weight"), &shape)?;
        let bias = self.weights.get(&format!("{name}.bias"), &[outputs])?;
        let weight = self.arithmetic.constant(self.graph, "weight", &shape, weight);
        let bias = self.arithmetic.constant(self.graph, "bias", &[outputs], bias);
        Ok(self.graph.convolve(x, &weight, Some(&bias), kernel))
    }
}
