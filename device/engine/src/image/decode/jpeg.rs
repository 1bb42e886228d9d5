//! JPEG: baseline and progressive, gray, YCbCr and CMYK.
//!
//! ```text
//! ff d8 | ff e1 "Exif\0\0" … | ff c0..c2 frame (rows, pixels of a row) | ff da scan … | ff d9
//! ```
//!
//! All markers are walked before decoding: the decoder itself would fill what is missing with gray.

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use super::{DecodeError, Decoded, damaged};
use crate::image::Image;
use crate::image::orientation::Orientation;

/// What a walk over a JPEG file's markers finds.
#[derive(Clone, Copy)]
struct Frame {
    width: u32,
    height: u32,
}

/// The frame header and the EXIF data, of a file that has its end-of-image marker. With `is_hasty` the frame header and
/// what stands before it: neither is the rest looked at, nor missed.
fn walk(bytes: &[u8], is_hasty: bool) -> Result<(Frame, Option<&[u8]>), DecodeError> {
    let cut = || DecodeError::Truncated { format: "JPEG", len: bytes.len() };
    let (mut frame, mut exif) = (None, None);
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
        if marker == 0xd9 || (is_hasty && frame.is_some()) {
            return Ok((frame.ok_or_else(|| damaged("JPEG", "no frame header"))?, exif));
        }
        let word = |i: usize| match bytes.get(i..i + 2) {
            Some(b) => Ok(u16::from_be_bytes([b[0], b[1]])),
            None => Err(cut()),
        };
        let len = usize::from(word(at)?);
        match marker {
            0xc0..=0xc2 if frame.is_none() => {
                frame = Some(Frame { height: word(at + 3)?.into(), width: word(at + 5)?.into() });
            }
            0xc3 | 0xc7 => return Err(DecodeError::Unsupported { format: "lossless JPEG" }),
            0xc5 | 0xc6 => return Err(DecodeError::Unsupported { format: "hierarchical JPEG" }),
            0xc9..=0xcb | 0xcd..=0xcf => {
                return Err(DecodeError::Unsupported { format: "arithmetic-coded JPEG" });
            }
            0xe1 if exif.is_none() => {
                exif = bytes.get(at + 2..at + len).filter(|data| data.starts_with(b"Exif\0\0"));
            }
            _ => {}
        }
        at += len.max(2);
    }
}

pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    walk(bytes, true).map(|(frame, _)| (frame.width, frame.height))
}

/// The picture, whose size [`size`] gave.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let (frame, exif) = walk(bytes, false)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(frame.width as usize)
        .set_max_height(frame.height as usize)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let data = decoder.decode().map_err(|e| damaged("JPEG", e))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| damaged("JPEG", "no frame header"))?;
    let image = Image::new(data, width, height, 3).map_err(|e| damaged("JPEG", e))?;
    Ok(Decoded { image, orientation: exif.map_or(Orientation::default(), Orientation::of_exif) })
}
