//! JPEG, PNG, WebP and BMP bytes to RGB or RGBA, 8 bit: by content, not by name, sizes limited before any allocation.
//!
//! ```text
//! gray, YCbCr, CMYK, progressive JPEG; gray, RGB, palette, 16 bit, interlaced PNG;
//! lossy, lossless WebP; 1 to 32 bit, RLE BMP                                        ─►  RGB
//! those with alpha, or with a transparent colour (tRNS)                             ─►  RGBA
//! ```
//!
//! The pixels are Pillow's `convert("RGB")` and `convert("RGBA")` of the upright picture: 16-bit values keep their high
//! byte (but for 16-bit gray, which Pillow clips to all but white: there we differ), and the orientation in the EXIF
//! data of a JPEG, PNG or WebP file is applied, for which Pillow needs `ImageOps.exif_transpose`. A file that ends
//! early is an error, never half a picture; so is an animated WebP. Of an animated PNG the still picture is taken.
//!
//! ```
//! use vgg_edge_engine::image::{DecodeError, Limits, decode};
//! let error = decode(b"GIF89a...", Limits::default()).unwrap_err();
//! assert_eq!(error, DecodeError::Unsupported { format: "GIF" });
//! assert_eq!(error.to_string(), "GIF picture, expected JPEG, PNG, WebP or BMP");
//! ```

mod bmp;
mod jpeg;
mod png;
mod webp;

use std::string::{String, ToString};
use std::vec::Vec;

use super::Image;
use super::orientation::Orientation;

/// How names of the pictures that [`decode`] takes end, lower case; [`has_picture_name`] compares.
pub const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];

/// Whether a file's name ends as pictures' names do, in any case. [`decode`] itself goes by the content.
///
/// ```
/// use vgg_edge_engine::image::has_picture_name;
/// assert!(has_picture_name("photos/IMG_1.JPG".as_ref()) && !has_picture_name("photos/jpg".as_ref()));
/// ```
pub fn has_picture_name(path: &std::path::Path) -> bool {
    let known = |end: &std::ffi::OsStr| EXTENSIONS.iter().any(|known| end.eq_ignore_ascii_case(known));
    path.extension().is_some_and(known)
}

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
    #[error("0 bytes, expected a JPEG, PNG, WebP or BMP picture")]
    Empty,
    /// The first bytes belong to no picture format this program knows.
    #[error(
        "not a picture: starts with {start}, expected JPEG (ff d8 ff), PNG (89 50 4e 47), WebP (RIFF) or BMP (BM)"
    )]
    NotAPicture {
        /// The first bytes in hexadecimal.
        start: String,
    },
    /// A picture of another format, or of a kind of these formats that is not decoded.
    #[error("{format} picture, expected JPEG, PNG, WebP or BMP")]
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
        /// `JPEG`, `PNG`, `WebP` or `BMP`.
        format: &'static str,
        /// Bytes of the file.
        len: usize,
    },
    /// The decoder refused the contents.
    #[error("damaged {format} picture: {reason}")]
    Damaged {
        /// `JPEG`, `PNG`, `WebP` or `BMP`.
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
}

/// A picture as it is stored, and how it is turned upright.
struct Decoded {
    image: Image,
    orientation: Orientation,
}

/// Which decoder a file is for.
enum Format {
    Jpeg,
    Png,
    WebP,
    Bmp,
}

/// Decodes a picture file, upright: RGB, `[height][width][3]`, or RGBA, `[height][width][4]`, when it has transparency.
///
/// # Errors
/// When the bytes are no complete JPEG, PNG, WebP or BMP picture within `limits`.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Image, DecodeError> {
    size(bytes, limits)?;
    let decoded = match format(bytes)? {
        Format::Jpeg => jpeg::decode(bytes),
        Format::Png => png::decode(bytes, limits.side),
        Format::WebP => webp::decode(bytes),
        Format::Bmp => bmp::decode(bytes),
    }?;
    Ok(decoded.orientation.apply(decoded.image))
}

/// Pixels of a row and rows of a picture file, as they are stored: before it is turned upright. Decodes nothing.
///
/// # Errors
/// When the header cannot be read, or exceeds `limits`. Other damage is left to [`decode`].
pub fn size(bytes: &[u8], limits: Limits) -> Result<(u32, u32), DecodeError> {
    let (width, height) = match format(bytes)? {
        Format::Jpeg => jpeg::size(bytes),
        Format::Png => png::size(bytes, limits.side),
        Format::WebP => webp::size(bytes),
        Format::Bmp => bmp::size(bytes),
    }?;
    limits.check(width, height)?;
    Ok((width, height))
}

fn format(bytes: &[u8]) -> Result<Format, DecodeError> {
    match bytes {
        [] => Err(DecodeError::Empty),
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', ..] => Ok(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        _ if bmp::is_bmp(bytes) => Ok(Format::Bmp),
        _ => Err(name_format(bytes)),
    }
}

/// The error for bytes that are of none of our formats.
fn name_format(bytes: &[u8]) -> DecodeError {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|b| b.starts_with(magic));
    let known: [(usize, &[u8], &str); 11] = [
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
