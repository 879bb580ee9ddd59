//! DEIMv2 (and its kin of the DETR family): decoded boxes in pixels of the source, one per person.
//!
//! Fed with the whole frame squeezed to a square, RGB divided by 255, and with the frame's size, by
//! which the model scales its boxes. Gives `labels` [1,n], `boxes` [1,n,4] and `scores` [1,n]; the
//! model was trained to give one box a person, so nothing is suppressed.

use std::path::Path;

use ort::{
    session::{Session, SessionOutputs},
    value::{TensorElementType, TensorRef},
};

use super::{
    Detector, Found, Layout, Sieve,
    planes::{self, Order},
    shape_of, side, try_once, unexpected,
};
use crate::{error::Result, frame::Pixels};

/// Label of a person in the model's list of COCO classes.
const PERSON: i64 = 0;

const IMAGES: &str = "images";
const SIZES: &str = "orig_target_sizes";
const LABELS: &str = "labels";
const BOXES: &str = "boxes";
const SCORES: &str = "scores";

/// An open DEIMv2 model.
pub struct Deimv2 {
    session: Session,
    name: String,
    side: u32,
    planes: Vec<f32>,
}

impl Deimv2 {
    /// The side of the square input, where the session is a model of this layout.
    pub(super) fn fits(session: &Session) -> Option<u32> {
        let image = shape_of(session.inputs(), IMAGES, TensorElementType::Float32)?;
        let sizes = shape_of(session.inputs(), SIZES, TensorElementType::Int64)?;
        let labels = shape_of(session.outputs(), LABELS, TensorElementType::Int64)?;
        let boxes = shape_of(session.outputs(), BOXES, TensorElementType::Float32)?;
        let scores = shape_of(session.outputs(), SCORES, TensorElementType::Float32)?;
        let &[batch, 3, height, width] = image else { return None };
        let ranks = sizes.len() == 2 && labels.len() == 2 && boxes.len() == 3 && scores.len() == 2;
        (batch <= 1 && height == width && ranks && session.inputs().len() == 2)
            .then(|| side(width))?
    }

    /// Takes a session that fits and runs it once.
    ///
    /// # Errors
    /// Where the model cannot run.
    pub(super) fn new(session: Session, name: &Path, side: u32) -> Result<Self> {
        let planes = vec![0.0; 3 * side as usize * side as usize];
        let mut detector = Self { session, name: name.display().to_string(), side, planes };
        try_once(&mut detector, name)?;
        Ok(detector)
    }
}

impl Detector for Deimv2 {
    fn detect(&mut self, pixels: &dyn Pixels, width: u32, height: u32) -> Result<Found> {
        let Self { session, name, side, planes } = self;
        let picture = pixels.scaled(*side, *side)?;
        planes::write(&picture, Order::Rgb, 255.0, *side as usize, planes);
        let size = [i64::from(width), i64::from(height)];
        let shape = [1, 3, i64::from(*side), i64::from(*side)];
        let images = TensorRef::from_array_view((shape, planes.as_slice()))
            .map_err(|error| unexpected(name, error))?;
        let sizes = TensorRef::from_array_view(([1i64, 2], size.as_slice()))
            .map_err(|error| unexpected(name, error))?;
        let outputs = session
            .run(ort::inputs![IMAGES => images, SIZES => sizes])
            .map_err(|error| unexpected(name, error))?;
        read(&outputs, name)
    }

    fn layout(&self) -> Layout {
        Layout::Deimv2
    }

    fn input_size(&self) -> (u32, u32) {
        (self.side, self.side)
    }
}

fn read(outputs: &SessionOutputs<'_>, name: &str) -> Result<Found> {
    let output = |key: &str| {
        outputs.get(key).ok_or_else(|| unexpected(name, format!("gave no output {key}")))
    };
    let wrong = |error: ort::Error| unexpected(name, error);
    let (_, labels) = output(LABELS)?.try_extract_tensor::<i64>().map_err(wrong)?;
    let (_, boxes) = output(BOXES)?.try_extract_tensor::<f32>().map_err(wrong)?;
    let (_, scores) = output(SCORES)?.try_extract_tensor::<f32>().map_err(wrong)?;
    if labels.len() != scores.len() || boxes.len() != scores.len() * 4 {
        return Err(unexpected(
            name,
            format!(
                "gave {} labels, {} corners and {} scores, which do not belong together",
                labels.len(),
                boxes.len(),
                scores.len()
            ),
        ));
    }
    Ok(decode(labels, boxes, scores))
}

/// Picks the persons out of the model's three outputs: `labels` \[n\], `boxes` \[n * 4\] as x1 y1
/// x2 y2 in pixels of the frame, `scores` \[n\]. Never fails; a list that is shorter ends all.
pub fn decode(labels: &[i64], boxes: &[f32], scores: &[f32]) -> Found {
    let mut sieve = Sieve::new();
    let (corners, _) = boxes.as_chunks::<4>();
    for ((&label, &score), &corners) in labels.iter().zip(scores).zip(corners) {
        if label == PERSON && sieve.passes(score) {
            sieve.take(corners, score);
        }
    }
    sieve.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_persons_and_only_boxes() {
        let boxes =
            [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 9.0, 9.0], [4.0, 4.0, 4.0, 8.0], [f32::NAN; 4]];
        let found = decode(&[0, 16, 0, 0, 0], boxes.as_flattened(), &[0.4, 0.9, 0.9, 0.9, 0.9]);
        assert_eq!(found.detections.len(), 1);
        assert_eq!(found.detections[0].bbox.y2(), 4.0);
        assert_eq!((found.dropped.no_area, found.dropped.not_finite), (1, 1));
    }
}
