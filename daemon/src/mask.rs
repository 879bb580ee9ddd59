//! MASK: parts of a camera's picture that nobody may look at.
//!
//! A mask lies on the pixels themselves: whoever asks a frame for pixels (the detector, a crop, a picture of
//! the place) gets black where it lies, in every format and memory that frames come in, since all of them
//! give RGB through [`Pixels`]. What is behind it has no influence on any pixel that is given out: pixels
//! beside it that a filter or shared chroma could colour are black too.
//!
//! Which columns of a row are black is worked out once for each size that is asked for.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use spotter_models::Rgb;

use crate::{
    alert::{ZoneName, place::Polygon},
    error::{Error, Result},
    frame::{Frame, Pixels},
    geometry::PixelRect,
};

/// How far chroma that pixels share reaches, in pixels of the frame.
const CHROMA: f64 = 2.0;
/// How far a filter reaches beyond that: in pixels of the frame where it makes larger, of the picture where it
/// makes smaller.
const FILTER: f64 = 1.0;
/// Sizes whose rows are kept: the detector's, the picture's of the place, the frame's, and those of a stream
/// that changes.
const MAX_SIZES: usize = 8;
/// Side of the grid on which the covered share is counted.
const GRID: u32 = 256;

/// The masks of one camera.
#[derive(Debug)]
pub struct Mask {
    names: Vec<ZoneName>,
    polygons: Vec<Polygon>,
    rows: Mutex<Vec<(Size, Arc<Rows>)>>,
}

/// A picture's size, and how far beyond their edges masks reach in it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Size {
    width: u32,
    height: u32,
    margin: (f64, f64),
}

/// The black columns of each row.
#[derive(Debug, Default)]
struct Rows(Vec<Vec<Range<u32>>>);

impl Mask {
    /// Masks by their names, as corners in shares of the picture's width and height; `None` where there are
    /// none. Everything that a polygon winds around is masked, where its edges cross as well.
    ///
    /// # Errors
    /// [`Error::Config`] for a name that is none, and for corners that zones may not have either.
    pub fn new(masks: &BTreeMap<String, Vec<[f32; 2]>>) -> Result<Option<Arc<Self>>> {
        let (mut names, mut polygons) = (Vec::new(), Vec::new());
        for (name, corners) in masks {
            let wrong = |error: String| Error::config(format!("mask {name:?}"), error);
            names.push(ZoneName::new(name).map_err(|error| wrong(error.to_string()))?);
            polygons.push(Polygon::enclosing(&format!("mask {name}"), corners)?);
        }
        let mask = Self { names, polygons, rows: Mutex::default() };
        Ok((!mask.polygons.is_empty()).then(|| Arc::new(mask)))
    }

    /// The masks' names.
    pub fn names(&self) -> impl Iterator<Item = &ZoneName> {
        self.names.iter()
    }

    /// The share of the picture that they cover, 0 to 1.
    pub fn share(&self) -> f64 {
        let size = Size { width: GRID, height: GRID, margin: (0.0, 0.0) };
        let Rows(rows) = &*self.rows(size);
        let covered: usize = rows.iter().flatten().map(ExactSizeIterator::len).sum();
        covered as f64 / f64::from(GRID * GRID)
    }

    /// The frame with its pixels behind the masks.
    pub fn over(self: &Arc<Self>, frame: Frame) -> Frame {
        let (mask, size) = (self.clone(), (frame.width, frame.height));
        let pixels = Box::new(Masked { pixels: frame.pixels, mask, size });
        Frame { pixels, ..frame }
    }

    /// Makes black what is masked of a part of a frame of this size.
    ///
    /// # Errors
    /// Where the part is no picture.
    pub fn part(&self, part: Rgb, rect: PixelRect, (width, height): (u32, u32)) -> Result<Rgb> {
        let rows = self.rows(Size { width, height, margin: (CHROMA, CHROMA) });
        rows.blacken(part, (rect.x, rect.y))
    }

    fn rows(&self, size: Size) -> Arc<Rows> {
        let mut kept = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rows)) = kept.iter().find(|(of, _)| *of == size) {
            return rows.clone();
        }
        let rows = Arc::new(Rows::new(&self.polygons, size));
        if kept.len() >= MAX_SIZES {
            kept.remove(0);
        }
        kept.push((size, rows.clone()));
        rows
    }
}

/// Pixels of a frame as far as they may be seen.
struct Masked {
    pixels: Box<dyn Pixels>,
    mask: Arc<Mask>,
    /// Of the frame.
    size: (u32, u32),
}

