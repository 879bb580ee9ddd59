//! LENS: a picture of a person to its place among the tracks, for who asks by a picture.
//!
//! Pictures are asked by seldom, so the models are opened when one comes and closed after: the memory is the
//! cameras' the rest of the time.

use std::sync::Arc;

use spotter_models::{Embedding, Rgb, bundle::Bundle};

use crate::{
    crop,
    detect::{Detection, Detector},
    embed::Embedder,
    engine::Engine,
    error::Result,
    frame::Pixels,
};

/// Boxes from here on count as persons; the same as where a track begins.
const PERSON_SCORE: f32 = 0.45;

/// Somebody in a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Portrayed {
    /// The direction of the crop.
    pub embedding: Embedding,
    /// How many persons were found in the picture. Of several it is the largest; of none it is the whole
    /// picture.
    pub persons: usize,
}

/// The vision tower and a detector, opened when needed.
pub trait Lens: Send {
    /// Embeds the largest person of a picture, and the whole picture where nobody is found.
    ///
    /// # Errors
    /// Where models cannot be opened or fail.
    fn portray(&mut self, picture: &Rgb) -> Result<Portrayed>;

    /// Embeds a crop of a person as it is.
    ///
    /// # Errors
    /// As [`Lens::portray`].
    fn embed(&mut self, crop: &Rgb) -> Result<Embedding>;

    /// Closes what was opened.
    fn close(&mut self);
}

/// The daemon's own.
pub struct ModelLens {
    engine: Engine,
    bundle: Arc<Bundle>,
    detector: String,
    embedder: Option<Embedder>,
    finder: Option<Box<dyn Detector>>,
}

impl ModelLens {
    /// With this bundle's tower and this detector; opens nothing yet.
    pub fn new(engine: Engine, bundle: Arc<Bundle>, detector: String) -> Self {
        Self { engine, bundle, detector, embedder: None, finder: None }
    }
}

impl Lens for ModelLens {
    fn portray(&mut self, picture: &Rgb) -> Result<Portrayed> {
        let finder = match &mut self.finder {
            Some(finder) => finder,
            None => self.finder.insert(self.engine.detector(&self.detector)?),
        };
        let (width, height) = (picture.width(), picture.height());
        let mut persons = finder.detect(picture, width, height)?.detections;
        persons.retain(|person| person.score >= PERSON_SCORE);
        let rect = largest(&persons, (width, height))
            .and_then(|person| crop::rectangle(&person.bbox, width, height));
        let embedding = match rect {
            Some(rect) => self.embed(&picture.region(rect)?)?,
            None => self.embed(picture)?,
        };
        Ok(Portrayed { embedding, persons: persons.len() })
    }

    fn embed(&mut self, crop: &Rgb) -> Result<Embedding> {
        let embedder = match &mut self.embedder {
            Some(embedder) => embedder,
            None => self.embedder.insert(Embedder::open(&self.engine, &self.bundle)?),
        };
        embedder.embed(crop.view())
    }

    fn close(&mut self) {
        (self.embedder, self.finder) = (None, None);
    }
}

/// The person of whom most is in a picture of this size.
fn largest(persons: &[Detection], (width, height): (u32, u32)) -> Option<&Detection> {
    let area = |person: &Detection| {
        let inside = person.bbox.clipped(width as f32, height as f32);
        inside.map_or(0.0, |inside| inside.area())
    };
    persons.iter().max_by(|a, b| area(a).total_cmp(&area(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::BBox;

    #[test]
    fn the_largest_is_the_one_of_whom_most_is_in_the_picture() {
        let person =
            |x1, y1, x2, y2| Detection { bbox: BBox::new(x1, y1, x2, y2).unwrap(), score: 0.9 };
        let near = person(10.0, 10.0, 60.0, 190.0);
        let far = person(70.0, 10.0, 90.0, 60.0);
        let outside = person(95.0, 0.0, 400.0, 200.0);
        assert_eq!(largest(&[far, near, outside], (100, 200)), Some(&near));
        assert_eq!(largest(&[], (100, 200)), None);
    }
}
