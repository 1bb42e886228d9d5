//! BMP: 1, 4, 8, 16, 24 and 32 bits a pixel, bit masks, RLE4, RLE8, rows from the bottom or from the top.
//!
//! ```text
//! 0   "BM", 8 bytes, u32 where the pixels start
//! 14  u32 size of the header: 12 (sides of u16), 40, 52, 56, 64, 108 or 124
//! 18  i32 pixels of a row, i32 rows (< 0: from the top), u16, u16 bits a pixel, u32 compression
//! 46  u32 colours of the palette            54  u32 masks of red, green, blue, alpha
//! palette: blue, green, red and, but for the header of 12 bytes, one byte more; then rows, padded to 4 bytes
//! ```
//!
//! The pixels are Pillow's: 5 bits become `v * 255 / 31`, the fourth byte of 32 bits is alpha only where a mask says
//! so, a colour that the palette lacks is black. The decoders at hand fill what a file lacks with zeros; this one
//! calls it cut off.

use std::{format_args, vec, vec::Vec};

use super::{DecodeError, Decoded, damaged};
use crate::image::Image;
use crate::image::orientation::Orientation;

const HEADERS: [u32; 7] = [12, 40, 52, 56, 64, 108, 124];

/// Whether `bytes` begin a BMP file: two letters are a weak sign, so the reserved zeros or a header's size must be
/// there too.
pub(super) fn is_bmp(bytes: &[u8]) -> bool {
    bytes.starts_with(b"BM")
        && (bytes.get(6..10) == Some(&[0; 4]) || File(bytes).u32(14).is_ok_and(|len| HEADERS.contains(&len)))
}

/// Reads little-endian numbers.
#[derive(Clone, Copy)]
struct File<'a>(&'a [u8]);

impl<'a> File<'a> {
    fn cut(self) -> DecodeError {
        DecodeError::Truncated { format: "BMP", len: self.0.len() }
    }

    fn array<const N: usize>(self, at: usize) -> Result<[u8; N], DecodeError> {
        self.0.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(self.cut())
    }

    fn u16(self, at: usize) -> Result<u32, DecodeError> {
        self.array(at).map(|b| u16::from_le_bytes(b).into())
    }

    fn u32(self, at: usize) -> Result<u32, DecodeError> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn from(self, at: u64) -> Result<&'a [u8], DecodeError> {
        usize::try_from(at).ok().and_then(|at| self.0.get(at..)).ok_or(self.cut())
    }
}

/// How pixels are stored.
enum Coding {
    /// Indices of the palette.
    Palette,
    Rle,
    /// Numbers of which masks give red, green, blue and, unless 0, alpha.
    Masks([u32; 4]),
}

struct Header {
    width: u32,
    height: u32,
    top_down: bool,
    bits: u32,
    coding: Coding,
    palette: [[u8; 3]; 256],
    start: u64,
}

/// Pixels of a row, rows, and whether they come from the top.
fn sides(file: File<'_>) -> Result<(u32, u32, bool), DecodeError> {
    let (width, height) = match file.u32(14)? {
        12 => (file.u16(18)? as i32, file.u16(20)? as i32),
        len if HEADERS.contains(&len) => (file.u32(18)? as i32, file.u32(22)? as i32),
        len => {
            let expected = "12, 40, 52, 56, 64, 108 or 124";
            return Err(damaged("BMP", format_args!("header of {len} bytes, expected {expected}")));
        }
    };
    if width <= 0 || height == 0 {
        return Err(damaged("BMP", format_args!("{width}x{height} pixels, expected sides of at least 1")));
    }
    Ok((width as u32, height.unsigned_abs(), height < 0))
}

pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    sides(File(bytes)).map(|(width, height, _)| (width, height))
}

