//! YOLOX, exported without its decoder: one row for each cell of three grids.
//!
//! Fed with the frame shrunk by one factor into the upper left corner of its input, BGR 0 to 255,
//! the rest filled with grey 114. A row holds (x, y, w, h) relative to its cell, an objectness and
//! 80 class probabilities. Many cells answer for one person, so overlapping boxes are suppressed.

use std::path::Path;

use ort::{
    session::Session,
    value::{TensorElementType, TensorRef},
};

use super::{
    Detection, Detector, Found, Layout, Sieve,
    planes::{self, Order},
    side, try_once, unexpected,
};
use crate::{error::Result, frame::Pixels};

/// Pixels of a cell of each grid, in the order in which the grids follow each other.
const STRIDES: [u32; 3] = [8, 16, 32];
/// Numbers of a row: box, objectness, classes.
const ROW: usize = 85;
/// Place of the probability of a person, class 0 of COCO.
const PERSON: usize = 5;
/// What fills the input beside the picture, as in training.
const FILL: f32 = 114.0;
/// Boxes that overlap a surer one by more are the same person (the model's own demo: 0.45).
const SAME_PERSON_IOU: f32 = 0.45;
/// Rows that take part in suppression, which compares all pairs.
const MAX_CANDIDATES: usize = 1000;

/// An open YOLOX model.
pub struct Yolox {
    session: Session,
    name: String,
    grid: Grid,
    planes: Vec<f32>,
    /// Size of the picture that the planes' padding fits.
    padded_for: (u32, u32),
}

/// The size of the model's input, which decides its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Width of the input in pixels.
    pub width: u32,
    /// Height of the input in pixels.
    pub height: u32,
}

impl Grid {
    /// Each cell's column, row and stride, in the order of the model's rows.
    fn cells(self) -> impl Iterator<Item = (f32, f32, f32)> {
        STRIDES.into_iter().flat_map(move |stride| {
            let (columns, rows) = (self.width / stride, self.height / stride);
            (0..rows)
                .flat_map(move |y| (0..columns).map(move |x| (x as f32, y as f32, stride as f32)))
        })
    }

    /// How many rows the model gives.
    pub fn len(self) -> usize {
        STRIDES.iter().map(|s| (self.width / s) as usize * (self.height / s) as usize).sum()
    }

    /// Whether the input is too small for a single cell.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl Yolox {
    /// Width and height of the input, where the session is a model of this layout.
    pub(super) fn fits(session: &Session) -> Option<(u32, u32)> {
        let ([input], [output]) = (session.inputs(), session.outputs()) else { return None };
        let float = Some(TensorElementType::Float32);
        if input.dtype().tensor_type() != float || output.dtype().tensor_type() != float {
            return None;
        }
        let &[batch, 3, height, width] = &**input.dtype().tensor_shape()? else { return None };
        let &[_, cells, numbers] = &**output.dtype().tensor_shape()? else { return None };
        let (width, height) = (side(width)?, side(height)?);
        let grid = Grid { width, height };
        // -1 where the model does not say.
        let rows = cells < 0 || usize::try_from(cells).is_ok_and(|cells| cells == grid.len());
        (batch <= 1 && rows && numbers == ROW as i64).then_some((width, height))
    }

    /// Takes a session that fits and runs it once.
    ///
    /// # Errors
    /// Where the model cannot run.
    pub(super) fn new(session: Session, name: &Path, width: u32, height: u32) -> Result<Self> {
        let mut detector = Self {
            session,
            name: name.display().to_string(),
            grid: Grid { width, height },
            planes: vec![FILL; 3 * width as usize * height as usize],
            padded_for: (width, height),
        };
        try_once(&mut detector, name)?;
        Ok(detector)
    }

    /// The size of a frame inside the input, and the factor by which it shrank.
    fn fitted(&self, width: u32, height: u32) -> (u32, u32, f32) {
        let (w, h) = (width.max(1) as f32, height.max(1) as f32);
        let factor = (self.grid.width as f32 / w).min(self.grid.height as f32 / h);
        // Cut, not rounded, as the model's own preparation does.
        let cut = |side: f32, limit: u32| ((side * factor) as u32).clamp(1, limit);
        (cut(w, self.grid.width), cut(h, self.grid.height), factor)
    }
}

impl Detector for Yolox {
    fn detect(&mut self, pixels: &dyn Pixels, width: u32, height: u32) -> Result<Found> {
        let (inner_width, inner_height, factor) = self.fitted(width, height);
        let picture = pixels.scaled(inner_width, inner_height)?;
        let Self { session, name, grid, planes, padded_for } = self;
        if *padded_for != (inner_width, inner_height) {
            planes.fill(FILL);
            *padded_for = (inner_width, inner_height);
        }
        planes::write(&picture, Order::Bgr, 1.0, grid.width as usize, planes);
        let shape = [1, 3, i64::from(grid.height), i64::from(grid.width)];
        let images = TensorRef::from_array_view((shape, planes.as_slice()))
            .map_err(|error| unexpected(name, error))?;
        let outputs = session.run(ort::inputs![images]).map_err(|error| unexpected(name, error))?;
        let output = outputs.values().next();
        let output = output.ok_or_else(|| unexpected(name, "gave no output"))?;
        let (_, rows) =
            output.try_extract_tensor::<f32>().map_err(|error| unexpected(name, error))?;
        if rows.len() != grid.len() * ROW {
            let reason = format!("gave {} numbers for {} cells of {ROW}", rows.len(), grid.len());
            return Err(unexpected(name, reason));
        }
        Ok(decode(rows, *grid, factor))
    }