impl Pixels for Masked {
    fn scaled(&self, width: u32, height: u32) -> Result<Rgb> {
        let picture = self.pixels.scaled(width, height)?;
        let margin = |to: u32, from: u32| match to == from {
            true => CHROMA,
            false => FILTER + (CHROMA + FILTER) * f64::from(to) / f64::from(from.max(1)),
        };
        let margin = (margin(width, self.size.0), margin(height, self.size.1));
        let rows = self.mask.rows(Size { width, height, margin });
        rows.blacken(picture, (0, 0))
    }

    fn region(&self, rect: PixelRect) -> Result<Rgb> {
        self.mask.part(self.pixels.region(rect)?, rect, self.size)
    }

    fn is_at_hand(&self) -> bool {
        self.pixels.is_at_hand()
    }
}

impl Rows {
    fn new(polygons: &[Polygon], size: Size) -> Self {
        let row = |y| {
            let mut black: Vec<Range<u32>> =
                polygons.iter().flat_map(|polygon| columns(polygon, y, size)).collect();
            black.sort_by_key(|columns| columns.start);
            black.dedup_by(|next, columns| {
                let joins = next.start <= columns.end;
                if joins {
                    columns.end = columns.end.max(next.end);
                }
                joins
            });
            black
        };
        Self((0..size.height).map(row).collect())
    }

    /// Makes the masked pixels of a picture black whose upper left pixel lies at `from`.
    fn blacken(&self, picture: Rgb, from: (u32, u32)) -> Result<Rgb> {
        let (width, height) = (picture.width(), picture.height());
        let mut data = picture.into_data();
        let rows = self.0.iter().skip(from.1 as usize);
        for (pixels, black) in data.chunks_exact_mut(width.max(1) as usize * 3).zip(rows) {
            for columns in black {
                let inside = |column: u32| column.saturating_sub(from.0).min(width) as usize * 3;
                if let Some(part) = pixels.get_mut(inside(columns.start)..inside(columns.end)) {
                    part.fill(0);
                }
            }
        }
        Ok(Rgb::new(width, height, data)?)
    }
}

