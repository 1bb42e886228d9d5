//! PNG: gray, RGB, palette, 16 bit, interlaced, with alpha or a transparent colour.
//!
//! ```text
//! 89 "PNG" … | len "IHDR" pixels of a row, rows … crc | … "eXIf" … | "IDAT" … | "IEND"
//! ```

use std::io::{Cursor, ErrorKind};
use std::{format_args, vec};

use png::{ColorType, DecodingError};

use super::{DecodeError, Decoded, damaged};
use crate::image::Image;
use crate::image::orientation::Orientation;

fn error(error: DecodingError, len: usize) -> DecodeError {
    match error {
        DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: "PNG", len }
        }
        e => damaged("PNG", e),
    }
}

/// The decoder takes a palette that is not made of whole colours, and then indexes out of bounds.
fn check_palette(info: &png::Info<'_>) -> Result<(), DecodeError> {
    let len = info.palette.as_ref().map_or(0, |palette| palette.len());
    if info.color_type == ColorType::Indexed && !len.is_multiple_of(3) {
        return Err(damaged("PNG", format_args!("palette of {len} bytes, expected 3 a colour")));
    }
    Ok(())
}

/// A decoder with room for rows and compression tables of pictures up to `side` wide; the pixels are ours.
fn decoder(bytes: &[u8], side: u32) -> png::Decoder<Cursor<&[u8]>> {
    let working_memory = png::Limits { bytes: (side as usize).saturating_mul(32).max(1 << 20) };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), working_memory);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder
}

pub(super) fn size(bytes: &[u8], side: u32) -> Result<(u32, u32), DecodeError> {
    let mut decoder = decoder(bytes, side);
    let header = decoder.read_header_info().map_err(|e| error(e, bytes.len()))?;
    Ok((header.width, header.height))
}

/// The picture, whose size [`size`] gave and whose sides are at most `side`.
pub(super) fn decode(bytes: &[u8], side: u32) -> Result<Decoded, DecodeError> {
    let len = bytes.len();
    let mut reader = decoder(bytes, side).read_info().map_err(|e| error(e, len))?;
    check_palette(reader.info())?;
    let size = reader.output_buffer_size().ok_or_else(|| damaged("PNG", "size overflows"))?;
    let mut data = vec![0; size];
    let info = reader.next_frame(&mut data).map_err(|e| error(e, len))?;
    data.truncate(info.buffer_size());
    let (data, channels) = match info.color_type.samples() {
        1 => (data.iter().flat_map(|&v| [v; 3]).collect(), 3),
        2 => (data.as_chunks().0.iter().flat_map(|&[v, alpha]| [v, v, v, alpha]).collect(), 4),
        channels => (data, channels),
    };
    let image = Image::new(data, info.width as usize, info.height as usize, channels)
        .map_err(|e| damaged("PNG", e))?;
    Ok(Decoded { image, orientation: exif(bytes).map_or(Orientation::default(), Orientation::of_exif) })
}

/// The EXIF data; it may stand behind the picture, where the decoder has not read.
fn exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(8..)?;
    loop {
        let (&[a, b, c, d, ref kind @ ..], after) = rest.split_first_chunk::<8>()?;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if kind == b"eXIf" {
            return after.get(..len);
        }
        rest = after.get(len.checked_add(4)?..)?;
    }
}
