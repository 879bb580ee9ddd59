//! Finds persons in a frame: a model in ONNX Runtime and the rules of its output layout.
//!
//! A detector says where persons are and how sure it is, nothing more: which of the boxes is
//! believed is decided by [`crate::track`]. What a model writes is never trusted: boxes that are
//! none are left out and counted. The detection stage opens one detector and calls it for every
//! frame it takes.

use std::path::Path;

use ort::value::{Outlet, TensorElementType};
use serde::Serialize;
use spotter_models::session::{Runtime, SessionOptions};

use crate::{
    error::{Error, Result},
    frame::Pixels,
    geometry::BBox,
};

pub mod deimv2;
mod picture;
pub mod planes;
pub mod yolox;

/// Boxes below this score are left out: the lowest that the tracker's second association can use.
/// Below it most boxes are background (ByteTrack, section 3, uses the same value).
pub const SCORE_FLOOR: f32 = 0.1;

/// Most boxes of one frame; the weakest beyond it are left out. DEIMv2 itself gives at most 300.
pub const MAX_DETECTIONS: usize = 300;

/// Sides of a model's input that are believed; others come from a broken file.
const INPUT_SIDES: std::ops::RangeInclusive<i64> = 32..=2048;

/// Boxes narrower or lower show nobody; a model that writes them writes dirt. Also keeps areas far
/// from the smallest floats, so that ratios of them are numbers.
const MIN_SIDE_PX: f32 = 1.0;

/// One person as the detector sees it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Detection {
    /// Where, in pixels of the frame; may reach beyond its edge.
    pub bbox: BBox,
    /// How sure the detector is, [`SCORE_FLOOR`] to 1.
    pub score: f32,
}

/// What one frame gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Persons, the surest first, at most [`MAX_DETECTIONS`].
    pub detections: Vec<Detection>,
    /// What the model wrote and no detector should.
    pub dropped: Dropped,
}

/// Outputs of a model that are no detections, by cause. All zero with a sound model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// A score that is NaN or not within 0 to 1.
    pub bad_score: u32,
    /// A box with a NaN, infinite or absurdly large corner.
    pub not_finite: u32,
    /// A box whose corners enclose nothing, or less than a pixel.
    pub no_area: u32,
    /// Good boxes beyond [`MAX_DETECTIONS`].
    pub too_many: u32,
}

impl Dropped {
    /// All of them, as pairs of cause and count: labels and values of a metric.
    pub fn by_cause(&self) -> [(&'static str, u32); 4] {
        [
            ("bad_score", self.bad_score),
            ("not_finite", self.not_finite),
            ("no_area", self.no_area),
            ("too_many", self.too_many),
        ]
    }
}

/// How a model is fed and what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Decoded boxes without a need for suppression: [`deimv2`].
    Deimv2,
    /// Raw grid cells, which overlap: [`yolox`].
    Yolox,
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Layout::Deimv2 => "deimv2",
            Layout::Yolox => "yolox",
        })
    }
}

/// A model that finds persons. Owned by one thread, which calls it frame by frame.
pub trait Detector: Send {
    /// Finds the persons of a frame of `width` x `height` pixels.
    ///
    /// # Errors
    /// Where the pixels cannot be had, or the model fails or writes tensors of another shape than
    /// at the start. The detector can be used again.
    fn detect(&mut self, pixels: &dyn Pixels, width: u32, height: u32) -> Result<Found>;

    /// The model's layout.
    fn layout(&self) -> Layout;

    /// What the model takes in pixels: (width, height).
    fn input_size(&self) -> (u32, u32);
}

/// Opens a detector from the bytes of its file. The layout is told by the model's inputs and
/// outputs; `name` is what errors call it.
///
/// # Errors
/// Where the bytes are no model, or a model of something else, or the provider cannot run here; the
/// message names the file.
pub fn open(
    runtime: &Runtime,
    name: &Path,
    bytes: &[u8],
    options: &SessionOptions,
) -> Result<Box<dyn Detector>> {
    let session = runtime.open(name, bytes, options)?;
    if let Some(side) = deimv2::Deimv2::fits(&session) {
        return Ok(Box::new(deimv2::Deimv2::new(session, name, side)?));
    }
    if let Some((width, height)) = yolox::Yolox::fits(&session) {
        return Ok(Box::new(yolox::Yolox::new(session, name, width, height)?));
    }
    Err(spotter_models::Error::mismatch(
        name.display().to_string(),
        format!(
            "is no person detector that spotterd knows; it takes {} and gives {}; known are DEIMv2 \
             (images f32 [n,3,S,S], orig_target_sizes i64 [n,2] -> labels, boxes, scores) and \
             undecoded YOLOX (f32 [1,3,H,W] -> f32 [1,cells,85]), each with a fixed size",
            outlets(session.inputs()),
            outlets(session.outputs())
        ),
    )
    .into())
}

