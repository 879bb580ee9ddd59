//! Which few views of a person are worth embedding, and what is cut out of the frame for one.
//!
//! An embedding costs many times what finding the person cost, so it is spent on views that show
//! something new: the first sound one, clearly better ones, and one now and then. The detection
//! stage asks for each confirmed track of each frame, in this order, so that pixels are touched
//! only for views that would be taken:
//!
//! ```text
//! let quality = Quality::of_box(&seen, &others, size);             // geometry only
//! if selector.consider(id, pts, &bbox, &quality).is_some() {
//!     let crop = pixels.region(rectangle(&bbox, width, height)?)?;
//!     let quality = quality.with_sharpness(sharpness(&crop));
//!     if let Some(reason) = selector.take(id, pts, &bbox, &quality) { /* embed the crop */ }
//! }
//! ```

pub mod quality;
pub mod select;

pub use quality::{Quality, sharpness};
pub use select::{Reason, SelectionRules, Selector};

use crate::geometry::{BBox, PixelRect};

/// What is added on each side, in shares of the box's side: detectors cut hair and shoes, and the
/// towers were trained on boxes that people drew a little wide.
const MARGIN: f32 = 0.04;

/// The pixels to cut out for a box: with a small margin, inside the frame of `width` x `height`.
///
/// `None` where nothing of the box is inside.
pub fn rectangle(bbox: &BBox, width: u32, height: u32) -> Option<PixelRect> {
    let (dx, dy) = (MARGIN * bbox.width(), MARGIN * bbox.height());
    let wide = BBox::new(bbox.x1() - dx, bbox.y1() - dy, bbox.x2() + dx, bbox.y2() + dy);
    // A margin alone shows nobody.
    bbox.pixels(width, height)?;
    wide.unwrap_or(*bbox).pixels(width, height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rectangle_has_a_margin_and_stays_inside() {
        let inside = BBox::new(100.0, 100.0, 200.0, 300.0).unwrap();
        let expected = PixelRect { x: 96, y: 92, width: 108, height: 216 };
        assert_eq!(rectangle(&inside, 640, 480), Some(expected));
        let corner = BBox::new(-50.0, 400.0, 50.0, 600.0).unwrap();
        let expected = PixelRect { x: 0, y: 392, width: 54, height: 88 };
        assert_eq!(rectangle(&corner, 640, 480), Some(expected));
        let beside = BBox::new(641.0, 0.0, 741.0, 200.0).unwrap();
        assert_eq!(rectangle(&beside, 640, 480), None, "its margin would touch");
        let huge = BBox::new(-9e5, -9e5, 9e5, 9e5).unwrap();
        assert_eq!(rectangle(&huge, 64, 48), Some(PixelRect { x: 0, y: 0, width: 64, height: 48 }));
    }
}