impl Header {
    fn read(file: File<'_>) -> Result<Self, DecodeError> {
        let (width, height, top_down) = sides(file)?;
        let header_len = file.u32(14)?;
        let (bits, compression, n_colours) = match header_len {
            12 => (file.u16(24)?, 0, 0),
            _ => (file.u16(28)?, file.u32(30)?, file.u32(46)?),
        };
        if matches!((header_len, compression), (64, 3..)) {
            return Err(DecodeError::Unsupported { format: "OS/2-compressed BMP" });
        }
        let mut after_header = 14 + u64::from(header_len);
        let coding = match (compression, bits) {
            (0, 1 | 4 | 8) => Coding::Palette,
            (1, 8) | (2, 4) => Coding::Rle,
            (0, 16) => Coding::Masks([0x7c00, 0x03e0, 0x001f, 0]),
            (0, 24 | 32) => Coding::Masks([0x00ff_0000, 0x0000_ff00, 0x0000_00ff, 0]),
            (3 | 6, 16 | 24 | 32) => {
                let n_masks = if compression == 6 || header_len >= 56 { 4 } else { 3 };
                let mut masks = [0; 4];
                for (i, mask) in masks[..n_masks].iter_mut().enumerate() {
                    *mask = file.u32(54 + 4 * i)?;
                }
                after_header = after_header.max(54 + 4 * n_masks as u64);
                if masks == [0; 4] {
                    masks = [0x00ff_0000, 0x0000_ff00, 0x0000_00ff, 0xff00_0000];
                }
                Coding::Masks(masks)
            }
            (4, _) => return Err(DecodeError::Unsupported { format: "BMP that holds a JPEG" }),
            (5, _) => return Err(DecodeError::Unsupported { format: "BMP that holds a PNG" }),
            _ => {
                let what = format_args!(
                    "{bits} bits a pixel with compression {compression}, expected 1, 4, 8, 16, 24 or 32 with 0, 8 \
                     with 1, 4 with 2, or 16, 24 or 32 with 3 or 6"
                );
                return Err(damaged("BMP", what));
            }
        };
        let mut start = file.u32(10)?.into();
        let mut palette = [[0; 3]; 256];
        if bits <= 8 {
            let entry = if header_len == 12 { 3 } else { 4 };
            let n_colours = if n_colours == 0 { 1 << bits } else { n_colours };
            let colours = file.from(after_header)?;
            let n_known = n_colours.min(1 << bits) as usize;
            for (colour, bytes) in palette.iter_mut().zip(colours.chunks_exact(entry).take(n_known)) {
                *colour = [bytes[2], bytes[1], bytes[0]];
            }
            // Some writers forget the palette, or say nothing.
            if start == after_header || start == 0 {
                start = after_header + entry as u64 * u64::from(n_colours);
            }
        } else if start == 0 {
            start = after_header;
        }
        Ok(Self { width, height, top_down, bits, coding, palette, start })
    }

    /// The rows as they are stored, without padding; all of them are in the file.
    fn rows<'a>(&self, file: File<'a>) -> Result<impl Iterator<Item = &'a [u8]>, DecodeError> {
        let n_bits = u64::from(self.width) * u64::from(self.bits);
        let (pitch, len) = (n_bits.div_ceil(32) * 4, n_bits.div_ceil(8));
        let data = file.from(self.start)?;
        // The last row's padding may be missing.
        if (data.len() as u64) < pitch * u64::from(self.height - 1) + len {
            return Err(file.cut());
        }
        Ok(data.chunks(pitch as usize).take(self.height as usize).map(move |row| &row[..len as usize]))
    }
}

