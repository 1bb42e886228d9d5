//! Pictures on the way to the network: decode, resize and crop as Pillow and torchvision do, gray.
//!
//! ```text
//! JPEG, PNG, WebP, BMP bytes ─► decode ─► RGB or RGBA, 8 bit, upright ─► fit (resize, crop) ─► network input, u8 NHWC
//! ```
//!
//! Host and board share this code, so both see the same pixels. A picture is `[height][width][channels]`,
//! rows from the top, no padding between them. Of 2 or 4 channels the last is alpha, as in Pillow's modes `LA` and
//! `RGBA`; colours are not multiplied by it.
//!
//! ```
//! use vgg_edge_blob::{ResizeFilter, ResizeRule};
//! use vgg_edge_engine::image::{Image, fit};
//! let gray = Image::new(vec![0, 100, 200, 50], 2, 2, 1).unwrap();
//! let wide = fit(gray.view(), ResizeRule::Stretch, ResizeFilter::Bilinear, 4, 2);
//! assert_eq!(wide.data(), [0, 25, 75, 100, 200, 163, 88, 50]);
//! ```

#[cfg(feature = "decode")]
mod decode;
mod fit;
#[cfg(feature = "decode")]
mod orientation;
mod prepare;
mod resize;

#[cfg(feature = "decode")]
pub use decode::{DecodeError, EXTENSIONS, Limits, decode, has_picture_name, size};
pub use fit::fit;
pub use prepare::prepare;

use alloc::vec::Vec;

/// Pictures have at most this many channels.
pub const MAX_CHANNELS: usize = 4;

/// Why bytes are not a picture of the stated shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A side is zero, or there are no or too many channels.
    #[error(
        "picture of {width}x{height} pixels and {channels} channels, expected sides >= 1 and 1 to 4 channels"
    )]
    Shape {
        /// Pixels of a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Values of a pixel.
        channels: usize,
    },
    /// The byte count is not the product of the shape.
    #[error("picture of {width}x{height} pixels and {channels} channels has {found} bytes")]
    Length {
        /// Pixels of a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Values of a pixel.
        channels: usize,
        /// Bytes given.
        found: usize,
    },
}

/// A borrowed picture, `[height][width][channels]`, 8 bit; its length is checked.
#[derive(Clone, Copy, Debug)]
pub struct ImageView<'a> {
    data: &'a [u8],
    width: usize,
    height: usize,
    channels: usize,
}

impl<'a> ImageView<'a> {
    /// A view of `data`, which holds `height * width * channels` bytes.
    ///
    /// # Errors
    /// When a side is zero, `channels` is not 1 to 4, or the length differs.
    pub fn new(data: &'a [u8], width: usize, height: usize, channels: usize) -> Result<Self, ShapeError> {
        if width == 0 || height == 0 || channels == 0 || channels > MAX_CHANNELS {
            return Err(ShapeError::Shape { width, height, channels });
        }
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(channels));
        if expected != Some(data.len()) {
            return Err(ShapeError::Length { width, height, channels, found: data.len() });
        }
        Ok(Self { data, width, height, channels })
    }

    /// The bytes, `[height][width][channels]`.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Pixels of a row, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Values of a pixel, 1 to 4.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Row `y` in `0..height`.
    fn row(&self, y: usize) -> &'a [u8] {
        let pitch = self.width * self.channels;
        &self.data[y * pitch..][..pitch]
    }
}

/// An owned picture, `[height][width][channels]`, 8 bit; its length is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    data: Vec<u8>,
    width: usize,
    height: usize,
    channels: usize,
}

impl Image {
    /// A picture of `data`, which holds `height * width * channels` bytes.
    ///
    /// # Errors
    /// As [`ImageView::new`].
    pub fn new(data: Vec<u8>, width: usize, height: usize, channels: usize) -> Result<Self, ShapeError> {
        ImageView::new(&data, width, height, channels)?;
        Ok(Self { data, width, height, channels })
    }

    /// The picture, borrowed.
    pub fn view(&self) -> ImageView<'_> {
        ImageView { data: &self.data, width: self.width, height: self.height, channels: self.channels }
    }

    /// The bytes, `[height][width][channels]`.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes, without the shape.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// Pixels of a row, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Values of a pixel, 1 to 4.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The luma of an RGB or RGBA picture as Pillow's mode `L` has it, `(19595 R + 38470 G + 7471 B + 2^15) >> 16`,
    /// alpha dropped; a picture of 1 or 2 channels comes back as it is.
    pub fn to_gray(self) -> Image {
        if self.channels < 3 {
            return self;
        }
        let luma = |p: &[u8]| {
            let [r, g, b] = [u32::from(p[0]), u32::from(p[1]), u32::from(p[2])];
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        };
        Image { data: self.data.chunks_exact(self.channels).map(luma).collect(), channels: 1, ..self }
    }

    /// The colours of an RGBA picture, alpha dropped, as Pillow's `convert("RGB")` does; a picture of fewer
    /// channels comes back as it is.
    pub fn to_rgb(mut self) -> Image {
        if self.channels == 4 {
            let n_pixels = self.data.len() / 4;
            for i in 0..n_pixels {
                self.data.copy_within(i * 4..i * 4 + 3, i * 3);
            }
            self.data.truncate(n_pixels * 3);
            self.channels = 3;
        }
        self
    }

    /// An RGB picture with an alpha of 255, opaque; a picture of other channels comes back as it is.
    pub fn to_rgba(self) -> Image {
        if self.channels != 3 {
            return self;
        }
        let data = self.data.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
        Image { data, channels: 4, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec};

    #[test]
    fn wrong_shapes_are_refused_with_their_values() {
        let e = Image::new(vec![0; 5], 2, 3, 1).unwrap_err();
        assert_eq!(e.to_string(), "picture of 2x3 pixels and 1 channels has 5 bytes");
        assert!(matches!(ImageView::new(&[], 0, 3, 1), Err(ShapeError::Shape { width: 0, .. })));
        assert!(matches!(ImageView::new(&[0; 5], 1, 1, 5), Err(ShapeError::Shape { channels: 5, .. })));
        assert!(ImageView::new(&[0; 4], usize::MAX, usize::MAX, 4).is_err());
    }

    #[test]
    fn gray_keeps_gray_pictures_and_weighs_colours() {
        let image = Image::new(vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 77, 77, 77], 4, 1, 3).unwrap();
        assert_eq!(image.clone().to_gray().data(), [76, 150, 29, 77]);
        let mut clear = image.to_rgba();
        clear.data[15] = 0;
        assert_eq!(clear.clone().to_gray().data(), [76, 150, 29, 77]);
        assert_eq!(clear.clone().to_gray().to_rgba(), clear.to_gray());
    }

    #[test]
    fn alpha_comes_and_goes() {
        let rgb = Image::new(vec![1, 2, 3, 4, 5, 6], 1, 2, 3).unwrap();
        let rgba = rgb.clone().to_rgba();
        assert_eq!((rgba.data(), rgba.channels()), (&[1, 2, 3, 255, 4, 5, 6, 255][..], 4));
        assert_eq!(rgba.clone().to_rgba(), rgba);
        assert_eq!(rgba.to_rgb(), rgb);
    }
}
