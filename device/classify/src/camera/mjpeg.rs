//! Motion JPEG: a stream cut into its pictures, and the Huffman tables that cameras leave out.
//!
//! ```text
//! ff d8 ─ segments (ff marker, length, ...) ─ ff da scan header ─ coded picture ─ ff d9 | ff d8 ...
//! ```
//!
//! A camera may leave out the tables of ITU-T T.81, K.3 to K.6, which every frame would repeat (`DHT`, ff c4).

use std::borrow::Cow;

const START: [u8; 2] = [0xff, 0xd8];
/// Largest picture of a stream: more than an uncompressed one of 4096x2160 pixels.
const MOST_BYTES: usize = 32 << 20;

/// The standard tables as one `DHT` segment: class and number, 16 counts of codes by length, values.
const TABLES: [&[u8]; 4] = [
    // Luminance, DC.
    &[0x00, 0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    // Luminance, AC.
    &[
        0x10, 0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d, 0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05,
        0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08,
        0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17,
        0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43,
        0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64,
        0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85,
        0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4,
        0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
        0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1,
        0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
        0xf9, 0xfa,
    ],
    // Chrominance, DC.
    &[0x01, 0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    // Chrominance, AC.
    &[
        0x11, 0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77, 0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05,
        0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91,
        0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1,
        0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a,
        0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63,
        0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83,
        0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2,
        0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
        0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9,
        0xda, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
        0xf9, 0xfa,
    ],
];

/// The picture with Huffman tables: as it is where it has any, else with the standard ones before its first scan.
pub(crate) fn with_tables(jpeg: &[u8]) -> Cow<'_, [u8]> {
    let mut at = START.len();
    while let Some(&[0xff, marker, high, low]) = jpeg.get(at..at + 4) {
        match marker {
            0xc4 => return Cow::Borrowed(jpeg),
            0xda => {
                let n_bytes = 2 + TABLES.iter().map(|table| table.len()).sum::<usize>();
                let mut whole = Vec::with_capacity(jpeg.len() + 2 + n_bytes);
                whole.extend_from_slice(&jpeg[..at]);
                whole.extend_from_slice(&[0xff, 0xc4]);
                whole.extend_from_slice(&(n_bytes as u16).to_be_bytes());
                TABLES.iter().for_each(|table| whole.extend_from_slice(table));
                whole.extend_from_slice(&jpeg[at..]);
                return Cow::Owned(whole);
            }
            // Padding before a marker.
            0xff => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    Cow::Borrowed(jpeg)
}

/// Cuts a stream of JPEG pictures, which comes in pieces.
///
/// A damaged picture ends where the next one starts, and comes out as it is: the decoder says what is wrong with it. Bytes
/// between pictures are left out.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    bytes: Vec<u8>,
    /// Where the walk through the first picture has come to; what is before needs no second look.
    at: usize,
    /// Whether that is in the coded picture behind a scan header.
    is_scan: bool,
}

impl Splitter {
    /// More of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next picture; `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        if self.at == 0 {
            // The last byte may be half of the start.
            let start = find(&self.bytes, 0, |next| next == START[1]);
            self.bytes.drain(..start.unwrap_or(self.bytes.len().saturating_sub(1)));
            start?;
            (self.at, self.is_scan) = (START.len(), false);
        }
        self.walk().map(|end| self.cut(end))
    }

    /// What is left at the end of the stream: a picture that was cut off.
    pub(crate) fn rest(&mut self) -> Option<Vec<u8>> {
        (self.at != 0).then(|| self.cut(self.bytes.len()))
    }

    fn cut(&mut self, end: usize) -> Vec<u8> {
        self.at = 0;
        let rest = self.bytes.split_off(end);
        std::mem::replace(&mut self.bytes, rest)
    }

    /// Goes on through the first picture; where it ends, or `None` when more bytes are needed.
    fn walk(&mut self) -> Option<usize> {
        loop {
            if self.at > MOST_BYTES {
                return Some(self.at.min(self.bytes.len()));
            }
            if self.is_scan {
                // ff 00 is a coded ff, ff d0 to ff d7 restart the decoder, ff ff is padding.
                let is_marker = |next| !matches!(next, 0x00 | 0xd0..=0xd7 | 0xff);
                match find(&self.bytes, self.at, is_marker) {
                    Some(at) => (self.at, self.is_scan) = (at, false),
                    None => {
                        self.at = self.bytes.len().saturating_sub(1).max(self.at);
                        return (self.at > MOST_BYTES).then_some(self.at.min(self.bytes.len()));
                    }
                }
            }
            match *self.bytes.get(self.at..)? {
                [0xff, 0xff, ..] => self.at += 1,
                [0xff, 0xd9, ..] => return Some(self.at + 2),
                [0xff, 0xd8, ..] => return Some(self.at),
                [0xff, marker, high, low, ..] => {
                    self.is_scan = marker == 0xda;
                    self.at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
                }
                [] | [0xff] | [0xff, _] | [0xff, _, _] => return None,
                // No marker where one must be: damaged.
                _ => self.is_scan = true,
            }
        }
    }
}

/// The first 0xff from `from` on whose next byte `is_wanted`.
fn find(bytes: &[u8], from: usize, is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let pairs = bytes.get(from..)?.windows(2);
    pairs.into_iter().position(|pair| pair[0] == 0xff && is_wanted(pair[1])).map(|i| from + i)
}