/// The picture, whose size [`size`] gave and the limits allow.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let file = File(bytes);
    let header = Header::read(file)?;
    let (width, height) = (header.width as usize, header.height as usize);
    let mut data = Vec::new();
    let colour = |index: u8| header.palette[usize::from(index)];
    let channels = match header.coding {
        Coding::Palette => {
            let (bits, last) = (header.bits as usize, (1 << header.bits) - 1);
            let per_byte = 8 / bits;
            let rows = header.rows(file)?;
            data.reserve_exact(width * height * 3);
            for row in rows {
                let index = |x: usize| (row[x / per_byte] >> (8 - bits - x % per_byte * bits)) & last as u8;
                data.extend((0..width).flat_map(|x| colour(index(x))));
            }
            3
        }
        Coding::Rle => {
            data = unpack(&header, file)?.into_iter().flat_map(colour).collect();
            3
        }
        Coding::Masks(masks) => {
            let channels = if masks[3] == 0 { 3 } else { 4 };
            let masks = masks.map(Mask::new);
            let masks = masks.into_iter().collect::<Option<Vec<Mask>>>();
            let masks = masks.ok_or_else(|| damaged("BMP", "a mask whose bits are not side by side"))?;
            let rows = header.rows(file)?;
            data.reserve_exact(width * height * channels);
            for row in rows {
                for pixel in row.chunks_exact(header.bits as usize / 8) {
                    let value = pixel.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
                    data.extend(masks[..channels].iter().map(|mask| mask.of(value)));
                }
            }
            channels
        }
    };
    if !header.top_down {
        let pitch = width * channels;
        for y in 0..height / 2 {
            let (upper, lower) = data.split_at_mut((height - 1 - y) * pitch);
            upper[y * pitch..][..pitch].swap_with_slice(&mut lower[..pitch]);
        }
    }
    let image = Image::new(data, width, height, channels).map_err(|e| damaged("BMP", e))?;
    Ok(Decoded { image, orientation: Orientation::default() })
}

/// One channel of a number: its bits, and what they mean in 8 bit.
struct Mask {
    mask: u32,
    shift: u32,
    values: [u8; 256],
}

impl Mask {
    /// Nothing when the bits are not side by side.
    fn new(mask: u32) -> Option<Self> {
        let n_bits = mask.count_ones();
        let shift = if mask == 0 { 0 } else { mask.trailing_zeros() };
        if n_bits + shift + mask.leading_zeros() != 32 && mask != 0 {
            return None;
        }
        // Of more than 8 bits the high ones count.
        let last = (1 << n_bits.min(8)) - 1;
        let values = std::array::from_fn(|v| (v.min(last) * 255 / last.max(1)) as u8);
        Some(Self { mask, shift: shift + n_bits.saturating_sub(8), values })
    }

    fn of(&self, value: u32) -> u8 {
        self.values[((value & self.mask) >> self.shift) as usize & 0xff]
    }
}

/// Run-length coded indices, `[height][width]`, in the order of the file; what is skipped is 0.
///
/// ```text
/// n v      n pixels of v (of its two halves in turn, RLE4)      0 0    next row        0 1   the end
/// 0 n ..   n pixels as they are, padded to 2 bytes, n >= 3      0 2 dx dy   a step
/// ```
fn unpack(header: &Header, file: File<'_>) -> Result<Vec<u8>, DecodeError> {
    let (width, height) = (header.width as usize, header.height as usize);
    let mut codes = file.from(header.start)?;
    let mut take = |n: usize| match codes.split_at_checked(n) {
        Some((taken, rest)) => {
            codes = rest;
            Ok(taken)
        }
        None => Err(file.cut()),
    };
    let nibbles = header.bits == 4;
    let mut indices = vec![0; width * height];
    let (mut x, mut y) = (0, 0);
    while y < height && (y + 1 < height || x < width) {
        let code = take(2)?;
        let (n, v) = (usize::from(code[0]), code[1]);
        let row = &mut indices[y * width..][..width];
        let mut place = |n: usize, value: &dyn Fn(usize) -> u8| {
            let room = row.get_mut(x..(x + n).min(width)).unwrap_or_default();
            room.iter_mut().enumerate().for_each(|(i, pixel)| *pixel = value(i));
            x += n;
        };
        let half = |byte: u8, i: usize| if i.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
        match (n, v) {
            (0, 0) => (x, y) = (0, y + 1),
            (0, 1) => break,
            (0, 2) => {
                let step = take(2)?;
                (x, y) = (x + usize::from(step[0]), y + usize::from(step[1]));
            }
            (0, n) => {
                let n = usize::from(n);
                let len = if nibbles { n.div_ceil(2) } else { n };
                let bytes = take(len.next_multiple_of(2))?;
                match nibbles {
                    true => place(n, &|i| half(bytes[i / 2], i)),
                    false => place(n, &|i| bytes[i]),
                }
            }
            (n, v) if nibbles => place(n, &|i| half(v, i)),
            (n, v) => place(n, &|_| v),
        }
    }
    Ok(indices)
}
