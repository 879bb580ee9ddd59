//! Changes to pictures, from resized bytes to normalised planes in one pass.

use std::ops::Range;

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use rand::Rng;
use serde::{Deserialize, Serialize};
use spotter_models::preprocess::Preprocess;

use super::{normal, within};
use crate::error::{Error, Result};

/// What an erased rectangle is filled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// The normalisation's mean, written into the values that are already normalised, as published
    /// (`cskt.md` 1.5).
    #[default]
    Mean,
    /// One random colour.
    Colour,
}

/// How pictures are changed. The default changes nothing.
///
/// The order is: coarsening, mirroring, cropping out of the margin and the padding, colours,
/// normalisation, erasing; without coarsening and colours that is torchvision's order in the
/// published recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageAugment {
    /// Pixels by which pictures are resized larger than the input, in both directions; the input is
    /// cut out at random.
    pub margin: usize,
    /// Probability of mirroring left and right.
    pub flip: f64,
    /// Black pixels that are put around before the input is cut out at random.
    pub pad: usize,
    /// Standard deviation of the factor on all values, around 1.
    pub brightness: f64,
    /// Standard deviation of the factor on the distance from the picture's mean grey, around 1.
    pub contrast: f64,
    /// Standard deviation of each channel's own factor, around 1.
    pub gain: f64,
    /// Standard deviation of what is added to each channel, of values from 0 to 1.
    pub offset: f64,
    /// Probability of coarsening: resizing down and up again.
    pub coarse: f64,
    /// Largest factor of coarsening; it is drawn between 1 and this.
    pub coarse_factor: f64,
    /// Probability of erasing a rectangle (Zhong et al., arXiv 1708.04896).
    pub erase: f64,
    /// Smallest and largest share of the picture that is erased.
    pub erase_area: [f64; 2],
    /// Smallest and largest ratio of the rectangle's height to its width.
    pub erase_ratio: [f64; 2],
    /// What it is filled with.
    pub erase_fill: Fill,
}

impl Default for ImageAugment {
    fn default() -> Self {
        Self { flip: 0.0, pad: 0, erase: 0.0, ..Self::paper() }
    }
}

