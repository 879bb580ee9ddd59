//! How another bundle's vision tower comes to the thread that looks.
//!
//! Texts and pictures change bundles together: the thread takes the waiting tower once the texts that it reads
//! with are of the tower's bundle, between two crops, and not before.

use std::sync::{Mutex, MutexGuard, PoisonError};

use spotter_models::Generation;

use super::Embedder;

/// A place for one tower that waits for its texts.
pub struct Handover(Mutex<State>);

struct State {
    serving: Generation,
    waiting: Option<Embedder>,
}

impl Handover {
    /// Nothing waits; this bundle looks.
    pub fn new(serving: Generation) -> Self {
        Self(Mutex::new(State { serving, waiting: None }))
    }

    /// Leaves a tower, in the place of one that waits.
    pub fn leave(&self, embedder: Embedder) {
        self.state().waiting = Some(embedder);
    }

    /// The bundle that looks now.
    pub fn serving(&self) -> Generation {
        self.state().serving
    }

    /// Takes the waiting tower where it is of this bundle, which looks from now on.
    pub fn take(&self, generation: Generation) -> Option<Embedder> {
        let mut state = self.state();
        let embedder = state.waiting.take_if(|waiting| waiting.generation() == generation)?;
        state.serving = generation;
        Some(embedder)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
