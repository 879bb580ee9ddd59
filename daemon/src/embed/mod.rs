//! EMBED: a crop to its place in the common space of texts and pictures.

mod queue;

use spotter_models::{
    Embedding, RgbView,
    bundle::Bundle,
    manifest::Precision,
    preprocess::Preprocessor,
    session::{Runtime, SessionOptions, TextTower, VisionTower},
};

pub use queue::{Item, Queue};

use crate::error::{Error, Result};

/// The vision tower with its preprocessing. Owned by one thread.
pub struct Embedder {
    tower: VisionTower,
    preprocessor: Preprocessor,
    pixels: Vec<f32>,
}

impl Embedder {
    /// Opens the bundle's vision tower.
    ///
    /// # Errors
    /// Where the tower is broken or the provider cannot run here.
    pub fn open(runtime: &Runtime, bundle: &Bundle, options: &SessionOptions) -> Result<Self> {
        let tower = VisionTower::open(runtime, bundle, Precision::F32, options)?;
        let preprocessor = Preprocessor::new(*tower.preprocess())?;
        let pixels = vec![0.0; tower.preprocess().len()];
        Ok(Self { tower, preprocessor, pixels })
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

/// Opens the bundle's text tower.
///
/// # Errors
/// As [`Embedder::open`].
pub fn text_tower(
    runtime: &Runtime,
    bundle: &Bundle,
    options: &SessionOptions,
) -> Result<TextTower> {
    Ok(TextTower::open(runtime, bundle, Precision::F32, options)?)
}
