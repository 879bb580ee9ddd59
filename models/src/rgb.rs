//! 8-bit RGB pictures: what cameras, files and crops hand to preprocessing.

use crate::{Error, Result};

/// An owned picture: `height` rows of `width` RGB pixels without padding between rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl Rgb {
    /// Takes tightly packed RGB bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a side is zero or the byte count is not `width * height * 3`.
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Result<Self> {
        if width == 0 || height == 0 || data.len() != width as usize * height as usize * 3 {
            return Err(Error::invalid(
                "picture",
                format!("{} bytes are no RGB picture of {width}x{height}", data.len()),
            ));
        }
        Ok(Self { width, height, data })
    }

    /// Width in pixels, never 0.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, never 0.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes, row by row, R G B.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes themselves.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// Borrows the whole picture.
    pub fn view(&self) -> RgbView<'_> {
        RgbView {
            width: self.width,
            height: self.height,
            stride: self.width as usize * 3,
            data: &self.data,
        }
    }
}

/// A borrowed picture or a region of one; rows may be padded (`stride` bytes apart).
#[derive(Clone, Copy, Debug)]
pub struct RgbView<'a> {
    width: u32,
    height: u32,
    stride: usize,
    data: &'a [u8],
}

impl<'a> RgbView<'a> {
    /// Borrows rows of RGB pixels that lie `stride` bytes apart.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a side is zero, rows overlap or the data is too short.
    pub fn new(width: u32, height: u32, stride: usize, data: &'a [u8]) -> Result<Self> {
        let row = width as usize * 3;
        let needed = stride
            .checked_mul((height as usize).saturating_sub(1))
            .and_then(|bytes| bytes.checked_add(row));
        match needed {
            Some(needed) if width > 0 && height > 0 && stride >= row && data.len() >= needed => {
                Ok(Self { width, height, stride, data })
            }
            _ => Err(Error::invalid(
                "picture",
                format!(
                    "{} bytes at a stride of {stride} are no RGB picture of {width}x{height}",
                    data.len()
                ),
            )),
        }
    }

    /// Width in pixels, never 0.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, never 0.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// One row, `width * 3` bytes.
    ///
    /// # Panics
    /// Where `y` is not below the height.
    pub fn row(&self, y: u32) -> &'a [u8] {
        let start = y as usize * self.stride;
        &self.data[start..start + self.width as usize * 3]
    }

    /// The part of this picture inside a rectangle, which is cut to the picture first.
    ///
    /// `None` where nothing is left.
    pub fn region(&self, x: u32, y: u32, width: u32, height: u32) -> Option<RgbView<'a>> {
        let width = width.min(self.width.checked_sub(x)?);
        let height = height.min(self.height.checked_sub(y)?);
        if width == 0 || height == 0 {
            return None;
        }
        let start = y as usize * self.stride + x as usize * 3;
        RgbView::new(width, height, self.stride, self.data.get(start..)?).ok()
    }

    /// Copies into an owned picture without padding.
    pub fn to_rgb(&self) -> Rgb {
        let mut data = Vec::with_capacity(self.width as usize * self.height as usize * 3);
        for y in 0..self.height {
            data.extend_from_slice(self.row(y));
        }
        Rgb { width: self.width, height: self.height, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_cut_to_the_picture_and_keeps_rows_apart() {
        let data: Vec<u8> = (0..4 * 3 * 3).collect();
        let picture = Rgb::new(4, 3, data).unwrap();
        let region = picture.view().region(2, 1, 10, 10).unwrap();
        assert_eq!((region.width(), region.height()), (2, 2));
        assert_eq!(region.row(0), &[18, 19, 20, 21, 22, 23]);
        assert_eq!(region.to_rgb().data()[6..], [30, 31, 32, 33, 34, 35]);
        assert!(picture.view().region(4, 0, 1, 1).is_none());
        assert!(picture.view().region(0, 0, 0, 1).is_none());
    }

    #[test]
    fn a_wrong_byte_count_is_refused() {
        assert!(Rgb::new(2, 2, vec![0; 11]).is_err());
        assert!(Rgb::new(0, 2, vec![]).is_err());
        assert!(RgbView::new(2, 2, 5, &[0; 100]).is_err());
        assert!(RgbView::new(2, 2, 8, &[0; 13]).is_err());
        assert!(RgbView::new(2, 2, 8, &[0; 14]).is_ok());
    }
}
