//! One way through a tower, cut at its blocks, so that it can be computed again piece by piece.

use tch::Tensor;

use crate::error::{Error, Result};

/// What goes from one block to the next.
pub(super) type State = Vec<Tensor>;

/// A tower with its inputs.
pub(super) trait Pass {
    /// Blocks between beginning and end; the last block belongs to the end.
    fn blocks(&self) -> usize;
    /// What enters the first block.
    fn begin(&self) -> Result<State>;
    /// What leaves a block.
    fn block(&self, index: usize, state: &[Tensor]) -> Result<State>;
    /// Embeddings of unit length, `[N, embed]`, 32-bit.
    fn end(&self, state: &[Tensor]) -> Result<Tensor>;
}

/// The embeddings.
pub(super) fn forward(pass: &dyn Pass) -> Result<Tensor> {
    let mut state = pass.begin()?;
    for index in 0..pass.blocks() {
        state = pass.block(index, &state)?;
    }
    pass.end(&state)
}

/// Adds to every trained parameter's gradient what `gradient` `[N, embed]`, the gradient of the
/// embeddings, makes of it.
pub(super) fn backward(pass: &dyn Pass, gradient: &Tensor) -> Result<()> {
    pull(&[forward(pass)?], std::slice::from_ref(gradient))
}

/// As [`backward`], keeping only what enters each block and computing its inside again (activation
/// checkpointing, arXiv 1604.06174): one more forward pass for a fraction of the memory.
pub(super) fn backward_again(pass: &dyn Pass, gradient: &Tensor) -> Result<()> {
    let mut states = tch::no_grad(|| -> Result<Vec<State>> {
        let mut states = vec![pass.begin()?];
        for index in 0..pass.blocks() {
            let state = states.last().map_or(&[][..], Vec::as_slice);
            states.push(pass.block(index, state)?);
        }
        Ok(states)
    })?;
    let last = leaves(states.pop().unwrap_or_default())?;
    pull(&[pass.end(&last)?], std::slice::from_ref(gradient))?;
    let mut gradients = gradients_of(&last)?;
    for (index, state) in states.into_iter().enumerate().rev() {
        let state = leaves(state)?;
        pull(&pass.block(index, &state)?, &gradients)?;
        gradients = gradients_of(&state)?;
    }
    pull(&pass.begin()?, &gradients)
}

fn leaves(state: State) -> Result<State> {
    let leaf = |tensor: Tensor| Ok(tensor.f_detach()?.f_set_requires_grad(true)?);
    state.into_iter().map(leaf).collect()
}

/// The gradients that arrived at a state; zero where none did.
fn gradients_of(state: &[Tensor]) -> Result<State> {
    let gradient = |tensor: &Tensor| -> Result<Tensor> {
        let gradient = tensor.f_grad()?;
        Ok(if gradient.defined() { gradient } else { tensor.f_zeros_like()? })
    };
    state.iter().map(gradient).collect()
}

/// Sends gradients of `outputs` back through the graph that made them.
fn pull(outputs: &[Tensor], gradients: &[Tensor]) -> Result<()> {
    // The derivative of this sum with respect to each output is its gradient.
    let mut sum: Option<Tensor> = None;
    for (output, gradient) in outputs.iter().zip(gradients) {
        if !output.requires_grad() {
            continue;
        }
        let term = output.f_mul(&gradient.f_detach()?)?.f_sum(tch::Kind::Float)?;
        sum = Some(match sum {
            Some(sum) => sum.f_add(&term)?,
            None => term,
        });
    }
    match sum {
        Some(sum) => Ok(sum.f_backward()?),
        None if outputs.is_empty() => Err(Error::invalid("tower", "has no outputs")),
        None => Ok(()),
    }
}
