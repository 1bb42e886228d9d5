//! JPEG and PNG bytes to RGB or RGBA, 8 bit: by content, not by name, with sizes limited before any allocation.
//!
//! ```text
//! gray, RGB, palette, 16 bit, interlaced PNG; gray, YCbCr, CMYK, progressive JPEG  ─►  RGB
//! the same PNG with alpha, or with a transparent colour (tRNS)                     ─►  RGBA
//! ```
//!
//! 16-bit values keep their high byte, as with Pillow's `convert("RGB")` and `convert("RGBA")` (but for 16-bit gray,
//! which it clips to all but white: there we differ); a rotation in the EXIF data is not applied, as there. A file
//! that ends early is an error, never half a picture.
//!
//! ```
//! use vgg_edge_engine::image::{DecodeError, Limits, decode};
//! let error = decode(b"GIF89a...", Limits::default()).unwrap_err();
//! assert_eq!(error, DecodeError::Unsupported { format: "GIF" });
//! assert_eq!(error.to_string(), "GIF picture, expected JPEG or PNG");
//! ```

use std::io::{Cursor, ErrorKind};
use std::string::{String, ToString};
use std::{format, vec, vec::Vec};

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use super::Image;

/// What a picture may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most pixels; decoding takes up to 12 bytes a pixel (progressive JPEG). Default 2^26.
    pub pixels: u64,
    /// Longest side in pixels; what JPEG allows. Default 65,535.
    pub side: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pixels: 1 << 26, side: 65_535 }
    }
}

/// Why bytes are no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No bytes at all.
    #[error("0 bytes, expected a JPEG or PNG picture")]
    Empty,
    /// The first bytes belong to no picture format this program knows.
    #[error("not a picture: starts with {start}, expected JPEG (ff d8 ff) or PNG (89 50 4e 47)")]
    NotAPicture {
        /// The first bytes in hexadecimal.
        start: String,
    },
    /// A picture of another format, or of a kind of JPEG that is not decoded.
    #[error("{format} picture, expected JPEG or PNG")]
    Unsupported {
        /// The format's name.
        format: &'static str,
    },
    /// More pixels, or a longer side, than the limits allow.
    #[error("{width}x{height} pixels, the limit is {pixels} pixels and {side} a side")]
    TooLarge {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit of pixels.
        pixels: u64,
        /// The limit of a side.
        side: u32,
    },
    /// The file ends before the picture does.
    #[error("{format} picture is cut off: it goes on after the file's {len} bytes")]
    Truncated {
        /// `JPEG` or `PNG`.
        format: &'static str,
        /// Bytes of the file.
        len: usize,
    },
    /// The decoder refused the contents.
    #[error("damaged {format} picture: {reason}")]
    Damaged {
        /// `JPEG` or `PNG`.
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
}

/// Decodes a JPEG or PNG file: RGB, `[height][width][3]`, or RGBA, `[height][width][4]`, when it has transparency.
///
/// # Errors
/// When the bytes are no complete JPEG or PNG picture within `limits`.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Image, DecodeError> {
    match bytes {
        [] => Err(DecodeError::Empty),
        [0xff, 0xd8, 0xff, ..] => decode_jpeg(bytes, limits),
        [0x89, b'P', b'N', b'G', ..] => decode_png(bytes, limits),
        _ => Err(name_format(bytes)),
    }
}

/// The error for bytes that are neither JPEG nor PNG.
fn name_format(bytes: &[u8]) -> DecodeError {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|b| b.starts_with(magic));
    let known: [(usize, &[u8], &str); 12] = [
        (8, b"WEBP", "WebP"),
        (0, b"GIF8", "GIF"),
        (4, b"ftypavif", "AVIF"),
        (4, b"ftypavis", "AVIF"),
        (4, b"ftyphei", "HEIC"),
        (4, b"ftypmif1", "HEIF"),
        (0, b"II*\0", "TIFF"),
        (0, b"MM\0*", "TIFF"),
        (0, b"\xff\x0a", "JPEG XL"),
        (4, b"JXL ", "JPEG XL"),
        (4, b"jP  ", "JPEG 2000"),
        (0, b"8BPS", "Photoshop"),
    ];
    if let Some((.., format)) = known.iter().find(|(offset, magic, _)| at(*offset, magic)) {
        return DecodeError::Unsupported { format };
    }
    // Two letters are a weak sign, so the header's reserved zeros must be there too.
    if at(0, b"BM") && at(6, &[0; 4]) {
        return DecodeError::Unsupported { format: "BMP" };
    }
    if matches!(bytes, [b'P', b'1'..=b'6', b' ' | b'\n' | b'\r' | b'\t', ..]) {
        return DecodeError::Unsupported { format: "PNM" };
    }
    let start: Vec<String> = bytes.iter().take(4).map(|b| format!("{b:02x}")).collect();
    DecodeError::NotAPicture { start: start.join(" ") }
}

