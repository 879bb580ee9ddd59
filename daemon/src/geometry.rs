//! Boxes in pixels of a frame.

use serde::Serialize;

/// A box with finite corners and a positive area, in pixels of the frame it was found in. May reach
/// beyond the frame's edge.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BBox {
    x1: f32,
    y1: f32,
    x2: f32,
    y2: f32,
}

impl BBox {
    /// `None` where a corner is NaN or infinite or the area is not positive, as broken detectors give.
    pub fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Option<Self> {
        let finite = [x1, y1, x2, y2].iter().all(|v| v.is_finite() && v.abs() < 1e6);
        let bbox = Self { x1, y1, x2, y2 };
        // The product of two tiny sides can be 0, and then overlaps would be NaN.
        (finite && x2 > x1 && y2 > y1 && bbox.area() > 0.0).then_some(bbox)
    }

    /// Left edge.
    pub fn x1(&self) -> f32 {
        self.x1
    }

    /// Upper edge.
    pub fn y1(&self) -> f32 {
        self.y1
    }

    /// Right edge.
    pub fn x2(&self) -> f32 {
        self.x2
    }

    /// Lower edge.
    pub fn y2(&self) -> f32 {
        self.y2
    }

    /// Width in pixels, above 0.
    pub fn width(&self) -> f32 {
        self.x2 - self.x1
    }

    /// Height in pixels, above 0.
    pub fn height(&self) -> f32 {
        self.y2 - self.y1
    }

    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// Centre (x, y).
    pub fn centre(&self) -> (f32, f32) {
        ((self.x1 + self.x2) / 2.0, (self.y1 + self.y2) / 2.0)
    }

    /// Area that both cover.
    pub fn intersection(&self, other: &BBox) -> f32 {
        let width = self.x2.min(other.x2) - self.x1.max(other.x1);
        let height = self.y2.min(other.y2) - self.y1.max(other.y1);
        width.max(0.0) * height.max(0.0)
    }

    /// Intersection over union, 0 to 1.
    pub fn iou(&self, other: &BBox) -> f32 {
        let both = self.intersection(other);
        both / (self.area() + other.area() - both)
    }

    /// The part inside a frame; `None` where nothing is.
    pub fn clipped(&self, width: f32, height: f32) -> Option<BBox> {
        BBox::new(self.x1.max(0.0), self.y1.max(0.0), self.x2.min(width), self.y2.min(height))
    }

    /// The whole pixels it touches inside a frame: (x, y, width, height).
    pub fn pixels(&self, width: u32, height: u32) -> Option<PixelRect> {
        let inside = self.clipped(width as f32, height as f32)?;
        let x = inside.x1.floor() as u32;
        let y = inside.y1.floor() as u32;
        let right = (inside.x2.ceil() as u32).min(width);
        let bottom = (inside.y2.ceil() as u32).min(height);
        (right > x && bottom > y).then(|| PixelRect { x, y, width: right - x, height: bottom - y })
    }
}

/// Whole pixels of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelRect {
    /// Left column.
    pub x: u32,
    /// Upper row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_boxes_do_not_exist() {
        for corners in [
            [f32::NAN, 0.0, 1.0, 1.0],
            [0.0, 0.0, f32::INFINITY, 1.0],
            [0.0, 0.0, 0.0, 1.0],
            [1.0, 0.0, 0.0, 1.0],
            [0.0, 0.0, 1e30, 1.0],
            [0.0, 0.0, 1e-30, 1e-30],
        ] {
            assert_eq!(BBox::new(corners[0], corners[1], corners[2], corners[3]), None);
        }
    }

    #[test]
    fn iou_and_pixels() {
        let a = BBox::new(0.0, 0.0, 10.0, 10.0).unwrap();
        let b = BBox::new(5.0, 0.0, 15.0, 10.0).unwrap();
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-6);
        let out = BBox::new(-3.5, 2.2, 4.1, 99.0).unwrap();
        assert_eq!(out.pixels(8, 9), Some(PixelRect { x: 0, y: 2, width: 5, height: 7 }));
        assert_eq!(BBox::new(9.0, 0.0, 12.0, 4.0).unwrap().pixels(8, 9), None);
    }
}
