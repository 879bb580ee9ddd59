//! A frame made small, with the boxes of everybody in it: what a context picture is drawn from.
//!
//! A guard wants to see where somebody is; who else is there is none of the alert's business. So
//! everybody the detector found, sure or not, is blurred beyond recognition, and the person meant is
//! framed. Who overlaps that person stays sharp where the two overlap, as in the crop; who is not
//! found is not blurred.

use std::sync::Arc;

use image::{Rgb as Pixel, RgbImage, imageops};
use spotter_models::Rgb;

use crate::{
    detect::Detection,
    error::{Error, Result},
    frame::Frame,
    geometry::{BBox, PixelRect},
};

/// Longest side of a context picture in pixels: enough to know a place by.
const LONGEST_SIDE: u32 = 640;
/// Boxes that overlap the person's own by this much or more are the same person.
const SAME_PERSON_IOU: f32 = 0.5;
/// Deviation of the blur as a share of a person's width: of a face, which is a third of that, nothing
/// is left.
const BLUR_SHARE: f32 = 0.25;
/// Least deviation in pixels.
const BLUR_MIN: f32 = 3.0;
/// The frame around the person meant: yellow within black is seen on any ground.
const OUTLINE: [(u32, Pixel<u8>); 3] =
    [(0, Pixel([0, 0, 0])), (1, Pixel([255, 221, 0])), (2, Pixel([0, 0, 0]))];

/// A frame made small and everybody who was found in it.
pub struct Scene {
    picture: RgbImage,
    /// Pixels of the picture for one of the frame, across and down.
    scale: (f32, f32),
    persons: Vec<BBox>,
}

impl Scene {
    /// Takes a frame and what was found in it.
    ///
    /// # Errors
    /// Where the frame's pixels cannot be had.
    pub fn new(frame: &Frame, found: &[Detection]) -> Result<Arc<Self>> {
        let (width, height) = reduced(frame.width, frame.height);
        let picture = frame.pixels.scaled(width, height)?;
        let picture = RgbImage::from_raw(width, height, picture.into_data())
            .ok_or_else(|| Error::internal("scene", "a picture of another size than asked for"))?;
        let share = |small: u32, large: u32| small as f32 / large.max(1) as f32;
        Ok(Arc::new(Self {
            picture,
            scale: (share(width, frame.width), share(height, frame.height)),
            persons: found.iter().map(|detection| detection.bbox).collect(),
        }))
    }

    /// Memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.picture.as_raw().len()
    }

    /// The picture with this person framed and everybody else blurred; `person` is a box in pixels of
    /// the frame.
    ///
    /// # Errors
    /// Only by a bug.
    pub fn context(&self, person: &BBox) -> Result<Rgb> {
        let mut picture = self.picture.clone();
        let others = self.persons.iter().filter(|other| other.iou(person) < SAME_PERSON_IOU);
        for rect in others.filter_map(|other| self.rect(other)) {
            let part = imageops::crop_imm(&picture, rect.x, rect.y, rect.width, rect.height);
            let sigma = (rect.width as f32 * BLUR_SHARE).max(BLUR_MIN);
            let blurred = imageops::fast_blur(&part.to_image(), sigma);
            imageops::replace(&mut picture, &blurred, rect.x.into(), rect.y.into());
        }
        if let Some(rect) = self.rect(person) {
            let own = imageops::crop_imm(&self.picture, rect.x, rect.y, rect.width, rect.height);
            imageops::replace(&mut picture, &own.to_image(), rect.x.into(), rect.y.into());
            OUTLINE.iter().for_each(|(by, colour)| outline(&mut picture, rect, *by, *colour));
        }
        let (width, height) = picture.dimensions();
        Ok(Rgb::new(width, height, picture.into_raw())?)
    }

    /// A box of the frame in whole pixels of the picture; `None` where nothing of it is inside.
    fn rect(&self, bbox: &BBox) -> Option<PixelRect> {
        let (across, down) = self.scale;
        let small =
            BBox::new(bbox.x1() * across, bbox.y1() * down, bbox.x2() * across, bbox.y2() * down)?;
        small.pixels(self.picture.width(), self.picture.height())
    }
}

/// The size at which a frame is kept: at most [`LONGEST_SIDE`], same shape.
fn reduced(width: u32, height: u32) -> (u32, u32) {
    let longest = width.max(height);
    if longest <= LONGEST_SIDE {
        return (width, height);
    }
    let side = |side: u32| {
        let scaled = u64::from(side) * u64::from(LONGEST_SIDE) / u64::from(longest);
        u32::try_from(scaled).unwrap_or(LONGEST_SIDE).max(1)
    };
    (side(width), side(height))
}

