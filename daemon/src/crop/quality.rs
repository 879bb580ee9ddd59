//! How much of a person a view shows.
//!
//! All parts but the sharpness come from boxes alone. Each is 0 to 1, so is their product, and a
//! view is as good as its worst part allows: no sharpness makes up for legs behind a car.

use serde::Serialize;
use spotter_models::Rgb;

use crate::{detect::Detection, geometry::BBox, track::occlusion};

/// Of a person this high nothing can be told, pixels.
const TINY_PX: f32 = 24.0;
/// Higher than this adds nothing: the towers see 384 pixels at most, and half of that suffices.
const LARGE_PX: f32 = 192.0;
/// A box that ends this near to the frame's edge is cut by it, in shares of the frame's side.
const TOUCH: f32 = 0.004;
/// Width of a whole person in shares of the height, seen from the side: narrower is cut.
const SLIM: f32 = 0.33;
/// What is left of a view without a head.
const HEADLESS: f32 = 0.4;
/// Height at which sharpness is judged: what the towers see of fine detail, and coarse enough to
/// hide the camera's noise.
const JUDGED_PX: usize = 96;
/// Detail (see [`sharpness`]) that counts as half sharp: persons in sharp photographs have 0.24, of
/// surveillance cameras 0.16; blurred by 1 % of their height 0.07, by 2 % 0.03.
const HALF_SHARP: f32 = 0.075;
/// Part of the total that blur can take.
const BLUR_WEIGHT: f32 = 0.5;

/// How good a view is, in total and by its parts, each 0 (shows nothing) to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// Height in pixels, on a logarithmic scale.
    pub size: f32,
    /// Share that the frame's edge leaves, estimated from the proportions.
    pub uncut: f32,
    /// Share that nearer persons leave.
    pub unhidden: f32,
    /// The detector's score.
    pub score: f32,
    /// Detail, where pixels were looked at.
    pub sharpness: Option<f32>,
}

impl Quality {
    /// The parts that need no pixels. `others` are the boxes of all persons in the frame, which is
    /// `width` x `height` pixels; they may hold this one.
    pub fn of_box(seen: &Detection, others: &[BBox], (width, height): (u32, u32)) -> Self {
        let bbox = &seen.bbox;
        let inside = bbox.clipped(width as f32, height as f32);
        let high = inside.map_or(0.0, |inside| inside.height()).max(1.0);
        let size = (high / TINY_PX).ln() / (LARGE_PX / TINY_PX).ln();
        Self {
            size: size.clamp(0.0, 1.0),
            uncut: uncut(bbox, width as f32, height as f32),
            unhidden: 1.0 - occlusion::hidden_share(bbox, others),
            score: if seen.score.is_nan() { 0.0 } else { seen.score.clamp(0.0, 1.0) },
            sharpness: None,
        }
    }

    /// The same view after a look at its pixels.
    pub fn with_sharpness(self, sharpness: f32) -> Self {
        let sharpness = if sharpness.is_nan() { 0.0 } else { sharpness.clamp(0.0, 1.0) };
        Self { sharpness: Some(sharpness), ..self }
    }

    /// The whole, 0 to 1. Without a look at the pixels it is what a sharp view would have: a bound.
    pub fn total(&self) -> f32 {
        let sharp = 1.0 - BLUR_WEIGHT * (1.0 - self.sharpness.unwrap_or(1.0));
        // The detector's score says little beyond the other parts, so its root.
        self.size * self.uncut * self.unhidden * self.score.sqrt() * sharp
    }
}

/// The share of a person that the frame's edge leaves, judged by the proportions of a whole one.
fn uncut(bbox: &BBox, width: f32, height: f32) -> f32 {
    let Some(inside) = bbox.clipped(width, height) else { return 0.0 };
    let (dx, dy) = (TOUCH * width, TOUCH * height);
    let mut share = inside.area() / bbox.area();
    if inside.x1() <= dx || inside.x2() >= width - dx {
        share *= (inside.width() / (SLIM * inside.height())).min(1.0);
    }
    if inside.y2() >= height - dy {
        share *= (SLIM * inside.height() / inside.width()).min(1.0);
    }
    if inside.y1() <= dy {
        share *= HEADLESS;
    }
    share
}

