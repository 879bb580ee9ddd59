//! EMBED: a crop to its place in the common space of texts and pictures.

mod handover;
mod queue;

use spotter_models::{
    Embedding, Generation, RgbView,
    bundle::Bundle,
    preprocess::Preprocessor,
    session::{TextTower, VisionTower},
};

pub use handover::Handover;
pub use queue::{Item, Queue};

use crate::{
    engine::Engine,
    error::{Error, Result},
};

/// The vision tower with its preprocessing. Owned by one thread.
pub struct Embedder {
    tower: VisionTower,
    preprocessor: Preprocessor,
    pixels: Vec<f32>,
}

impl Embedder {
    /// Opens the bundle's vision tower of the engine's precision.
    ///
    /// # Errors
    /// Where the bundle has none of it, the tower is broken or the provider cannot run here.
    pub fn open(engine: &Engine, bundle: &Bundle) -> Result<Self> {
        let Engine { runtime, options, precision } = engine;
        Self::new(VisionTower::open(runtime, bundle, *precision, options)?)
    }

    /// Embeds with this tower.
    ///
    /// # Errors
    /// Where its pictures cannot be made.
    pub fn new(tower: VisionTower) -> Result<Self> {
        let preprocessor = Preprocessor::new(*tower.preprocess())?;
        let pixels = vec![0.0; tower.preprocess().len()];
        Ok(Self { tower, preprocessor, pixels })
    }

    /// The bundle.
    pub fn generation(&self) -> Generation {
        self.tower.generation()
    }

    /// Embeds one crop of a person.
    ///
    /// # Errors
    /// Where the tower fails or gives no direction.
    pub fn embed(&mut self, crop: RgbView<'_>) -> Result<Embedding> {
        self.prepare(crop)?;
        self.run()
    }

    /// The first half of [`Embedder::embed`]: the crop to the tower's input. Apart, so that its cost
    /// is told apart.
    ///
    /// # Errors
    /// Where the crop cannot be resized.
    pub fn prepare(&mut self, crop: RgbView<'_>) -> Result<()> {
        Ok(self.preprocessor.run(crop, &mut self.pixels)?)
    }

    /// The second half: the tower on what was prepared last.
    ///
    /// # Errors
    /// Where the tower fails or gives no direction.
    pub fn run(&mut self) -> Result<Embedding> {
        let mut embeddings = self.tower.embed(&self.pixels, 1)?;
        embeddings.pop().ok_or_else(|| Error::internal("vision tower", "gave no embedding"))
    }
}

/// Opens the bundle's text tower of the engine's precision.
///
/// # Errors
/// As [`Embedder::open`].
pub fn text_tower(engine: &Engine, bundle: &Bundle) -> Result<TextTower> {
    Ok(TextTower::open(&engine.runtime, bundle, engine.precision, &engine.options)?)
}