    fn layout(&self) -> Layout {
        Layout::Yolox
    }

    fn input_size(&self) -> (u32, u32) {
        (self.grid.width, self.grid.height)
    }
}

/// Picks the persons out of the model's output: `rows` \[cells * 85\], relative to the cells of
/// `grid`; boxes are divided by `factor`, which brings them to pixels of the frame. Never fails;
/// rows that are missing or too many are left out.
pub fn decode(rows: &[f32], grid: Grid, factor: f32) -> Found {
    let mut sieve = Sieve::new();
    let (rows, _) = rows.as_chunks::<ROW>();
    for (row, (column, line, stride)) in rows.iter().zip(grid.cells()) {
        let [x, y, w, h, objectness, ..] = *row;
        let score = objectness * row[PERSON];
        if sieve.passes(score) {
            let (cx, cy) = ((x + column) * stride, (y + line) * stride);
            let (w, h) = (w.exp() * stride / 2.0, h.exp() * stride / 2.0);
            sieve.take([cx - w, cy - h, cx + w, cy + h].map(|v| v / factor), score);
        }
    }
    sieve.found.detections = suppressed(sieve.found.detections);
    sieve.finish()
}

/// Keeps of each heap of overlapping boxes the surest.
fn suppressed(mut detections: Vec<Detection>) -> Vec<Detection> {
    detections.sort_by(|a, b| b.score.total_cmp(&a.score));
    detections.truncate(MAX_CANDIDATES);
    let mut kept: Vec<Detection> = Vec::new();
    for detection in detections {
        if kept.iter().all(|k| k.bbox.iou(&detection.bbox) <= SAME_PERSON_IOU) {
            kept.push(detection);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { width: 64, height: 32 };

    fn rows(cells: &[(usize, [f32; 6])]) -> Vec<f32> {
        let mut rows = vec![0.0; GRID.len() * ROW];
        for (cell, numbers) in cells {
            rows[cell * ROW..cell * ROW + 6].copy_from_slice(numbers);
        }
        rows
    }

    #[test]
    fn cells_are_placed_by_grid_and_stride() {
        assert_eq!(GRID.len(), 8 * 4 + 4 * 2 + 2);
        // Cell 8 + 3 is the second row, fourth column of stride 8; cell 32 + 4 + 1 of stride 16.
        let ln2 = 2f32.ln();
        let found = decode(
            &rows(&[(11, [0.5, 0.25, ln2, 0.0, 0.9, 0.9]), (37, [0.0, 0.0, 0.0, ln2, 0.5, 0.5])]),
            GRID,
            0.5,
        );
        let corners: Vec<[f32; 4]> = found
            .detections
            .iter()
            .map(|d| [d.bbox.x1(), d.bbox.y1(), d.bbox.x2(), d.bbox.y2()])
            .collect();
        let expected = [[40.0, 12.0, 72.0, 28.0], [16.0, 0.0, 48.0, 64.0]];
        for (got, expected) in corners.as_flattened().iter().zip(expected.as_flattened()) {
            assert!((got - expected).abs() < 1e-4, "{corners:?}");
        }
        assert!((found.detections[0].score - 0.81).abs() < 1e-6);
    }

    #[test]
    fn overlapping_boxes_are_one_person() {
        let same = [0.5, 0.5, 1.0, 1.0, 0.9, 0.9];
        let weaker = [-0.4, 0.5, 1.0, 1.0, 0.8, 0.9];
        let far = [0.5, 0.5, 1.0, 1.0, 0.3, 0.9];
        let found = decode(&rows(&[(9, same), (10, weaker), (14, far)]), GRID, 1.0);
        assert_eq!(found.detections.len(), 2);
        assert!(found.detections[0].score > 0.8 && found.detections[1].score < 0.3);
    }

    #[test]
    fn numbers_that_are_none_are_counted() {
        let nan = f32::NAN;
        let found = decode(
            &rows(&[
                (0, [nan, 0.0, 0.0, 0.0, 0.9, 0.9]),
                (1, [0.0, 0.0, 200.0, 0.0, 0.9, 0.9]),
                (2, [0.0, 0.0, 0.0, 0.0, nan, 0.9]),
                (3, [0.0, 0.0, -200.0, 0.0, 0.9, 0.9]),
            ]),
            GRID,
            1.0,
        );
        assert_eq!(found.detections, []);
        let dropped = found.dropped;
        assert_eq!((dropped.not_finite, dropped.bad_score, dropped.no_area), (2, 1, 1));
        assert_eq!(decode(&[], GRID, 1.0), Found::default());
        assert_eq!(decode(&[0.9; 3 * ROW + 5], GRID, 0.0).detections, []);
    }
}