/// The columns whose pixels in row `y` a polygon touches, or comes nearer to than the margin.
///
/// Whoever is within the row's band and inside the polygon meets, on the way straight up, an edge within the
/// band or else the band's upper line inside the polygon. So edges within the band and the inside of that line
/// are all there is.
fn columns(polygon: &Polygon, y: u32, size: Size) -> Vec<Range<u32>> {
    let (across, down) = size.margin;
    let (top, bottom) = (f64::from(y) - down, f64::from(y) + 1.0 + down);
    let (width, height) = (f64::from(size.width), f64::from(size.height));
    let place = |[x, y]: [f32; 2]| (f64::from(x) * width, f64::from(y) * height);
    let (mut spans, mut crossings) = (Vec::new(), Vec::new());
    for (a, b) in polygon.edges() {
        let (a, b) = (place(a), place(b));
        let (upper, lower) = if a.1 <= b.1 { (a, b) } else { (b, a) };
        let slope = (lower.0 - upper.0) / (lower.1 - upper.1);
        let x_at =
            |y: f64| if upper.1 == lower.1 { upper.0 } else { upper.0 + (y - upper.1) * slope };
        if upper.1 <= top && top < lower.1 {
            crossings.push((x_at(top), if a.1 <= b.1 { 1 } else { -1 }));
        }
        if upper.1 == lower.1 && top < upper.1 && upper.1 < bottom {
            spans.push((a.0.min(b.0), a.0.max(b.0)));
        } else if upper.1 < bottom && lower.1 > top {
            let (one, other) = (x_at(upper.1.max(top)), x_at(lower.1.min(bottom)));
            spans.push((one.min(other), one.max(other)));
        }
    }
    crossings.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut winding = 0;
    for pair in crossings.windows(2) {
        let [(from, turn), (to, _)] = pair else { continue };
        winding += turn;
        if winding != 0 {
            spans.push((*from, *to));
        }
    }
    let column = |x: f64| x.clamp(0.0, width) as u32;
    let pixels =
        |(from, to): (f64, f64)| column((from - across).floor())..column((to + across).ceil());
    spans.into_iter().map(pixels).filter(|columns| !columns.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask(corners: &[[f32; 2]]) -> Arc<Mask> {
        Mask::new(&BTreeMap::from([("m".to_owned(), corners.to_vec())])).unwrap().unwrap()
    }

    /// The picture of black rows without a margin, one character for each pixel.
    fn drawn(corners: &[[f32; 2]], width: u32, height: u32) -> Vec<String> {
        let rows = mask(corners).rows(Size { width, height, margin: (0.0, 0.0) });
        let at = |row: &Vec<Range<u32>>, x| row.iter().any(|columns| columns.contains(&x));
        let line = |row| (0..width).map(|x| if at(row, x) { '#' } else { '.' }).collect();
        rows.0.iter().map(line).collect()
    }

    #[test]
    fn every_pixel_that_a_mask_touches_is_black_and_no_other() {
        let square = [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]];
        assert_eq!(drawn(&square, 8, 4), ["........", "..####..", "..####..", "........"]);
        // Half a pixel further in each direction.
        let off = [[0.3125, 0.375], [0.8125, 0.375], [0.8125, 0.875], [0.3125, 0.875]];
        assert_eq!(drawn(&off, 8, 4), ["........", "..#####.", "..#####.", "..#####."]);
        let triangle = [[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
        assert_eq!(drawn(&triangle, 4, 4), ["#...", "##..", "###.", "####"]);
        let all = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
        assert_eq!(drawn(&all, 3, 2), ["###", "###"]);
        assert_eq!(mask(&all).share(), 1.0);
        assert_eq!(mask(&square).share(), 0.25);
    }

    #[test]
    fn a_star_has_no_hole() {
        let corner = |k: f32| {
            let angle = k * 0.8 * std::f32::consts::PI;
            [0.5 + 0.5 * angle.sin(), 0.5 - 0.5 * angle.cos()]
        };
        let star: Vec<[f32; 2]> = (0..5).map(|k| corner(k as f32)).collect();
        assert_eq!(drawn(&star, 9, 9)[4].chars().nth(4), Some('#'));
    }

    #[test]
    fn what_is_no_mask_is_refused_by_its_name() {
        let refused = |name: &str, corners: &[[f32; 2]]| {
            Mask::new(&BTreeMap::from([(name.to_owned(), corners.to_vec())]))
                .unwrap_err()
                .to_string()
        };
        let error = refused("window", &[[0.0, 0.0], [1.5, 0.0], [1.0, 1.0]]);
        assert!(error.contains("mask window") && error.contains("outside"), "{error}");
        assert!(refused("Window", &[]).contains("a-z"));
        assert!(Mask::new(&BTreeMap::new()).unwrap().is_none());
    }

    /// A picture and another that differs only behind the mask.
    fn two_pictures(mask: &Mask, (width, height): (u32, u32), seed: u8) -> [Rgb; 2] {
        let rows = mask.rows(Size { width, height, margin: (0.0, 0.0) });
        let value = |x: u32, y: u32, c: u32, seed: u8| {
            (x * 37 + y * 101 + c * 53) as u8 ^ seed.wrapping_mul((x ^ y) as u8 | 1)
        };
        let picture = |hidden: u8| {
            let mut data = Vec::new();
            for y in 0..height {
                for x in 0..width {
                    let black = rows.0[y as usize].iter().any(|columns| columns.contains(&x));
                    data.extend((0..3).map(|c| value(x, y, c, if black { hidden } else { seed })));
                }
            }
            Rgb::new(width, height, data).unwrap()
        };
        [picture(seed), picture(seed.wrapping_add(91))]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn what_is_behind_a_mask_has_no_influence_on_any_pixel(
            corners in prop::collection::vec((0.0f32..=1.0, 0.0f32..=1.0), 3..7),
            size in (1u32..70, 1u32..50),
            to in (1u32..90, 1u32..60),
            seed: u8,
        ) {
            let corners: Vec<[f32; 2]> = corners.into_iter().map(|(x, y)| [x, y]).collect();
            let masks = BTreeMap::from([("m".to_owned(), corners)]);
            prop_assume!(Mask::new(&masks).is_ok());
            let mask = Mask::new(&masks).unwrap().unwrap();
            let masked = two_pictures(&mask, size, seed).map(|picture| Masked {
                pixels: Box::new(picture),
                mask: mask.clone(),
                size,
            });
            let [one, other] = &masked;
            prop_assert_eq!(one.scaled(to.0, to.1).unwrap(), other.scaled(to.0, to.1).unwrap());
            let rect = PixelRect {
                x: size.0 / 3,
                y: size.1 / 3,
                width: size.0 - size.0 / 3,
                height: size.1 - size.1 / 3,
            };
            prop_assert_eq!(one.region(rect).unwrap(), other.region(rect).unwrap());
        }
    }
}
