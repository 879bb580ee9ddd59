//! Picture files, bounded before they are decoded.

use std::{io::Cursor, path::Path};

use image::ImageDecoder;
use spotter_models::Rgb;

use crate::{
    bounded,
    error::{Error, Result},
};

/// Largest side that is decoded; a larger one is a mistake or an attack.
const MAX_SIDE: u32 = 16_384;
/// Largest side of a picture that somebody sent.
const MAX_SENT_SIDE: u32 = 4096;
/// Largest file that is read, and most memory a decoder may take for itself.
const MAX_BYTES: u64 = 256 << 20;

/// Reads a JPEG or PNG file; the content decides which, not the name.
///
/// # Errors
/// [`Error::Io`] where it cannot be read; a model error of kind corrupt where it is no picture.
pub fn read(path: &Path) -> Result<Rgb> {
    decode_as(path, &bounded::read(path, MAX_BYTES)?, MAX_SIDE)
}

/// Decodes a JPEG or PNG picture that somebody else sent: of at most 4,096 pixels a side.
///
/// # Errors
/// A model error of kind corrupt where it is no picture.
pub fn decode(bytes: &[u8]) -> Result<Rgb> {
    decode_as(Path::new("the picture"), bytes, MAX_SENT_SIDE)
}

fn decode_as(path: &Path, bytes: &[u8], max_side: u32) -> Result<Rgb> {
    let broken = |reason: &dyn std::fmt::Display| {
        spotter_models::Error::corrupt(path, format!("is no JPEG or PNG picture: {reason}"))
    };
    let mut reader = image::ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(Error::io(path))?;
    if reader.format() == Some(image::ImageFormat::Jpeg) && is_cut_short(bytes) {
        return Err(broken(&"it ends before the picture does; copy it again").into());
    }
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(max_side);
    limits.max_image_height = Some(max_side);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| broken(&error))?;
    // A telephone that was held upright writes a picture that lies on its side, and says so.
    let orientation = decoder.orientation().map_err(|error| broken(&error))?;
    let mut picture = image::DynamicImage::from_decoder(decoder).map_err(|error| broken(&error))?;
    picture.apply_orientation(orientation);
    let rgb = picture.into_rgb8();
    Ok(Rgb::new(rgb.width(), rgb.height(), rgb.into_raw())?)
}

/// Whether a JPEG file lacks its end: the decoder would fill what is missing with grey and say nothing.
/// Neither marker occurs within coded data; that of a preview picture comes before the scan.
fn is_cut_short(jpeg: &[u8]) -> bool {
    const START_OF_SCAN: [u8; 2] = [0xff, 0xda];
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    let last = |marker| jpeg.windows(2).rposition(|pair| pair == marker);
    last(END_OF_IMAGE) < last(START_OF_SCAN)
}

/// A picture whose longer side has at most so many pixels.
///
/// # Errors
/// Only by a bug.
pub fn shrunk(picture: Rgb, most: u32) -> Result<Rgb> {
    let (width, height) = (picture.width(), picture.height());
    let longer = width.max(height);
    if longer <= most {
        return Ok(picture);
    }
    let side = |side: u32| (u64::from(side) * u64::from(most) / u64::from(longer)).max(1) as u32;
    let buffer = image::RgbImage::from_raw(width, height, picture.data().to_vec())
        .ok_or_else(|| Error::internal("picture", "has other bytes than its size says"))?;
    let filter = image::imageops::FilterType::Triangle;
    let small = image::imageops::resize(&buffer, side(width), side(height), filter);
    Ok(Rgb::new(small.width(), small.height(), small.into_raw())?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_was_cut_short_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("person.jpg");
        let values = (0..64 * 128 * 3).map(|i| (i * 7 % 251) as u8).collect();
        let whole = jpeg(&Rgb::new(64, 128, values).unwrap(), 90).unwrap();
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read(&path).unwrap().height(), 128);
        for length in [whole.len() / 2, whole.len() - 2] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("person.jpg") && error.contains("ends before"), "{error}");
        }
        // Other programs write things behind the end.
        std::fs::write(&path, [&whole[..], &[0; 1000]].concat()).unwrap();
        assert!(read(&path).is_ok());
    }
    #[test]
    fn a_picture_that_lies_on_its_side_is_turned_upright() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telephone.jpg");
        // Red on the left, blue on the right: "turn me by 90 degrees" makes red the upper half.
        let row = [[[255, 0, 0]; 32], [[0, 0, 255]; 32]].concat().concat();
        let lying = jpeg(&Rgb::new(64, 32, row.repeat(32)).unwrap(), 95).unwrap();
        // Exif with the one entry 0x0112 (orientation) of value 6, in big-endian order.
        let entry = [0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0];
        let tiff = [&b"MM\0*\0\0\0\x08\0\x01"[..], &entry, &[0; 4]].concat();
        let exif = [&b"Exif\0\0"[..], &tiff].concat();
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        let (start, rest) = lying.split_at(2);
        let file = [start, &[0xff, 0xe1], &length, &exif, rest].concat();
        std::fs::write(&path, file).unwrap();
        let upright = read(&path).unwrap();
        assert_eq!((upright.width(), upright.height()), (32, 64));
        let (top, bottom) = (upright.view().row(8), upright.view().row(56));
        assert!(top[0] > 200 && top[2] < 60, "red is up: {:?}", &top[..3]);
        assert!(bottom[2] > 200 && bottom[0] < 60, "blue is down: {:?}", &bottom[..3]);
    }
}