/// How much fine detail a crop shows, 0 (a smear) to 1.
///
/// The energy of the Laplacian relative to the energy of the picture, after averaging down to
/// [`JUDGED_PX`] rows: that makes it independent of contrast, exposure and, for persons higher than
/// that, of size.
pub fn sharpness(crop: &Rgb) -> f32 {
    let (grey, width) = small_grey(crop);
    let height = grey.len() / width.max(1);
    if width < 3 || height < 3 {
        return 0.0;
    }
    let count = grey.len() as f32;
    let mean = grey.iter().sum::<f32>() / count;
    let variance = grey.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / count;
    let mut energy = 0.0;
    for y in 1..height - 1 {
        for x in 1..width - 1 {
            let at = y * width + x;
            let around = grey[at - 1] + grey[at + 1] + grey[at - width] + grey[at + width];
            let laplacian = around / 4.0 - grey[at];
            energy += laplacian * laplacian;
        }
    }
    energy /= ((width - 2) * (height - 2)) as f32;
    // A step of noise: a blank wall is not sharp.
    let detail = energy / (variance + 4.0);
    detail / (detail + HALF_SHARP * HALF_SHARP)
}

/// Grey values averaged down to at most [`JUDGED_PX`] rows, and how many are in a row.
fn small_grey(crop: &Rgb) -> (Vec<f32>, usize) {
    let (from_width, from_height) = (crop.width() as usize, crop.height() as usize);
    let height = from_height.min(JUDGED_PX);
    // Very wide crops are no persons; the bound keeps the work small.
    let width = (from_width * height / from_height).clamp(1, 2 * JUDGED_PX).min(from_width);
    let span = |i: usize, n: usize, from: usize| {
        let start = i * from / n;
        start..((i + 1) * from / n).max(start + 1)
    };
    let mut grey = Vec::with_capacity(width * height);
    for y in 0..height {
        let mut sums = vec![0u32; width];
        let rows = span(y, height, from_height);
        let row_count = rows.len();
        for row in rows {
            let (pixels, _) = crop.view().row(row as u32).as_chunks::<3>();
            for (x, sum) in sums.iter_mut().enumerate() {
                let cell = &pixels[span(x, width, from_width)];
                *sum += cell.iter().map(|&[r, g, b]| luma(r, g, b)).sum::<u32>();
            }
        }
        grey.extend(sums.iter().enumerate().map(|(x, sum)| {
            *sum as f32 / (256 * row_count * span(x, width, from_width).len()) as f32
        }));
    }
    (grey, width)
}

