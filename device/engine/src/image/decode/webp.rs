//! WebP: lossy, lossless, with alpha; one picture, no animation.
//!
//! ```text
//! "RIFF" size "WEBP" | "VP8 " lossy  or  "VP8L" lossless  or  "VP8X" ["ALPH"] "VP8 "|"VP8L" ["EXIF"]
//! ```
//!
//! A file shorter than its RIFF size says is cut off. The pixels are libwebp's, and so Pillow's, to the byte:
//! lossless and lossy.

use std::io::{Cursor, ErrorKind};
use std::vec;

use image_webp::{DecodingError, WebPDecoder};

use super::{DecodeError, Decoded, damaged};
use crate::image::Image;
use crate::image::orientation::Orientation;

/// EXIF data holds a thumbnail at most.
const MAX_EXIF_BYTES: usize = 1 << 20;

fn open(bytes: &[u8]) -> Result<WebPDecoder<Cursor<&[u8]>>, DecodeError> {
    let cut = DecodeError::Truncated { format: "WebP", len: bytes.len() };
    let Some(&[a, b, c, d]) = bytes.get(4..8).and_then(<[u8]>::first_chunk) else { return Err(cut) };
    let end = (u32::from_le_bytes([a, b, c, d]) as usize).checked_add(8);
    let bytes = end.and_then(|end| bytes.get(..end)).ok_or(cut)?;
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|e| error(e, bytes.len()))?;
    decoder.set_memory_limit(MAX_EXIF_BYTES);
    if decoder.is_animated() {
        return Err(DecodeError::Unsupported { format: "animated WebP" });
    }
    Ok(decoder)
}

/// Chunks that end behind the file's end: the RIFF size, which says less, is wrong then.
fn error(error: DecodingError, len: usize) -> DecodeError {
    match error {
        DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: "WebP", len }
        }
        e => damaged("WebP", e),
    }
}

pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    open(bytes).map(|decoder| decoder.dimensions())
}

/// The picture, whose size [`size`] gave.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let mut decoder = open(bytes)?;
    let (width, height) = decoder.dimensions();
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let size = decoder.output_buffer_size().filter(|&size| size > 0);
    let mut data = vec![0; size.ok_or_else(|| damaged("WebP", "a side of 0 pixels"))?];
    decoder.read_image(&mut data).map_err(|e| error(e, bytes.len()))?;
    let image =
        Image::new(data, width as usize, height as usize, channels).map_err(|e| damaged("WebP", e))?;
    let exif = decoder.exif_metadata().ok().flatten();
    Ok(Decoded {
        image,
        orientation: exif.map_or(Orientation::default(), |data| Orientation::of_exif(&data)),
    })
}
