//! YUYV to RGB: what most USB cameras give, converted in integers, the same bytes on every CPU.
//!
//! ```text
//! bytes  Y0 U Y1 V | Y0 U Y1 V | ...      two pixels, which share U and V; rows are `bytes_per_line` bytes apart
//!
//! y = (Y - 16) 255/219, u = (U - 128) 255/224, v = (V - 128) 255/224      limited range; full: Y, U - 128, V - 128
//! R = y + 2 (1 - kr) v
//! G = y - 2 (1 - kb) kb/kg u - 2 (1 - kr) kr/kg v                        kg = 1 - kr - kb
//! B = y + 2 (1 - kb) u                                                   BT.601: kr 0.299, kb 0.114
//! ```
//!
//! Factors are rounded to multiples of 2^-16, the sum of a colour to the nearest integer (halves up), then clamped to
//! 0..=255: at most 1 from the real formula, and equal to it but next to a half.

/// `V4L2_COLORSPACE_*`, `V4L2_YCBCR_ENC_*` and `V4L2_QUANTIZATION_*`, as far as they matter here.
const COLORSPACE_SMPTE240M: u32 = 2;
const COLORSPACE_REC709: u32 = 3;
const COLORSPACE_JPEG: u32 = 7;
const COLORSPACE_BT2020: u32 = 10;
const COLORSPACE_DCI_P3: u32 = 12;
const ENCODING_709: u32 = 2;
const ENCODING_XV709: u32 = 4;
const ENCODING_BT2020: u32 = 6;
const ENCODING_BT2020_CONSTANT: u32 = 7;
const ENCODING_SMPTE240M: u32 = 8;
const FULL_RANGE: u32 = 1;

/// How Y, U and V stand for colours; factors in multiples of 2^-16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Colours {
    black: i32,
    luma: i32,
    red_v: i32,
    green_u: i32,
    green_v: i32,
    blue_u: i32,
}

impl Colours {
    /// BT.601, limited range: what a camera means that says nothing.
    pub(crate) const DEFAULT: Self = Self::new(0.299, 0.114, false);

    /// From the weights of red and blue in Y, and whether Y is 0..=255 instead of 16..=235.
    const fn new(kr: f64, kb: f64, is_full: bool) -> Self {
        const ONE: f64 = 65536.0;
        let (luma, chroma) = if is_full { (ONE, ONE) } else { (ONE * 255.0 / 219.0, ONE * 255.0 / 224.0) };
        let (red, blue, kg) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb), 1.0 - kr - kb);
        // To the nearest: all are positive.
        Self {
            black: if is_full { 0 } else { 16 },
            luma: (luma + 0.5) as i32,
            red_v: (red * chroma + 0.5) as i32,
            green_u: (blue * kb / kg * chroma + 0.5) as i32,
            green_v: (red * kr / kg * chroma + 0.5) as i32,
            blue_u: (blue * chroma + 0.5) as i32,
        }
    }

    /// What a driver's three fields mean, with the defaults of `linux/videodev2.h`.
    pub(crate) fn of(colorspace: u32, encoding: u32, quantization: u32) -> Self {
        let (kr, kb) = match (encoding, colorspace) {
            (ENCODING_709 | ENCODING_XV709, _) | (0, COLORSPACE_REC709 | COLORSPACE_DCI_P3) => {
                (0.2126, 0.0722)
            }
            (ENCODING_BT2020 | ENCODING_BT2020_CONSTANT, _) | (0, COLORSPACE_BT2020) => (0.2627, 0.0593),
            (ENCODING_SMPTE240M, _) | (0, COLORSPACE_SMPTE240M) => (0.212, 0.087),
            _ => (0.299, 0.114),
        };
        let is_full = quantization == FULL_RANGE || (quantization == 0 && colorspace == COLORSPACE_JPEG);
        Self::new(kr, kb, is_full)
    }

    /// One pixel.
    pub(crate) fn rgb(&self, y: u8, u: u8, v: u8) -> [u8; 3] {
        let (y, u, v) = (i32::from(y) - self.black, i32::from(u) - 128, i32::from(v) - 128);
        let y = y * self.luma + (1 << 15);
        let colour = |sum: i32| (sum >> 16).clamp(0, 255) as u8;
        [
            colour(y + self.red_v * v),
            colour(y - self.green_u * u - self.green_v * v),
            colour(y + self.blue_u * u),
        ]
    }
}

/// RGB, `[height][width][3]`, of a YUYV frame whose rows begin `bytes_per_line` bytes apart.
///
/// `None` when `width` is odd or a size is zero, a row is longer than `bytes_per_line`, or `bytes` is too short: the last row
/// may lack its padding.
pub(crate) fn to_rgb(
    bytes: &[u8],
    (width, height): (usize, usize),
    bytes_per_line: usize,
    colours: &Colours,
) -> Option<Vec<u8>> {
    let row_bytes = width.checked_mul(2)?;
    if bytes.len() < needed_bytes((width, height), bytes_per_line)? {
        return None;
    }
    let mut rgb = Vec::with_capacity(width.checked_mul(height)?.checked_mul(3)?);
    for row in bytes.chunks(bytes_per_line).take(height) {
        for &[y0, u, y1, v] in row[..row_bytes].as_chunks().0 {
            rgb.extend_from_slice(&colours.rgb(y0, u, v));
            rgb.extend_from_slice(&colours.rgb(y1, u, v));
        }
    }
    Some(rgb)
}

/// Bytes that a frame has at least; `None` when there is no such frame.
pub(crate) fn needed_bytes((width, height): (usize, usize), bytes_per_line: usize) -> Option<usize> {
    let row_bytes = width.checked_mul(2)?;
    if width == 0 || height == 0 || width % 2 == 1 || bytes_per_line < row_bytes {
        return None;
    }
    bytes_per_line.checked_mul(height - 1)?.checked_add(row_bytes)
}