/// `name type shape` of each input or output, for a message.
fn outlets(outlets: &[Outlet]) -> String {
    let one = |outlet: &Outlet| match (outlet.dtype().tensor_type(), outlet.dtype().tensor_shape())
    {
        (Some(element), Some(shape)) => format!("{} {element} {shape}", outlet.name()),
        _ => format!("{} (no tensor)", outlet.name()),
    };
    match outlets {
        [] => "nothing".into(),
        some => some.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// The shape of a tensor of this name and type among inputs or outputs.
fn shape_of<'a>(
    outlets: &'a [Outlet],
    name: &str,
    element: TensorElementType,
) -> Option<&'a [i64]> {
    let outlet = outlets.iter().find(|outlet| outlet.name() == name)?;
    (outlet.dtype().tensor_type() == Some(element))
        .then(|| outlet.dtype().tensor_shape())?
        .map(|s| &**s)
}

/// The side of an input, where the model fixes one that can be true.
fn side(dimension: i64) -> Option<u32> {
    INPUT_SIDES.contains(&dimension).then(|| u32::try_from(dimension).ok())?
}

/// Runs a detector once on grey: what cannot run at all is found at the start, not at the first
/// frame.
fn try_once(detector: &mut dyn Detector, name: &Path) -> Result<()> {
    let (width, height) = detector.input_size();
    let grey = vec![114; width as usize * height as usize * 3];
    let picture = spotter_models::Rgb::new(width, height, grey)?;
    detector.detect(&picture, width, height).map(|_| ()).map_err(|error| {
        spotter_models::Error::corrupt(
            name,
            format!("cannot find persons in a test picture: {error}"),
        )
        .into()
    })
}

/// Collects what a model writes, leaving out what is no detection.
struct Sieve {
    found: Found,
}

impl Sieve {
    fn new() -> Self {
        Self { found: Found::default() }
    }

    /// Whether a score is worth looking at its box; counts scores that are none.
    fn passes(&mut self, score: f32) -> bool {
        // NaN is in no range.
        if !(0.0..=1.0001).contains(&score) {
            self.found.dropped.bad_score += 1;
            return false;
        }
        score >= SCORE_FLOOR
    }

    /// Takes a box in pixels of the frame whose score passed.
    fn take(&mut self, [x1, y1, x2, y2]: [f32; 4], score: f32) {
        let small = x2 - x1 < MIN_SIDE_PX || y2 - y1 < MIN_SIDE_PX;
        match BBox::new(x1, y1, x2, y2) {
            Some(bbox) if !small => {
                self.found.detections.push(Detection { bbox, score: score.min(1.0) })
            }
            _ if small => self.found.dropped.no_area += 1,
            _ => self.found.dropped.not_finite += 1,
        }
    }

    /// The boxes, surest first.
    fn finish(mut self) -> Found {
        self.found.detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        let beyond = self.found.detections.len().saturating_sub(MAX_DETECTIONS);
        self.found.detections.truncate(MAX_DETECTIONS);
        self.found.dropped.too_many += u32::try_from(beyond).unwrap_or(u32::MAX);
        self.found
    }
}

/// A model that wrote something else than its layout says.
fn unexpected(name: &str, reason: impl std::fmt::Display) -> Error {
    Error::internal(format!("detector {name}"), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_detection_is_counted_by_cause() {
        let mut sieve = Sieve::new();
        for score in [f32::NAN, -0.5, 2.0, f32::INFINITY] {
            assert!(!sieve.passes(score));
        }
        assert!(!sieve.passes(0.05), "below the floor, but sound");
        assert!(sieve.passes(0.1) && sieve.passes(1.0));
        sieve.take([0.0, 0.0, 5.0, 5.0], 0.2);
        sieve.take([0.0, 0.0, 5.0, 6.0], 0.9);
        sieve.take([f32::NAN, 0.0, 5.0, 5.0], 0.9);
        sieve.take([0.0, 0.0, f32::INFINITY, 5.0], 0.9);
        sieve.take([5.0, 0.0, 5.0, 5.0], 0.9);
        sieve.take([5.0, 0.0, 1.0, 5.0], 0.9);
        sieve.take([0.0, 0.0, 1e-24, 1e-24], 0.9);
        let found = sieve.finish();
        assert_eq!(found.detections.iter().map(|d| d.score).collect::<Vec<_>>(), [0.9, 0.2]);
        let expected = Dropped { bad_score: 4, not_finite: 2, no_area: 3, too_many: 0 };
        assert_eq!(found.dropped, expected);
    }

    #[test]
    fn the_weakest_beyond_the_limit_go() {
        let mut sieve = Sieve::new();
        for i in 0..MAX_DETECTIONS + 7 {
            sieve.take([0.0, 0.0, 5.0, 5.0], 0.1 + i as f32 * 1e-3);
        }
        let found = sieve.finish();
        assert_eq!(found.detections.len(), MAX_DETECTIONS);
        assert_eq!(found.dropped.too_many, 7);
        assert!(found.detections.iter().all(|d| d.score > 0.1065));
    }
}
