//! EXIF orientation: how a camera was held, and the picture turned upright.
//!
//! ```text
//! 1 upright   2 mirrored   3 half a turn   4 upside down, mirrored
//! 5 mirrored along the diagonal   6 a quarter turn clockwise   7 mirrored along the other one   8 a quarter back
//! ```
//!
//! The same pixels as `PIL.ImageOps.exif_transpose`. EXIF data is a TIFF file: `II` or `MM`, 42, where the first
//! directory is; there a count and entries of 12 bytes: tag, type, number of values, value. XMP is not read.

use alloc::vec::Vec;

use super::Image;

/// Pixels of a side of the squares in which a picture is turned by a quarter: rows of both sides stay in the cache.
const SQUARE: usize = 32;
/// The tag of the orientation.
const ORIENTATION: u16 = 0x0112;

/// Which pixel of the stored picture is at a place of the upright one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Orientation {
    /// Rows of the stored picture are columns of the upright one; done after the mirroring.
    swapped: bool,
    /// Rows are mirrored.
    mirror_x: bool,
    /// The order of the rows is.
    mirror_y: bool,
}

/// Reads numbers in the byte order that the data names; nothing outside of it.
struct Tiff<'a> {
    bytes: &'a [u8],
    little: bool,
}

impl Tiff<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// The orientation's number; the last one when there are several, as in Pillow.
    fn orientation(&self) -> Option<u32> {
        let directory = self.u32(4)? as usize;
        let n_entries = self.u16(directory)?;
        let mut found = None;
        for i in 0..usize::from(n_entries) {
            let entry = directory + 2 + i * 12;
            // A directory that ends early keeps what it has.
            let (Some(tag), Some(kind), Some(count), Some(_)) =
                (self.u16(entry), self.u16(entry + 2), self.u32(entry + 4), self.u32(entry + 8))
            else {
                break;
            };
            if tag == ORIENTATION && count == 1 {
                found = match kind {
                    1 => self.bytes.get(entry + 8).map(|&v| v.into()),
                    3 => self.u16(entry + 8).map(u32::from),
                    4 => self.u32(entry + 8),
                    _ => found,
                };
            }
        }
        found
    }
}

impl Orientation {
    /// What EXIF data says, with or without `Exif\0\0` before it; upright where it says nothing that can be read.
    pub(super) fn of_exif(data: &[u8]) -> Self {
        let bytes = data.strip_prefix(b"Exif\0\0").unwrap_or(data);
        let little = match bytes.first_chunk() {
            Some(b"II*\0") => true,
            Some(b"MM\0*") => false,
            _ => return Self::default(),
        };
        Tiff { bytes, little }.orientation().map_or(Self::default(), Self::of_number)
    }

    /// 1 to 8; upright for any other.
    fn of_number(number: u32) -> Self {
        Self {
            swapped: matches!(number, 5..=8),
            mirror_x: matches!(number, 2 | 3 | 7 | 8),
            mirror_y: matches!(number, 3 | 4 | 6 | 7),
        }
    }

    /// The upright picture; a picture that is upright comes back as it is.
    pub(super) fn apply(self, image: Image) -> Image {
        match image.channels {
            _ if self == Self::default() => image,
            1 => self.turn::<1>(image),
            2 => self.turn::<2>(image),
            3 => self.turn::<3>(image),
            _ => self.turn::<4>(image),
        }
    }

    fn turn<const C: usize>(self, mut image: Image) -> Image {
        let (width, height) = (image.width, image.height);
        let pixels = image.data.as_chunks_mut::<C>().0;
        match (self.mirror_x, self.mirror_y) {
            (true, true) => pixels.reverse(),
            (true, false) => pixels.chunks_exact_mut(width).for_each(<[_]>::reverse),
            (false, true) => {
                for y in 0..height / 2 {
                    let (upper, lower) = pixels.split_at_mut((height - 1 - y) * width);
                    upper[y * width..][..width].swap_with_slice(&mut lower[..width]);
                }
            }
            (false, false) => {}
        }
        if !self.swapped {
            return image;
        }
        let mut turned = alloc::vec![[0; C]; pixels.len()];
        for top in (0..height).step_by(SQUARE) {
            for left in (0..width).step_by(SQUARE) {
                for x in left..(left + SQUARE).min(width) {
                    for y in top..(top + SQUARE).min(height) {
                        turned[x * height + y] = pixels[y * width + x];
                    }
                }
            }
        }
        let data: Vec<u8> = turned.into_flattened();
        Image { data, width: height, height: width, channels: C }
    }
}
