//! The algebra of the folding: what of a block does not depend on the input is computed here.
//!
//! Each rule is exact but for rounding. A normalisation's scale and shift move into the matrices
//! that read it. A key's bias adds the same number to all scores of a query, which softmax ignores.
//! Attention weights add up to one, so that a value's bias moves through to the projection.
//! `x * sigmoid(1.702 x)` is `silu(1.702 x) / 1.702`.

use super::block::{Affine, Block, Linear, normalised, wide};

/// CLIP's approximation of GELU.
const QUICK_GELU: f64 = 1.702;

/// A matrix with a row of weights for each input.
pub(super) struct Matrix {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) weight: Vec<f32>,
}

impl Matrix {
    /// The weights with a row for each output.
    pub(super) fn transposed(&self) -> Vec<f32> {
        let column = |output: usize| self.weight.iter().skip(output).step_by(self.outputs);
        (0..self.outputs).flat_map(column).copied().collect()
    }

    /// The weights as one matrix `[inputs, outputs / heads]` for each head.
    pub(super) fn by_head(&self, heads: usize) -> Vec<f32> {
        let head = self.outputs / heads;
        let rows = |number: usize| {
            self.weight
                .chunks_exact(self.outputs)
                .flat_map(move |row| &row[number * head..][..head])
        };
        (0..heads).flat_map(rows).copied().collect()
    }

    /// The weights of the first `count` inputs, and those of the others.
    pub(super) fn split_inputs(&self, count: usize) -> [Matrix; 2] {
        let (first, others) = self.weight.split_at(count * self.outputs);
        let part = |inputs, weight: &[f32]| Matrix {
            inputs,
            outputs: self.outputs,
            weight: weight.to_vec(),
        };
        [part(count, first), part(self.inputs - count, others)]
    }

    /// The product of a row and the matrix.
    fn apply(&self, row: &[f64]) -> Vec<f64> {
        let mut product = vec![0f64; self.outputs];
        for (value, weights) in row.iter().zip(self.weight.chunks_exact(self.outputs)) {
            for (sum, weight) in product.iter_mut().zip(weights) {
                *sum += value * f64::from(*weight);
            }
        }
        product
    }
}

/// What remains of a block.
///
/// With `n` for normalised, all matrices from the left: queries `n(x) query`, keys `n(x) key`,
/// values `n(x) value`; then `x += attended out`, `h = n(x) expand`, and
/// `x += [silu(h), relu(h)] contract`, the latter for the adapter's part of `h`.
pub(super) struct FoldedBlock {
    pub(super) width: usize,
    pub(super) heads: usize,
    /// Scaled by the square root of the head's width already.
    pub(super) query: Matrix,
    pub(super) query_bias: Vec<f32>,
    pub(super) key: Matrix,
    pub(super) value: Matrix,
    pub(super) out: Matrix,
    pub(super) out_bias: Vec<f32>,
    /// The MLP's outputs, then the adapter's.
    pub(super) expand: Matrix,
    pub(super) expand_bias: Vec<f32>,
    pub(super) contract: Matrix,
    pub(super) contract_bias: Vec<f32>,
    /// Outputs of `expand` that belong to the adapter; 0 where there is none.
    pub(super) bottleneck: usize,
}

/// Keys and values that are the same for every input, row by row.
#[derive(Default)]
pub(super) struct Prefix {
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

impl FoldedBlock {
    pub(super) fn new(block: &Block<'_>) -> Self {
        let width = block.width;
        let scale = 1.0 / (block.head_width() as f64).sqrt();
        let (query, query_bias) = fold(&block.queries(), Some(block.ln_1), scale);
        let (key, _) = fold(&block.keys(), Some(block.ln_1), 1.0);
        let (value, value_bias) = fold(&block.values(), Some(block.ln_1), 1.0);
        let (out, mut out_bias) = fold(&block.projection, None, 1.0);
        add(&mut out_bias, &out.apply(&value_bias));

        let (mut expand, mut expand_bias) = fold(&block.expansion, Some(block.ln_2), QUICK_GELU);
        let (mut contract, mut contract_bias) = fold(&block.contraction, None, 1.0);
        contract.weight.iter_mut().for_each(|w| *w = (f64::from(*w) / QUICK_GELU) as f32);
        let mut bottleneck = 0;
        if let Some(adapter) = &block.adapter {
            bottleneck = adapter.down.outputs;
            let (down, down_bias) = fold(&adapter.down, Some(adapter.ln), 1.0);
            let (up, up_bias) = fold(&adapter.up, None, f64::from(adapter.scale));
            expand = beside(&expand, &down);
            expand_bias.extend(down_bias);
            contract.inputs += up.inputs;
            contract.weight.extend(up.weight);
            add(&mut contract_bias, &up_bias);
        }
        Self {
            width,
            heads: block.heads,
            query,
            query_bias: narrow(&query_bias),
            key,
            value,
            out,
            out_bias: narrow(&out_bias),
            expand,
            expand_bias: narrow(&expand_bias),
            contract,
            contract_bias: narrow(&contract_bias),
            bottleneck,
        }
    }

