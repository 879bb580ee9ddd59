//! Boxes that the picture's edge cuts.
//!
//! The box of somebody who walks out shrinks and stops at the edge, as if the person slowed down
//! and grew thin. Completed by the size that is expected, it goes on at its speed and leaves the
//! picture, so that who comes in at the same place is not taken for who went out.

use crate::geometry::BBox;

/// Detectors end boxes this near to the edge that they touch, in shares of the picture's side.
const TOUCH: f32 = 0.004;

/// The picture that boxes lie in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Picture {
    width: f32,
    height: f32,
}

/// A side of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Neither,
}

impl Picture {
    /// A picture of this many pixels.
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self { width: width as f32, height: height as f32 }
    }

    /// The box as it would be without the edge, of a person who is expected to be `width` x
    /// `height`.
    pub(super) fn completed(&self, bbox: &BBox, width: f32, height: f32) -> BBox {
        let left = bbox.x1() <= TOUCH * self.width;
        let right = bbox.x2() >= (1.0 - TOUCH) * self.width;
        let below = bbox.y2() >= (1.0 - TOUCH) * self.height;
        let (mut x1, mut x2, mut y2) = (bbox.x1(), bbox.x2(), bbox.y2());
        // Between two edges there is nothing to go by.
        match (left, right) {
            (true, false) => x1 = x1.min(x2 - width),
            (false, true) => x2 = x2.max(x1 + width),
            _ => {}
        }
        if below {
            y2 = y2.max(bbox.y1() + height);
        }
        BBox::new(x1, bbox.y1(), x2, y2).unwrap_or(*bbox)
    }

    /// Beyond which side a box reaches.
    pub(super) fn side(&self, bbox: &BBox) -> Side {
        match (bbox.x1() < 0.0, bbox.x2() > self.width) {
            (true, false) => Side::Left,
            (false, true) => Side::Right,
            _ => Side::Neither,
        }
    }

    /// The share of a box that lies inside, 0 to 1.
    pub(super) fn share_inside(&self, bbox: &BBox) -> f32 {
        bbox.clipped(self.width, self.height).map_or(0.0, |inside| inside.area() / bbox.area())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bbox(x1: f32, y1: f32, x2: f32, y2: f32) -> BBox {
        BBox::new(x1, y1, x2, y2).unwrap()
    }

    #[test]
    fn cut_sides_are_completed_and_whole_ones_are_not() {
        let picture = Picture::new(1000, 500);
        let whole = bbox(100.0, 50.0, 120.0, 100.0);
        assert_eq!(picture.completed(&whole, 80.0, 200.0), whole);
        let left = picture.completed(&bbox(1.0, 50.0, 30.0, 250.0), 80.0, 200.0);
        assert_eq!(left, bbox(-50.0, 50.0, 30.0, 250.0));
        let right = picture.completed(&bbox(970.0, 50.0, 999.0, 250.0), 80.0, 200.0);
        assert_eq!(right, bbox(970.0, 50.0, 1050.0, 250.0));
        let below = picture.completed(&bbox(100.0, 400.0, 180.0, 500.0), 80.0, 200.0);
        assert_eq!(below, bbox(100.0, 400.0, 180.0, 600.0));
        let wide = bbox(0.0, 50.0, 300.0, 250.0);
        assert_eq!(picture.completed(&wide, 80.0, 200.0), wide, "never made smaller");
    }

    #[test]
    fn shares_inside() {
        let picture = Picture::new(100, 100);
        assert_eq!(picture.share_inside(&bbox(-10.0, 0.0, 10.0, 50.0)), 0.5);
        assert_eq!(picture.share_inside(&bbox(200.0, 0.0, 210.0, 50.0)), 0.0);
    }
}
