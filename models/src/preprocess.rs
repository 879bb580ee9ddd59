//! Crop to tensor: the one definition, for the trainer, the exporter's probe and the daemon.
//!
//! A crop of any size and shape is stretched to the model's input with an antialiased triangle
//! filter on 8-bit values, as Pillow's bilinear resize does, then normalised per channel. It must
//! never know where a crop came from.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, RgbView};

/// CLIP's channel means, of values from 0 to 1.
pub const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];

/// CLIP's channel standard deviations, of values from 0 to 1; the last digits of the published
/// 0.26130258 and 0.27577711 are beyond f32.
pub const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Largest side of an input in pixels: far above any tower, and small enough that the byte count of
/// a tensor cannot overflow.
const LARGEST_SIDE: usize = 1 << 14;

/// How a crop becomes the vision tower's input; part of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Height of the input in pixels.
    pub height: usize,
    /// Width of the input in pixels.
    pub width: usize,
    /// What is subtracted from each channel's value between 0 and 1; red, green, blue.
    pub mean: [f32; 3],
    /// What each channel is divided by then.
    pub std: [f32; 3],
}

impl Preprocess {
    /// CLIP's normalisation at a size in pixels.
    pub fn clip(height: usize, width: usize) -> Self {
        Self { height, width, mean: CLIP_MEAN, std: CLIP_STD }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Mismatch`] that names the first setting that cannot be.
    pub fn validate(&self) -> Result<()> {
        for (name, side) in [("height", self.height), ("width", self.width)] {
            if side == 0 || side > LARGEST_SIDE {
                return Err(Error::mismatch(
                    format!("preprocess.{name}"),
                    format!("{side} is not between 1 and {LARGEST_SIDE} pixels"),
                ));
            }
        }
        if let Some(mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return Err(Error::mismatch("preprocess.mean", format!("{mean} is no finite number")));
        }
        // A tiny deviation would turn the rounding of a pixel into the whole signal.
        if let Some(std) = self.std.iter().find(|std| !std.is_finite() || **std < 1e-3) {
            return Err(Error::mismatch("preprocess.std", format!("{std} is not at least 0.001")));
        }
        Ok(())
    }

    /// Values of one input: three planes of `height * width`.
    pub fn len(&self) -> usize {
        3 * self.height * self.width
    }

    /// Whether an input has no values; never, after [`Preprocess::validate`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Does what a [`Preprocess`] says, with buffers that are kept from crop to crop. One per thread.
pub struct Preprocessor {
    definition: Preprocess,
    resizer: Resizer,
    options: ResizeOptions,
    /// A crop's rows without the gaps between them.
    packed: Vec<u8>,
    /// The crop after its first pass, which is along one axis.
    halfway: Vec<u8>,
    resized: Image<'static>,
    /// The result for each value of a byte in each channel. Looking it up costs what computing it
    /// would, and the values are exactly those of the division.
    table: [[f32; 256]; 3],
}

impl Preprocessor {
    /// Allocates the buffers.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the definition cannot be.
    pub fn new(definition: Preprocess) -> Result<Self> {
        definition.validate()?;
        let side = |side: usize| {
            u32::try_from(side).map_err(|_| Error::mismatch("preprocess", format!("{side} pixels")))
        };
        let (width, height) = (side(definition.width)?, side(definition.height)?);
        let mut table = [[0.0; 256]; 3];
        for ((values, mean), std) in table.iter_mut().zip(definition.mean).zip(definition.std) {
            for (byte, value) in values.iter_mut().enumerate() {
                *value = (byte as f32 / 255.0 - mean) / std;
            }
        }
        Ok(Self {
            definition,
            resizer: Resizer::new(),
            options: ResizeOptions::new()
                .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
                .use_alpha(false),
            packed: Vec::new(),
            halfway: Vec::new(),
            resized: Image::new(width, height, PixelType::U8x3),
            table,
        })
    }

    /// The definition this follows.
    pub fn definition(&self) -> &Preprocess {
        &self.definition
    }

    /// Writes a crop's tensor, planes of red, green and blue of `height * width` values, into a slot
    /// of a batch.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the slot is not of [`Preprocess::len`] values,
    /// [`Error::Internal`] where the resizer refuses.
    pub fn run(&mut self, picture: RgbView<'_>, slot: &mut [f32]) -> Result<()> {
        if slot.len() != self.definition.len() {
            return Err(Error::mismatch(
                "batch slot",
                format!("{} values instead of {}", slot.len(), self.definition.len()),
            ));
        }
        self.stretch(picture)?;
        normalise(self.resized.buffer(), &self.table, slot);
        Ok(())
    }

    /// A crop at the input's size and not yet normalised: `height * width` pixels of R G B, for the
    /// trainer, which changes pictures before it normalises them.
    ///
    /// # Errors
    /// [`Error::Internal`] where the resizer refuses.
    pub fn stretch(&mut self, picture: RgbView<'_>) -> Result<&[u8]> {
        self.packed.clear();
        for y in 0..picture.height() {
            self.packed.extend_from_slice(picture.row(y));
        }
        self.resize(picture.width(), picture.height())?;
        Ok(self.resized.buffer())
    }

    /// Stretches the packed crop to the model's input, one axis after the other.
    ///
    /// The order matters because the values between the passes are bytes again. The library would
    /// always begin with the columns; this is the choice of Pillow 13, found by trying 240 sizes: along the
    /// rows first, unless the height shrinks by more than twice what the width does.
    fn resize(&mut self, width: u32, height: u32) -> Result<()> {
        let (to_width, to_height) = (self.resized.width(), self.resized.height());
        let shrinks = |from: u32, to: u32| i64::from(from) - i64::from(to);
        let columns_first =
            height > to_height && shrinks(height, to_height) > 2 * shrinks(width, to_width);
        let (mid_width, mid_height) =
            if columns_first { (width, to_height) } else { (to_width, height) };
        let fault = |error: &dyn std::fmt::Display| Error::internal("resize", error);
        let source = ImageRef::new(width, height, &self.packed, PixelType::U8x3)
            .map_err(|error| fault(&error))?;
        self.halfway.resize(mid_width as usize * mid_height as usize * 3, 0);
        let mut halfway =
            Image::from_slice_u8(mid_width, mid_height, &mut self.halfway, PixelType::U8x3)
                .map_err(|error| fault(&error))?;
        self.resizer
            .resize(&source, &mut halfway, &self.options)
            .and_then(|()| self.resizer.resize(&halfway, &mut self.resized, &self.options))
            .map_err(|error| fault(&error))
    }
}

/// Interleaved bytes to planes of normalised values.
fn normalise(pixels: &[u8], table: &[[f32; 256]; 3], slot: &mut [f32]) {
    let (red, rest) = slot.split_at_mut(slot.len() / 3);
    let (green, blue) = rest.split_at_mut(rest.len() / 2);
    let (pixels, _) = pixels.as_chunks::<3>();
    let planes = red.iter_mut().zip(green).zip(blue);
    for (&[r, g, b], ((red, green), blue)) in pixels.iter().zip(planes) {
        *red = table[0][usize::from(r)];
        *green = table[1][usize::from(g)];
        *blue = table[2][usize::from(b)];
    }
}
