//! Pictures within a page.

use image::{ExtendedColorType, codecs::jpeg::JpegEncoder, imageops};
use spotter_models::Rgb;

use crate::error::{Error, Result};

/// Height in pixels beyond which a picture is made smaller: twice what a page shows.
const HEIGHT: u32 = 352;

/// Quality of JPEG, of 100.
const QUALITY: u8 = 80;

/// A picture as an address that holds the JPEG itself.
///
/// # Errors
/// Only by a bug: the encoder writes to memory.
pub fn inline_jpeg(picture: &Rgb) -> Result<String> {
    let fault = |error: &dyn std::fmt::Display| {
        Error::from(spotter_models::Error::internal("JPEG encoder", error))
    };
    let (width, height) = (picture.width(), picture.height());
    let mut shown = image::RgbImage::from_raw(width, height, picture.data().to_vec())
        .ok_or_else(|| fault(&"the picture's size does not fit its bytes"))?;
    if height > HEIGHT {
        let narrow = (u64::from(width) * u64::from(HEIGHT) / u64::from(height)).max(1);
        let narrow = u32::try_from(narrow).unwrap_or(width);
        shown = imageops::resize(&shown, narrow, HEIGHT, imageops::FilterType::Triangle);
    }
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode(shown.as_raw(), shown.width(), shown.height(), ExtendedColorType::Rgb8)
        .map_err(|error| fault(&error))?;
    Ok(format!("data:image/jpeg;base64,{}", base64(&bytes)))
}

/// Base64 of RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= group.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs = ["", "", "f", "Zg==", "fo", "Zm8=", "foo", "Zm9v", "foobar", "Zm9vYmFy"];
        for pair in pairs.chunks_exact(2) {
            assert_eq!(base64(pair[0].as_bytes()), pair[1]);
        }
    }

    #[test]
    fn a_page_holds_the_picture_no_larger_than_it_is_shown() {
        let large = Rgb::new(300, 900, vec![90; 300 * 900 * 3]).unwrap();
        let address = inline_jpeg(&large).unwrap();
        assert!(address.starts_with("data:image/jpeg;base64,/9j/"), "{address}");
        assert!(address.len() < 8000, "{}", address.len());
    }
}
