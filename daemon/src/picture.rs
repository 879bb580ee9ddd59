//! Picture files, bounded before they are decoded.

use std::path::Path;

use image::ImageDecoder;
use spotter_models::Rgb;

use crate::error::{Error, Result};

/// Largest side that is decoded; a larger one is a mistake or an attack.
const MAX_SIDE: u32 = 16_384;
/// Most memory a decoder may take for itself.
const MAX_BYTES: u64 = 256 << 20;

/// Reads a JPEG or PNG file; the content decides which, not the name.
///
/// # Errors
/// [`Error::Io`] where it cannot be read; a model error of kind corrupt where it is no picture.
pub fn read(path: &Path) -> Result<Rgb> {
    let about = std::fs::metadata(path).map_err(Error::io(path))?;
    if !about.is_file() {
        return Err(
            spotter_models::Error::corrupt(path, "is no file but a folder or device").into()
        );
    }
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut reader = image::ImageReader::new(std::io::BufReader::new(file))
        .with_guessed_format()
        .map_err(Error::io(path))?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let broken = |error: image::ImageError| {
        spotter_models::Error::corrupt(path, format!("is no JPEG or PNG picture: {error}"))
    };
    let mut decoder = reader.into_decoder().map_err(broken)?;
    // A telephone that was held upright writes a picture that lies on its side, and says so.
    let orientation = decoder.orientation().map_err(broken)?;
    let mut picture = image::DynamicImage::from_decoder(decoder).map_err(broken)?;
    picture.apply_orientation(orientation);
    let rgb = picture.into_rgb8();
    Ok(Rgb::new(rgb.width(), rgb.height(), rgb.into_raw())?)
}

/// Encodes a picture as JPEG.
///
/// # Errors
/// Only by a bug.
pub fn jpeg(picture: &Rgb, quality: u8) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(picture.data(), picture.width(), picture.height(), image::ExtendedColorType::Rgb8)
        .map_err(|error| Error::internal("JPEG encoder", error))?;
    Ok(bytes)
}
