//! A frame: bytes as the camera gave them, and how they become a picture.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use jpeg_encoder::{ColorType, Encoder};
use vgg_edge_engine::image::{Image, Limits, decode};

use super::mjpeg;
use super::yuv::{self, Colours};

/// Quality of a preview, 1 to 100.
const QUALITY: u8 = 80;

/// What a frame's bytes are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pixels {
    Yuyv {
        /// Pixels of a row and rows.
        size: (usize, usize),
        /// From a row's first byte to the next row's.
        bytes_per_line: usize,
        colours: Colours,
    },
    /// JPEG, perhaps without Huffman tables.
    Mjpeg,
    /// A picture file's contents.
    File,
}

/// One frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) pixels: Pixels,
    pub(crate) captured: Captured,
}

/// When a frame was captured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Captured {
    pub(crate) at: Instant,
    pub(crate) unix_ms: u64,
}

impl Captured {
    /// `age` ago.
    pub(crate) fn ago(age: Duration) -> Self {
        let now = Instant::now();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = since.saturating_sub(age).as_millis() as u64;
        Self { at: now.checked_sub(age).unwrap_or(now), unix_ms }
    }
}

impl Frame {
    /// The picture, RGB or RGBA, turned clockwise by `quarters` of a full turn.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub(crate) fn picture(&self, quarters: u8) -> Result<Image> {
        let image = match &self.pixels {
            Pixels::Yuyv { size, bytes_per_line, colours } => {
                let (width, height) = *size;
                let rgb = yuv::to_rgb(&self.bytes, *size, *bytes_per_line, colours).ok_or_else(|| {
                    let found = self.bytes.len();
                    anyhow!("YUYV frame of {width}x{height} pixels, {bytes_per_line} bytes a row, has {found} bytes")
                })?;
                Image::new(rgb, width, height, 3)?
            }
            Pixels::Mjpeg => decode(&mjpeg::with_tables(&self.bytes), Limits::default())?,
            Pixels::File => decode(&self.bytes, Limits::default())?,
        };
        turn(image, quarters)
    }

    /// The frame as JPEG: the camera's own where it is one and was not turned, else `picture`, which is this frame's, coded.
    pub(crate) fn preview(&self, picture: &Image, quarters: u8) -> Result<Arc<[u8]>> {
        if quarters == 0
            && self.bytes.starts_with(&[0xff, 0xd8, 0xff])
            && !matches!(self.pixels, Pixels::Yuyv { .. })
        {
            return Ok(mjpeg::with_tables(&self.bytes).as_ref().into());
        }
        let rgb = if picture.channels() == 3 {
            Cow::Borrowed(picture)
        } else {
            Cow::Owned(picture.clone().to_rgb())
        };
        let (Ok(width), Ok(height)) = (u16::try_from(rgb.width()), u16::try_from(rgb.height())) else {
            return Err(anyhow!(
                "a preview of {}x{} pixels, the limit is 65535 a side",
                rgb.width(),
                rgb.height()
            ));
        };
        let mut jpeg = Vec::new();
        Encoder::new(&mut jpeg, QUALITY).encode(rgb.data(), width, height, ColorType::Rgb)?;
        Ok(jpeg.into())
    }
}

/// Turns a picture clockwise by `quarters` of a full turn.
pub(crate) fn turn(image: Image, quarters: u8) -> Result<Image> {
    let (width, height, channels) = (image.width(), image.height(), image.channels());
    let (width_after, height_after) = match quarters % 4 {
        0 => return Ok(image),
        2 => (width, height),
        _ => (height, width),
    };
    let mut data = Vec::with_capacity(image.data().len());
    for y in 0..height_after {
        for x in 0..width_after {
            let (x, y) = match quarters % 4 {
                1 => (y, height - 1 - x),
                2 => (width - 1 - x, height - 1 - y),
                _ => (width - 1 - y, x),
            };
            data.extend_from_slice(&image.data()[(y * width + x) * channels..][..channels]);
        }
    }
    Ok(Image::new(data, width_after, height_after, channels)?)
}