impl Limits {
    fn check(self, width: u32, height: u32) -> Result<(), DecodeError> {
        let Self { pixels, side } = self;
        if u64::from(width) * u64::from(height) > pixels || width.max(height) > side {
            return Err(DecodeError::TooLarge { width, height, pixels, side });
        }
        Ok(())
    }
}

fn damaged(format: &'static str, reason: impl ToString) -> DecodeError {
    DecodeError::Damaged { format, reason: reason.to_string() }
}

/// What a walk over a JPEG file's markers finds.
struct JpegFrame {
    width: u32,
    height: u32,
}

/// Walks all markers, to the end-of-image marker: the decoder itself would fill what is missing with gray.
fn walk_jpeg(bytes: &[u8]) -> Result<JpegFrame, DecodeError> {
    let cut = || DecodeError::Truncated { format: "JPEG", len: bytes.len() };
    let mut frame = None;
    let mut at = 2;
    loop {
        // Bytes up to the next marker: none between segments, the coded picture after a scan header.
        // `ff 00` is a coded ff, `ff d0` to `ff d7` restart the decoder, `ff ff` is padding.
        let marker = loop {
            at += bytes.get(at..).and_then(|b| b.iter().position(|&b| b == 0xff)).ok_or_else(cut)? + 1;
            match *bytes.get(at).ok_or_else(cut)? {
                0x00 | 0x01 | 0xd0..=0xd8 => at += 1,
                0xff => {}
                marker => break marker,
            }
        };
        at += 1;
        if marker == 0xd9 {
            return frame.ok_or_else(|| damaged("JPEG", "no frame header"));
        }
        let word = |i: usize| match bytes.get(i..i + 2) {
            Some(b) => Ok(u16::from_be_bytes([b[0], b[1]])),
            None => Err(cut()),
        };
        let len = usize::from(word(at)?);
        match marker {
            0xc0..=0xc2 if frame.is_none() => {
                frame = Some(JpegFrame { height: word(at + 3)?.into(), width: word(at + 5)?.into() });
            }
            0xc3 | 0xc7 => return Err(DecodeError::Unsupported { format: "lossless JPEG" }),
            0xc5 | 0xc6 => return Err(DecodeError::Unsupported { format: "hierarchical JPEG" }),
            0xc9..=0xcb | 0xcd..=0xcf => {
                return Err(DecodeError::Unsupported { format: "arithmetic-coded JPEG" });
            }
            _ => {}
        }
        at += len.max(2);
    }
}

fn decode_jpeg(bytes: &[u8], limits: Limits) -> Result<Image, DecodeError> {
    let frame = walk_jpeg(bytes)?;
    limits.check(frame.width, frame.height)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(frame.width as usize)
        .set_max_height(frame.height as usize)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let data = decoder.decode().map_err(|e| damaged("JPEG", e))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| damaged("JPEG", "no frame header"))?;
    Image::new(data, width, height, 3).map_err(|e| damaged("JPEG", e))
}

fn png_error(error: png::DecodingError, len: usize) -> DecodeError {
    match error {
        png::DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: "PNG", len }
        }
        e => damaged("PNG", e),
    }
}

/// The decoder takes a palette that is not made of whole colours, and then indexes out of bounds.
fn check_palette(info: &png::Info<'_>) -> Result<(), DecodeError> {
    let len = info.palette.as_ref().map_or(0, |palette| palette.len());
    if info.color_type == png::ColorType::Indexed && !len.is_multiple_of(3) {
        return Err(damaged("PNG", format_args!("palette of {len} bytes, expected 3 a colour")));
    }
    Ok(())
}

fn decode_png(bytes: &[u8], limits: Limits) -> Result<Image, DecodeError> {
    // Rows and compression tables; the pixels are ours and counted below.
    let working_memory = png::Limits { bytes: (limits.side as usize).saturating_mul(32).max(1 << 20) };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), working_memory);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let len = bytes.len();
    let header = decoder.read_header_info().map_err(|e| png_error(e, len))?;
    let (width, height) = (header.width, header.height);
    limits.check(width, height)?;
    let mut reader = decoder.read_info().map_err(|e| png_error(e, len))?;
    check_palette(reader.info())?;
    let size = reader.output_buffer_size().ok_or_else(|| damaged("PNG", "size overflows"))?;
    let mut data = vec![0; size];
    let info = reader.next_frame(&mut data).map_err(|e| png_error(e, len))?;
    data.truncate(info.buffer_size());
    let (data, channels) = match info.color_type.samples() {
        1 => (data.iter().flat_map(|&v| [v; 3]).collect(), 3),
        2 => (data.as_chunks().0.iter().flat_map(|&[v, alpha]| [v, v, v, alpha]).collect(), 4),
        channels => (data, channels),
    };
    Image::new(data, info.width as usize, info.height as usize, channels).map_err(|e| damaged("PNG", e))
}