/// Brightness in units of 1/256 (BT.601).
fn luma(r: u8, g: u8, b: u8) -> u32 {
    77 * u32::from(r) + 150 * u32::from(g) + 29 * u32::from(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (u32, u32) = (1280, 720);

    fn bbox(x1: f32, y1: f32, x2: f32, y2: f32) -> BBox {
        BBox::new(x1, y1, x2, y2).unwrap()
    }

    fn quality(bbox: BBox, others: &[BBox]) -> Quality {
        Quality::of_box(&Detection { bbox, score: 0.81 }, others, SIZE)
    }

    #[test]
    fn a_whole_large_person_is_best() {
        let best = quality(bbox(600.0, 200.0, 680.0, 400.0), &[]);
        assert_eq!((best.size, best.uncut, best.unhidden), (1.0, 1.0, 1.0));
        assert!((best.total() - 0.9).abs() < 1e-6);
        let small = quality(bbox(600.0, 200.0, 630.0, 275.0), &[]);
        let tiny = quality(bbox(600.0, 200.0, 608.0, 220.0), &[]);
        assert!(best.total() > small.total() && small.total() > 0.3 && tiny.total() == 0.0);
    }

    #[test]
    fn edges_cut() {
        let half_in = quality(bbox(-0.5, 200.0, 33.0, 400.0), &[]);
        assert!((half_in.uncut - 0.5).abs() < 0.05, "{half_in:?}");
        let no_legs = quality(bbox(600.0, 560.0, 690.0, 719.5), &[]);
        assert!((0.4..0.75).contains(&no_legs.uncut), "{no_legs:?}");
        let whole_at_the_edge = quality(bbox(1200.0, 200.0, 1279.0, 400.0), &[]);
        assert_eq!(whole_at_the_edge.uncut, 1.0);
        assert!(quality(bbox(600.0, 0.0, 700.0, 200.0), &[]).uncut < 0.5, "no head");
        assert_eq!(quality(bbox(1300.0, 0.0, 1400.0, 200.0), &[]).total(), 0.0, "outside");
    }

    #[test]
    fn nearer_persons_hide() {
        let near = bbox(560.0, 220.0, 640.0, 430.0);
        let hidden = quality(bbox(600.0, 200.0, 680.0, 400.0), &[near]);
        assert!((hidden.unhidden - 0.55).abs() < 0.05, "{hidden:?}");
    }

    #[test]
    fn whatever_the_score_the_total_is_a_share() {
        for score in [f32::NAN, -1.0, 7.0, f32::INFINITY] {
            let seen = Detection { bbox: bbox(600.0, 200.0, 680.0, 400.0), score };
            let total = Quality::of_box(&seen, &[], SIZE).with_sharpness(score).total();
            assert!((0.0..=1.0).contains(&total), "{score}: {total}");
        }
    }

    fn picture(width: u32, height: u32, grey: impl Fn(f32, f32) -> f32) -> Rgb {
        let pixel = |i: u32| {
            let (x, y) = ((i % width) as f32 / width as f32, (i / width) as f32 / height as f32);
            [grey(x, y).clamp(0.0, 255.0) as u8; 3]
        };
        Rgb::new(width, height, (0..width * height).flat_map(pixel).collect()).unwrap()
    }

    /// Stripes whose edges are `soft` wide, in shares of the picture.
    fn stripes(x: f32, y: f32, soft: f32) -> f32 {
        let wave = ((x * 1.5 + y * 2.0) * std::f32::consts::TAU).sin();
        128.0 + 60.0 * (wave / soft).clamp(-1.0, 1.0)
    }

    #[test]
    fn blur_is_less_sharp_at_any_size_and_contrast() {
        for (width, height) in [(48, 96), (96, 192), (200, 400)] {
            let sharp = sharpness(&picture(width, height, |x, y| stripes(x, y, 0.02)));
            let blurred = sharpness(&picture(width, height, |x, y| stripes(x, y, 1.0)));
            assert!(sharp > blurred + 0.2, "{width}: {sharp} {blurred}");
            let faint = sharpness(&picture(width, height, |x, y| 60.0 + stripes(x, y, 0.02) / 3.0));
            assert!((sharp - faint).abs() < 0.1, "{sharp} {faint}");
        }
        let sizes = [(96, 192), (200, 400)]
            .map(|(width, height)| sharpness(&picture(width, height, |x, y| stripes(x, y, 0.02))));
        assert!((sizes[0] - sizes[1]).abs() < 0.1, "{sizes:?}");
    }

    #[test]
    fn blank_and_degenerate_crops_are_not_sharp() {
        assert!(sharpness(&picture(60, 120, |_, _| 90.0)) < 0.05);
        for (width, height) in [(1, 1), (1, 500), (500, 1), (2, 2), (4000, 3)] {
            let value = sharpness(&picture(width, height, |x, _| x * 255.0));
            assert!((0.0..=1.0).contains(&value), "{width}x{height}: {value}");
        }
    }
}
