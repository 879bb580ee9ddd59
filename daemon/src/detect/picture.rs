//! Frames whose pixels lie in the processor's memory as RGB.
//!
//! Scaling is written here because the detectors feel every grey level: their golden outputs come
//! from OpenCV's `INTER_LINEAR`, which cuts where others round. A library that rounds between
//! columns and rows differed by one in a quarter of the places and moved a person's score by 0.055;
//! exact arithmetic, rounded once, differed in an eighth and moved it by 0.04.

use spotter_models::Rgb;

use crate::{
    error::{Error, Result},
    frame::Pixels,
    geometry::PixelRect,
};

/// Weights of two neighbours sum up to this.
const ONE: f32 = 2048.0;

impl Pixels for Rgb {
    /// Bilinear from the two nearest pixels in each direction, also where it shrinks, in OpenCV's
    /// arithmetic: that is what the detectors were exported and measured with.
    fn scaled(&self, width: u32, height: u32) -> Result<Rgb> {
        if (width, height) == (self.width(), self.height()) {
            return Ok(self.clone());
        }
        let columns = nearest(width, self.width());
        let row_len = width as usize * 3;
        let mut data = Vec::with_capacity(row_len * height as usize);
        let mut rows = [ScaledRow::new(row_len), ScaledRow::new(row_len)];
        for row in nearest(height, self.height()) {
            if rows[1].source == Some(row.low) {
                rows.swap(0, 1);
            }
            rows[0].fill(self, row.low, &columns);
            rows[1].fill(self, row.high, &columns);
            let pairs = rows[0].values.iter().zip(&rows[1].values);
            data.extend(pairs.map(|(low, high)| blend_rows(*low, *high, row.weights)));
        }
        Ok(Rgb::new(width, height, data)?)
    }

    fn region(&self, rect: PixelRect) -> Result<Rgb> {
        self.view()
            .region(rect.x, rect.y, rect.width, rect.height)
            .filter(|part| (part.width(), part.height()) == (rect.width, rect.height))
            .map(|part| part.to_rgb())
            .ok_or_else(|| {
                let (width, height) = (self.width(), self.height());
                Error::internal(
                    "region of a frame",
                    format!("{rect:?} is not inside {width}x{height}"),
                )
            })
    }
}

/// Between which two pixels of the source a pixel of the target lies.
#[derive(Clone, Copy)]
struct Between {
    low: u32,
    high: u32,
    /// Shares of the two, in units of 1 / [`ONE`].
    weights: [i16; 2],
}

/// The places of `to` pixels over `from` pixels, centre on centre, kept inside at both ends.
fn nearest(to: u32, from: u32) -> Vec<Between> {
    let step = f64::from(from) / f64::from(to.max(1));
    let last = from.saturating_sub(1);
    let place = |at: u32| {
        let centre = ((f64::from(at) + 0.5) * step - 0.5) as f32;
        let low = (centre.max(0.0) as u32).min(last);
        let share = if centre < 0.0 || low == last { 0.0 } else { centre - low as f32 };
        let weight = |share: f32| (share * ONE).round_ties_even() as i16;
        Between { low, high: (low + 1).min(last), weights: [weight(1.0 - share), weight(share)] }
    };
    (0..to).map(place).collect()
}

/// One row of the source with its columns scaled.
struct ScaledRow {
    /// Which row it is.
    source: Option<u32>,
    /// Grey values in units of 1/128.
    values: Vec<i16>,
}

impl ScaledRow {
    fn new(len: usize) -> Self {
        Self { source: None, values: vec![0; len] }
    }

    /// Computes a row, unless it is there already.
    fn fill(&mut self, picture: &Rgb, source: u32, columns: &[Between]) {
        if self.source == Some(source) {
            return;
        }
        self.source = Some(source);
        let (pixels, _) = picture.view().row(source).as_chunks::<3>();
        let (values, _) = self.values.as_chunks_mut::<3>();
        for (column, value) in columns.iter().zip(values) {
            let (low, high) = (pixels[column.low as usize], pixels[column.high as usize]);
            let [low_weight, high_weight] = column.weights.map(i32::from);
            for ((value, low), high) in value.iter_mut().zip(low).zip(high) {
                let sum = i32::from(low) * low_weight + i32::from(high) * high_weight;
                *value = (sum >> 4) as i16;
            }
        }
    }
}

/// A grey value between two rows; each product is cut before they are added.
fn blend_rows(low: i16, high: i16, weights: [i16; 2]) -> u8 {
    let part = |value: i16, weight: i16| ((i32::from(value) * i32::from(weight)) >> 16) as i16;
    ((part(low, weights[0]) + part(high, weights[1]) + 2) >> 2) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What OpenCV's `INTER_LINEAR` is by definition, in exact arithmetic.
    fn reference(source: &Rgb, width: u32, height: u32, (x, y): (u32, u32), channel: usize) -> f64 {
        let near = |at: u32, to: u32, from: u32| {
            let place = (f64::from(at) + 0.5) * f64::from(from) / f64::from(to) - 0.5;
            let place = place.clamp(0.0, f64::from(from - 1));
            let low = place.floor();
            (low as u32, (low as u32 + 1).min(from - 1), place - low)
        };
        let (x0, x1, fx) = near(x, width, source.width());
        let (y0, y1, fy) = near(y, height, source.height());
        let value = |x: u32, y: u32| f64::from(source.view().row(y)[x as usize * 3 + channel]);
        let upper = value(x0, y0) * (1.0 - fx) + value(x1, y0) * fx;
        let lower = value(x0, y1) * (1.0 - fx) + value(x1, y1) * fx;
        upper * (1.0 - fy) + lower * fy
    }

    #[test]
    fn scaling_is_bilinear_without_smoothing() {
        let mut state = 7u32;
        let noise = (0..97 * 61 * 3).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let source = Rgb::new(97, 61, noise.collect()).unwrap();
        for (width, height) in [(40, 30), (23, 61), (150, 20), (97, 61), (1, 1)] {
            let scaled = source.scaled(width, height).unwrap();
            assert_eq!((scaled.width(), scaled.height()), (width, height));
            for y in 0..height {
                for (i, &got) in scaled.view().row(y).iter().enumerate() {
                    let at = (i as u32 / 3, y);
                    let expected = reference(&source, width, height, at, i % 3);
                    // A step for the cuts, and twice 2^-12 of 255 for the weights.
                    assert!((f64::from(got) - expected).abs() <= 1.13, "{at:?}: {got} {expected}");
                }
            }
        }
    }

    #[test]
    fn a_region_beyond_the_frame_is_an_error() {
        let picture = Rgb::new(4, 3, vec![9; 36]).unwrap();
        let rect = |x, y, width, height| PixelRect { x, y, width, height };
        assert_eq!(picture.region(rect(1, 1, 2, 2)).unwrap().data().len(), 12);
        for outside in
            [rect(3, 0, 2, 1), rect(4, 0, 1, 1), rect(0, 0, 0, 1), rect(u32::MAX, 0, 2, 2)]
        {
            assert!(picture.region(outside).is_err());
        }
    }
}