    /// Keys and values of rows that do not depend on the input.
    pub(super) fn prefix(&self, rows: &[Vec<f64>]) -> Prefix {
        let mut prefix = Prefix::default();
        for row in rows {
            let row = normalised(row);
            prefix.keys.extend(narrow(&self.key.apply(&row)));
            prefix.values.extend(narrow(&self.value.apply(&row)));
        }
        prefix
    }

    /// Takes a row that attends to nothing but itself through the block.
    pub(super) fn advance_alone(&self, row: &mut [f64]) {
        add(row, &self.out.apply(&self.value.apply(&normalised(row))));
        add(row, &wide(&self.out_bias));
        let mut hidden = self.expand.apply(&normalised(row));
        add(&mut hidden, &wide(&self.expand_bias));
        let (mlp, adapter) = hidden.split_at_mut(self.expand.outputs - self.bottleneck);
        mlp.iter_mut().for_each(|h| *h /= 1.0 + (-*h).exp());
        adapter.iter_mut().for_each(|h| *h = h.max(0.0));
        add(row, &self.contract.apply(&hidden));
        add(row, &wide(&self.contract_bias));
    }
}

/// The matrix and bias that give `scale * linear(x)` from `x`, or from the normalised `x` where
/// the linear map reads it through `affine`.
fn fold(linear: &Linear<'_>, affine: Option<Affine<'_>>, scale: f64) -> (Matrix, Vec<f64>) {
    let Linear { inputs, outputs, .. } = *linear;
    let (gains, shifts) = match affine {
        Some(affine) => (wide(affine.weight), wide(affine.bias)),
        None => (vec![1.0; inputs], vec![0.0; inputs]),
    };
    let weight = linear.transposed(|input, value| (f64::from(value) * gains[input] * scale) as f32);
    let rows = linear.weight.chunks_exact(inputs).zip(linear.bias);
    let bias = rows.map(|(row, bias)| {
        let shift: f64 = shifts.iter().zip(row).map(|(shift, w)| shift * f64::from(*w)).sum();
        (shift + f64::from(*bias)) * scale
    });
    let bias = bias.collect();
    (Matrix { inputs, outputs, weight }, bias)
}

/// The matrix and bias of a projection `[inputs, outputs]` that reads a normalised row through
/// `affine`.
pub(super) fn fold_projection(projection: &[f32], affine: Affine<'_>) -> (Matrix, Vec<f32>) {
    let inputs = affine.weight.len();
    let outputs = projection.len() / inputs.max(1);
    let shifted = Matrix { inputs, outputs, weight: projection.to_vec() };
    let bias = narrow(&shifted.apply(&wide(affine.bias)));
    let mut weight = shifted.weight;
    for (row, gain) in weight.chunks_exact_mut(outputs.max(1)).zip(affine.weight) {
        row.iter_mut().for_each(|value| *value *= gain);
    }
    (Matrix { inputs, outputs, weight }, bias)
}

/// Two matrices of the same inputs as one with the outputs of both.
fn beside(left: &Matrix, right: &Matrix) -> Matrix {
    let rows = left.weight.chunks_exact(left.outputs).zip(right.weight.chunks_exact(right.outputs));
    let weight = rows.flat_map(|(left, right)| left.iter().chain(right).copied()).collect();
    Matrix { inputs: left.inputs, outputs: left.outputs + right.outputs, weight }
}

fn add(sum: &mut [f64], terms: &[f64]) {
    sum.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}

pub(super) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}