impl ImageAugment {
    /// The published recipe's (`cskt.md` 1.5), torchvision's defaults where it has none of its own.
    pub fn paper() -> Self {
        Self {
            margin: 0,
            flip: 0.5,
            pad: 10,
            brightness: 0.0,
            contrast: 0.0,
            gain: 0.0,
            offset: 0.0,
            coarse: 0.0,
            coarse_factor: 1.0,
            erase: 0.5,
            erase_area: [0.02, 0.4],
            erase_ratio: [0.3, 3.3],
            erase_fill: Fill::Mean,
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the first that cannot be.
    pub fn validate(&self) -> Result<()> {
        /// Far more than a picture of a person has.
        const MOST_PIXELS: f64 = 1024.0;
        for (name, value, low, high) in [
            ("image.margin", self.margin as f64, 0.0, MOST_PIXELS),
            ("image.pad", self.pad as f64, 0.0, MOST_PIXELS),
            ("image.flip", self.flip, 0.0, 1.0),
            ("image.coarse", self.coarse, 0.0, 1.0),
            ("image.coarse_factor", self.coarse_factor, 1.0, 100.0),
            ("image.erase", self.erase, 0.0, 1.0),
            ("image.brightness", self.brightness, 0.0, 1.0),
            ("image.contrast", self.contrast, 0.0, 1.0),
            ("image.gain", self.gain, 0.0, 1.0),
            ("image.offset", self.offset, 0.0, 1.0),
        ] {
            within(name, value, low, high)?;
        }
        let [smallest, largest] = self.erase_area;
        if !(0.0 < smallest && smallest <= largest && largest <= 1.0) {
            let reason = format!("{smallest} to {largest} is no range above 0 up to 1");
            return Err(Error::invalid("image.erase_area", reason));
        }
        let [flattest, tallest] = self.erase_ratio;
        if !(0.0 < flattest && flattest <= tallest && tallest.is_finite()) {
            let reason = format!("{flattest} to {tallest} is no range above 0");
            return Err(Error::invalid("image.erase_ratio", reason));
        }
        Ok(())
    }
}

/// Changes pictures, with buffers that are kept from one to the next. One per thread.
pub struct Augmenter {
    settings: ImageAugment,
    definition: Preprocess,
    resizer: Resizer,
    coarse: Vec<u8>,
    blurred: Vec<u8>,
}

/// A rectangle of the input.
struct Area {
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Augmenter {
    /// Allocates the buffers; `definition` is the input's size and normalisation.
    ///
    /// # Errors
    /// Where a setting cannot be.
    pub fn new(settings: ImageAugment, definition: Preprocess) -> Result<Self> {
        settings.validate()?;
        definition.validate()?;
        let (coarse, blurred) = (Vec::new(), Vec::new());
        Ok(Self { settings, definition, resizer: Resizer::new(), coarse, blurred })
    }

    /// Height and width that a picture must have when it comes in: the input's and the margin.
    pub fn source_size(&self) -> (usize, usize) {
        let Preprocess { height, width, .. } = self.definition;
        (height + self.settings.margin, width + self.settings.margin)
    }

    /// Writes the changed picture as planes of red, green and blue into `slot`. `picture` has R G B
    /// bytes of [`Augmenter::source_size`].
    ///
    /// # Errors
    /// [`Error::Invalid`] where `picture` or `slot` are of another length.
    pub fn run(&mut self, picture: &[u8], random: &mut impl Rng, slot: &mut [f32]) -> Result<()> {
        let (height, width) = self.source_size();
        if picture.len() != 3 * height * width || slot.len() != self.definition.len() {
            let (bytes, values) = (picture.len(), slot.len());
            let reason = format!("{bytes} bytes and {values} values are not {height}x{width}");
            return Err(Error::invalid("picture to change", reason));
        }
        let is_coarse = random.random::<f64>() < self.settings.coarse;
        if is_coarse {
            let factor = random.random_range(1.0..=self.settings.coarse_factor);
            self.coarsen(picture, factor)?;
        }
        let picture = if is_coarse { self.blurred.as_slice() } else { picture };
        let table = self.colours(picture, random);
        let is_mirrored = random.random::<f64>() < self.settings.flip;
        let (top, left) = self.place(random);
        let crop = Crop { height, width, is_mirrored, top, left };
        crop.write(picture, &table, &self.definition, slot);
        if random.random::<f64>() < self.settings.erase {
            self.erase(random, slot);
        }
        Ok(())
    }

    /// Resizes down and up again, into `self.blurred`.
    fn coarsen(&mut self, picture: &[u8], factor: f64) -> Result<()> {
        let fault = |error: &dyn std::fmt::Display| {
            Error::from(spotter_models::Error::internal("coarsening", error))
        };
        let (height, width) = self.source_size();
        let smaller = |side: usize| ((side as f64 / factor).round() as u32).max(1);
        let (rows, columns) = (smaller(height), smaller(width));
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .use_alpha(false);
        self.coarse.resize(3 * rows as usize * columns as usize, 0);
        self.blurred.resize(picture.len(), 0);
        let kind = PixelType::U8x3;
        let source = ImageRef::new(width as u32, height as u32, picture, kind)
            .map_err(|error| fault(&error))?;
        let mut small = Image::from_slice_u8(columns, rows, &mut self.coarse, kind)
            .map_err(|error| fault(&error))?;
        let mut large = Image::from_slice_u8(width as u32, height as u32, &mut self.blurred, kind)
            .map_err(|error| fault(&error))?;
        self.resizer
            .resize(&source, &mut small, &options)
            .and_then(|()| self.resizer.resize(&small, &mut large, &options))
            .map_err(|error| fault(&error))
    }

    /// The normalised value of each byte in each channel after the change of colours, which is the
    /// same line for all pixels of a channel.
    fn colours(&self, picture: &[u8], random: &mut impl Rng) -> [[f32; 256]; 3] {
        let ImageAugment { brightness, contrast, gain, offset, .. } = self.settings;
        let mut factor = |deviation: f64| (1.0 + deviation * normal(random)).max(0.0);
        let (brightness, contrast) = (factor(brightness), factor(contrast));
        let gains = [factor(gain), factor(gain), factor(gain)];
        let mut table = [[0.0; 256]; 3];
        let grey = match self.settings.contrast > 0.0 {
            true => mean(picture) * brightness,
            false => 0.0,
        };
        let normalisation = self.definition.mean.iter().zip(self.definition.std);
        for ((values, gain), (mean, std)) in table.iter_mut().zip(gains).zip(normalisation) {
            let scale = brightness * contrast * gain;
            let shift = grey * (1.0 - contrast) * gain + offset * normal(random);
            for (byte, value) in values.iter_mut().enumerate() {
                // In f32 as preprocessing does, so that no change is none to the last bit.
                let level = byte as f32 / 255.0;
                let level = (level * scale as f32 + shift as f32).clamp(0.0, 1.0);
                *value = (level - mean) / std;
            }
        }
        table
    }

    /// Where in the padded picture the input is cut out: rows and columns, negative in the padding.
    fn place(&self, random: &mut impl Rng) -> (isize, isize) {
        let (margin, pad) = (self.settings.margin as i32, self.settings.pad as i32);
        let mut offset = || random.random_range(-pad..=margin + pad) as isize;
        (offset(), offset())
    }

    fn erase(&self, random: &mut impl Rng, slot: &mut [f32]) {
        let Preprocess { height, width, mean, std, .. } = self.definition;
        let Some(area) = self.area(random) else { return };
        let colour: [f32; 3] = std::array::from_fn(|channel| match self.settings.erase_fill {
            Fill::Mean => mean[channel],
            Fill::Colour => (random.random::<f32>() - mean[channel]) / std[channel],
        });
        for (plane, value) in slot.chunks_exact_mut(height * width).zip(colour) {
            for row in plane.chunks_exact_mut(width).take(area.rows.end).skip(area.rows.start) {
                row[area.columns.clone()].fill(value);
            }
        }
    }

    /// The rectangle to erase, drawn as torchvision draws it: up to ten times, until it is smaller
    /// than the picture.
    fn area(&self, random: &mut impl Rng) -> Option<Area> {
        const TRIES: usize = 10;
        let Preprocess { height, width, .. } = self.definition;
        let [low, high] = self.settings.erase_ratio.map(f64::ln);
        let [smallest, largest] = self.settings.erase_area;
        for _ in 0..TRIES {
            let area = (height * width) as f64 * random.random_range(smallest..=largest);
            let ratio = random.random_range(low..=high).exp();
            let rows = (area * ratio).sqrt().round() as usize;
            let columns = (area / ratio).sqrt().round() as usize;
            if rows < height && columns < width {
                let (top, left) = (
                    random.random_range(0..=height - rows),
                    random.random_range(0..=width - columns),
                );
                return Some(Area { rows: top..top + rows, columns: left..left + columns });
            }
        }
        None
    }
}

/// Mean of all values, from 0 to 1.
fn mean(picture: &[u8]) -> f64 {
    let sum: u64 = picture.iter().map(|byte| u64::from(*byte)).sum();
    sum as f64 / (255.0 * picture.len().max(1) as f64)
}

/// How the input is cut out of a picture of `height` and `width`.
struct Crop {
    height: usize,
    width: usize,
    is_mirrored: bool,
    /// Row and column of the mirrored picture where the input begins; outside the picture is black.
    top: isize,
    left: isize,
}

impl Crop {
    /// Bytes to planes by `table`.
    fn write(
        &self,
        picture: &[u8],
        table: &[[f32; 256]; 3],
        definition: &Preprocess,
        slot: &mut [f32],
    ) {
        let (rows, columns) = (definition.height, definition.width);
        let (red, rest) = slot.split_at_mut(rows * columns);
        let (green, blue) = rest.split_at_mut(rows * columns);
        let (pixels, _) = picture.as_chunks::<3>();
        let planes = red
            .chunks_exact_mut(columns)
            .zip(green.chunks_exact_mut(columns))
            .zip(blue.chunks_exact_mut(columns));
        // The columns of the input that lie in the picture.
        let first = (-self.left).clamp(0, columns as isize) as usize;
        let end = (self.width as isize - self.left).clamp(first as isize, columns as isize);
        let inside = first..end as usize;
        let start = (first as isize + self.left).max(0) as usize;
        for (y, ((red, green), blue)) in planes.enumerate() {
            let from = usize::try_from(self.top + y as isize).unwrap_or(usize::MAX);
            if from >= self.height || inside.is_empty() {
                [red, green, blue].into_iter().zip(table).for_each(|(row, t)| row.fill(t[0]));
                continue;
            }
            for (row, table) in [&mut *red, &mut *green, &mut *blue].into_iter().zip(table) {
                row[..inside.start].fill(table[0]);
                row[inside.end..].fill(table[0]);
            }
            let row = &pixels[from * self.width..(from + 1) * self.width];
            let out = red[inside.clone()]
                .iter_mut()
                .zip(&mut green[inside.clone()])
                .zip(&mut blue[inside.clone()]);
            let write = |((red, green), blue): ((&mut f32, &mut f32), &mut f32), p: &[u8; 3]| {
                *red = table[0][usize::from(p[0])];
                *green = table[1][usize::from(p[1])];
                *blue = table[2][usize::from(p[2])];
            };
            match self.is_mirrored {
                false => out.zip(&row[start..]).for_each(|(out, pixel)| write(out, pixel)),
                true => out
                    .zip(row[..self.width - start].iter().rev())
                    .for_each(|(out, pixel)| write(out, pixel)),
            }
        }
    }
}
