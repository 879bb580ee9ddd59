//! How each precision stores constants and multiplies.
//!
//! Whatever the precision, the stream that blocks add to, normalisations and the last projection are
//! f32: sums over many blocks lose most by rounding, and squares of a stream's largest values exceed
//! what f16 holds. What lies between entering a branch and leaving it is of the precision:
//!
//! - f16: all of it. Softmax too: it subtracts the largest score first, so that nothing overflows, and
//!   runtimes sum it in f32.
//! - int8: products with constant matrices (arXiv 2208.07339 has the same scales, by row of the input
//!   and by column of the matrix, without its parts in f16). Each token has its own scale, so that an
//!   embedding does not depend on what else is in a batch.

use super::fold::Matrix;
use super::graph::{Element, Graph, Value};
use crate::manifest::Precision;

/// Largest step of a signed 8-bit number to both sides.
const STEPS: f32 = 127.0;
/// What stands for zero in an unsigned one.
const ZERO: u8 = 128;
/// A token whose values are all smaller is rounded to zero.
const SMALLEST: f32 = 1e-9;

/// How to compute at a precision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arithmetic(Precision);

/// The left side of products with constant matrices.
pub(super) enum Operand {
    /// As it is.
    Whole(Value),
    /// As whole numbers.
    Quantised {
        /// u8 `[…,inputs]`, shifted by [`ZERO`].
        steps: Value,
        /// The largest magnitude of each token, f32 `[…,1]`.
        largest: Value,
        /// [`ZERO`].
        zero: Value,
    },
}

impl Arithmetic {
    pub(super) fn new(precision: Precision) -> Self {
        Self(precision)
    }

    /// The same without whole numbers.
    pub(super) fn unquantised(self) -> Self {
        match self.0 {
            Precision::Int8 => Self(Precision::F32),
            precision => Self(precision),
        }
    }

    /// Whether products are of whole numbers.
    pub(super) fn is_quantised(self) -> bool {
        self.0 == Precision::Int8
    }

    /// From the stream, f32, to what a branch computes in.
    pub(super) fn enter(self, graph: &mut Graph, x: &Value) -> Value {
        match self.0 {
            Precision::F16 => graph.cast(x, Element::F16),
            Precision::F32 | Precision::Int8 => x.clone(),
        }
    }

    /// From a branch to the stream.
    pub(super) fn leave(self, graph: &mut Graph, x: &Value) -> Value {
        match self.0 {
            Precision::F16 => graph.cast(x, Element::F32),
            Precision::F32 | Precision::Int8 => x.clone(),
        }
    }

    /// A constant of a branch.
    pub(super) fn constant(
        self,
        graph: &mut Graph,
        name: &str,
        shape: &[usize],
        values: &[f32],
    ) -> Value {
        match self.0 {
            Precision::F16 => graph.halves(name, shape, values),
            Precision::F32 | Precision::Int8 => graph.floats(name, shape, values),
        }
    }

    /// Rows of the constant `table` [rows,width] by index, f32. A half is off by 5e-4 of a number at
    /// most, and the table of tokens is most of a text tower's file.
    pub(super) fn look_up(
        self,
        graph: &mut Graph,
        table: &[f32],
        shape: [usize; 2],
        indices: &Value,
    ) -> Value {
        if self.0 == Precision::F32 {
            let table = graph.floats("tokens", &shape, table);
            return graph.rows(&table, indices);
        }
        let table = graph.halves("tokens", &shape, table);
        let rows = graph.rows(&table, indices);
        graph.cast(&rows, Element::F32)
    }

    /// Makes `x` of a branch the left side of products; one serves several.
    pub(super) fn operand(self, graph: &mut Graph, x: &Value) -> Operand {
        if !self.is_quantised() {
            return Operand::Whole(x.clone());
        }
        let magnitudes = graph.abs(x);
        let largest = graph.largest_of_last(&magnitudes);
        let smallest = graph.scalar(SMALLEST);
        let largest = graph.max(&largest, &smallest);
        let most = graph.scalar(STEPS);
        let scale = graph.div(&most, &largest);
        let scaled = graph.mul(x, &scale);
        let (one, zero) = (graph.scalar(1.0), graph.byte("zero", ZERO));
        let steps = graph.quantise(&scaled, &one, &zero);
        Operand::Quantised { steps, largest, zero }
    }

    /// The product with a constant matrix.
    pub(super) fn multiply(
        self,
        graph: &mut Graph,
        name: &str,
        x: &Operand,
        matrix: &Matrix,
    ) -> Value {
        let shape = [matrix.inputs, matrix.outputs];
        match x {
            Operand::Whole(x) => {
                let weight = self.constant(graph, name, &shape, &matrix.weight);
                graph.matmul(x, &weight)
            }
            Operand::Quantised { steps, largest, zero } => {
                let (weight, scales) = quantise(matrix);
                let weight = graph.bytes(name, &shape, &weight);
                let scales = graph.floats(&format!("{name}.scale"), &[matrix.outputs], &scales);
                let product = graph.matmul_integer(steps, &weight, zero);
                let product = graph.cast(&product, Element::F32);
                let product = graph.mul(&product, largest);
                graph.mul(&product, &scales)
            }
        }
    }

    /// The product with a constant matrix, and its bias.
    pub(super) fn linear(
        self,
        graph: &mut Graph,
        name: &str,
        x: &Operand,
        (matrix, bias): (&Matrix, &[f32]),
    ) -> Value {
        let product = self.multiply(graph, name, x, matrix);
        let bias = self.constant(graph, &format!("{name}.bias"), &[matrix.outputs], bias);
        graph.add(&product, &bias)
    }
}

/// The weights in steps, and for each output what one step of a weight and one of an input, of which
/// the largest input has [`STEPS`], are worth.
fn quantise(matrix: &Matrix) -> (Vec<i8>, Vec<f32>) {
    let mut largest = vec![0f32; matrix.outputs];
    for row in matrix.weight.chunks_exact(matrix.outputs) {
        largest.iter_mut().zip(row).for_each(|(most, weight)| *most = most.max(weight.abs()));
    }
    let rows = matrix.weight.chunks_exact(matrix.outputs);
    let steps = rows.flat_map(|row| row.iter().zip(&largest)).map(|(weight, most)| {
        // A column of zeros has no scale, and needs none.
        if *most > 0.0 { (weight / most * STEPS).round() as i8 } else { 0 }
    });
    let steps = steps.collect();
    (steps, largest.iter().map(|most| most / (STEPS * STEPS)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_output_has_its_own_scale() {
        let weight = vec![1.0, 0.0, -0.004, -0.5, 0.0, 0.002];
        let (steps, scales) = quantise(&Matrix { inputs: 2, outputs: 3, weight });
        assert_eq!(steps, [127, 0, -127, -64, 0, 64]);
        for (scale, most) in scales.iter().zip([1.0, 0.0, 0.004]) {
            assert!((scale * STEPS * STEPS - most).abs() < 1e-6, "{scale}");
        }
    }
}