/// Draws the edge of a rectangle that is larger by `by` pixels on every side, as far as it is inside.
fn outline(picture: &mut RgbImage, rect: PixelRect, by: u32, colour: Pixel<u8>) {
    let (width, height) = picture.dimensions();
    let (left, top) = (rect.x.saturating_sub(by), rect.y.saturating_sub(by));
    let right = (rect.x + rect.width - 1).saturating_add(by).min(width - 1);
    let bottom = (rect.y + rect.height - 1).saturating_add(by).min(height - 1);
    for x in left..=right {
        picture.put_pixel(x, top, colour);
        picture.put_pixel(x, bottom, colour);
    }
    for y in top..=bottom {
        picture.put_pixel(left, y, colour);
        picture.put_pixel(right, y, colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Mono,
        frame::{CameraId, Pts},
    };

    /// A fine chessboard: whatever is blurred turns grey.
    fn frame(width: u32, height: u32) -> Frame {
        let square = |x: u32, y: u32| if (x / 4 + y / 4).is_multiple_of(2) { 255 } else { 0 };
        let rows = (0..height).flat_map(|y| (0..width).flat_map(move |x| [square(x, y); 3]));
        Frame {
            camera: CameraId::new("door").unwrap(),
            seq: 0,
            pts: Pts::default(),
            decoded_at: Mono::default(),
            width,
            height,
            pixels: Box::new(Rgb::new(width, height, rows.collect()).unwrap()),
        }
    }

    fn person(x: f32, y: f32, score: f32) -> Detection {
        Detection { bbox: BBox::new(x, y, x + 60.0, y + 150.0).unwrap(), score }
    }

    /// Largest difference from the mean within a square of 12 around a point, in grey levels.
    fn contrast(picture: &Rgb, x: u32, y: u32) -> f32 {
        let at = |x: u32, y: u32| f32::from(picture.view().row(y)[x as usize * 3]);
        let square = || (y - 6..y + 6).flat_map(|y| (x - 6..x + 6).map(move |x| (x, y)));
        let mean = square().map(|(x, y)| at(x, y)).sum::<f32>() / 144.0;
        square().map(|(x, y)| (at(x, y) - mean).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn everybody_else_is_blurred_and_the_person_framed() {
        let meant = person(100.0, 100.0, 0.9);
        let found = [meant, person(300.0, 100.0, 0.9), person(500.0, 150.0, 0.11)];
        let scene = Scene::new(&frame(640, 360), &found).unwrap();
        // The tracker's box is never quite the detector's.
        let tracked = BBox::new(102.0, 98.0, 161.0, 249.0).unwrap();
        let picture = scene.context(&tracked).unwrap();
        assert_eq!((picture.width(), picture.height()), (640, 360));
        for (x, y, is_sharp) in [(130, 175, true), (330, 175, false), (530, 225, false)] {
            let contrast = contrast(&picture, x, y);
            assert!((contrast > 100.0) == is_sharp && (is_sharp || contrast < 25.0), "{contrast}");
        }
        assert!(contrast(&picture, 230, 50) > 100.0, "the place itself stays sharp");
        let row = picture.view().row(175);
        let yellow = (90..110).any(|x: usize| row[x * 3..][..3] == [255, 221, 0]);
        assert!(yellow, "the person is framed");
    }

    #[test]
    fn a_large_frame_is_made_small_and_boxes_with_it() {
        let scene = Scene::new(&frame(1280, 2560), &[person(1200.0, 2400.0, 0.9)]).unwrap();
        let picture = scene.context(&BBox::new(0.0, 0.0, 100.0, 300.0).unwrap()).unwrap();
        assert_eq!((picture.width(), picture.height()), (320, 640));
        assert_eq!(scene.bytes(), 320 * 640 * 3);
        assert_eq!(reduced(10_000, 1), (640, 1));
        // A box beyond the edge and one that is all outside are no trouble.
        for bbox in [(-50.0, -50.0, 20.0, 20.0), (5000.0, 5000.0, 5100.0, 5100.0)] {
            let bbox = BBox::new(bbox.0, bbox.1, bbox.2, bbox.3).unwrap();
            assert!(scene.context(&bbox).is_ok());
        }
    }
}
