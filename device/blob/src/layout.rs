//! The records of a blob, byte for byte: what `read` maps and `write` emits.
//!
//! All numbers are little-endian. `../FORMAT.md` shows the same tables; a test compares them with these
//! structs.

use zerocopy::little_endian::{F32, I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First four bytes of every blob.
pub const MAGIC: [u8; 4] = *b"VGGE";
/// The version this crate writes and reads.
pub const VERSION: u16 = 1;
/// Sections start at multiples of this many bytes: a cache line.
pub const ALIGN: usize = 64;
/// Output channels of one group of packed weights.
pub const GROUP: usize = 8;
/// "No section" in a layer record, "no layer" in a section record.
pub const NONE: u16 = u16::MAX;
/// Largest number of values of one activation map, padded channels included.
pub const MAX_MAP_VALUES: u64 = 1 << 28;
/// Longest side of an activation map, in pixels.
pub const MAX_SIDE: u32 = 1 << 14;
/// Largest number of rows of all layers' outputs together: what planning takes grows with it.
pub const MAX_ROWS: u64 = 1 << 18;
/// First byte that `Header::head_crc` covers.
pub const HEAD_CRC_START: usize = 12;

/// Bytes 0..128 of the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// [`VERSION`].
    pub version: U16,
    /// Bytes of this record.
    pub header_len: U16,
    /// CRC-32 (IEEE) of bytes 12..`head_len`.
    pub head_crc: U32,
    /// Bytes of header, layer table and section table.
    pub head_len: U32,
    /// Bytes of the file.
    pub file_len: U64,
    /// Records in the layer table, which follows the header.
    pub n_layers: U16,
    /// Records in the section table, which follows the layer table.
    pub n_sections: U16,
    /// Bytes of a layer record.
    pub layer_len: U16,
    /// Bytes of a section record.
    pub section_len: U16,
    /// [`Scheme`](crate::Scheme): 1 int8, 2 f16, 3 int8-fc4.
    pub scheme: u8,
    /// Channel order of the network: 0 RGB, 1 BGR, 2 gray, 3 RGBA. The weights are stored for RGB pictures.
    pub order: u8,
    /// Resize rule: 0 stretch, 1 shorter side to `shorter_side`, then center crop.
    pub resize: u8,
    /// Resize filter: 0 nearest, 1 box, 2 bilinear, 3 bicubic, 4 lanczos, as PIL does it.
    pub filter: u8,
    /// For resize rule 1, in pixels; else 0.
    pub shorter_side: U32,
    /// Rows of the input picture.
    pub input_height: U32,
    /// Columns of the input picture.
    pub input_width: U32,
    /// Channels of the input picture: as many as `order` has.
    pub input_channels: U32,
    /// Values of the output: classes, or features.
    pub n_classes: U32,
    /// `value = (pixel * scale - mean) / std`, pixel in 0..=255.
    pub scale: F32,
    /// Mean a channel, in the order of `order`; unused entries 0.
    pub mean: [F32; 4],
    /// Standard deviation a channel, in the order of `order`; unused entries 1.
    pub std: [F32; 4],
    /// Zero; readers ignore it.
    pub reserved: [u8; 36],
}

/// One layer, 96 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LayerRecord {
    /// 1 convolution, 2 max-pool 2x2, 3 global average pool, 4 dense.
    pub kind: u8,
    /// Side of the filter: 1 or 3; 2 for a pool; else 0.
    pub kernel: u8,
    /// Stride of a pool: 1 or 2; else 1.
    pub stride: u8,
    /// Pool padding: 0 valid, 1 same. Convolutions are always "same".
    pub padding: u8,
    /// 0 none, 1 ReLU.
    pub activation: u8,
    /// 0 none, 1 direct, 2 `winograd-f43`, 3 `winograd8-f23`, 4 `winograd8-f43`, 5 `winograd-f43-f16`,
    /// 6 `winograd-f43-filters`: [`Algorithm`](crate::Algorithm).
    pub algorithm: u8,
    /// Weight layout: 0 none, else [`Layout`](crate::Layout).
    pub layout: u8,
    /// Zero.
    pub reserved: u8,
    /// Layers with the same number run together, band by band.
    pub block: U16,
    /// Section index of the weights, or `NONE`.
    pub weights: U16,
    /// Section index of the per-channel parameters, or `NONE`.
    pub params: U16,
    /// Bytes of the name.
    pub name_len: U16,
    /// First byte of the name in the names section.
    pub name_start: U32,
    /// Rows of the input map (dense: 1).
    pub in_height: U32,
    /// Columns of the input map (dense: 1).
    pub in_width: U32,
    /// Channels of the input map (dense: inputs).
    pub in_channels: U32,
    /// Rows of the output map.
    pub out_height: U32,
    /// Columns of the output map.
    pub out_width: U32,
    /// Channels of the output map.
    pub out_channels: U32,
    /// Runs a pixel reads: the filter's rows; 1 for dense; Winograd: the taps of a tile.
    pub n_runs: U32,
    /// Packed values of a run; Winograd: channels as stored.
    pub run_len: U32,
    /// Real value of one step of the input (int8); what the input is multiplied by (f16 Winograd); else 0.
    pub in_scale: F32,
    /// Real value of one step of the output (int8; 0 for a last dense layer, which gives logits); what the sums are
    /// multiplied by (f16 Winograd); else 0.
    pub out_scale: F32,
    /// Input value that means 0.
    pub in_zero_point: i8,
    /// Output value that means 0.
    pub out_zero_point: i8,
    /// Zero.
    pub reserved2: [u8; 2],
    /// Padding value around the input map a channel (first layer), else the input's zero point.
    pub pad: [i8; 4],
    /// Global average pool: multiplier of the sum (Q31).
    pub pool_multiplier: I32,
    /// Global average pool: rounding right shift.
    pub pool_shift: I32,
    /// Measured on the calibration pictures against f32, in dB; NaN when not measured.
    pub sqnr_db: F32,
    /// Algorithms 3 and 4: section index of the input's multipliers and offsets; else 0.
    pub input_taps: U16,
    /// Algorithms 3 and 4: section index of the scales of the sums; else 0.
    pub tap_scales: U16,
    /// Zero.
    pub reserved3: [u8; 12],
}

/// One section, 32 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SectionRecord {
    /// [`Section`](crate::Section).
    pub kind: U16,
    /// Layer the section belongs to, or `NONE`.
    pub layer: U16,
    /// CRC-32 (IEEE) of the section's bytes.
    pub crc: U32,
    /// First byte, a multiple of [`ALIGN`].
    pub start: U64,
    /// Bytes.
    pub len: U64,
    /// Zero.
    pub reserved: U64,
}

/// Parameters of 8 output channels of an int8 layer, 128 bytes. Native numbers: the section is aligned,
/// and big-endian machines are refused at compile time.
#[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct S8Params {
    /// Start of the accumulator: bias at scale `in_scale * weight_scale`, minus `in_zero_point * sum(w)`.
    pub bias: [i32; GROUP],
    /// Q31 multiplier of the requantization; 0 in the last layer.
    pub multiplier: [i32; GROUP],
    /// Rounding right shift of the requantization, 0..=31.
    pub shift: [i32; GROUP],
    /// Real value of one step of the accumulator: `in_scale * weight_scale`.
    pub scale: [f32; GROUP],
}

/// Parameters of 8 output channels of an f16 layer, 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct F16Params {
    /// Bias.
    pub bias: [f32; GROUP],
}

/// [`ALIGN`] bytes at a multiple of that: what aligned memory is made of.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Line([u8; ALIGN]);

#[cfg(target_endian = "big")]
compile_error!("vgg-edge maps little-endian files: big-endian targets are not supported");

/// Channels as stored: rounded up to whole groups, except the input picture's.
pub fn padded(channels: u32) -> u32 {
    channels.div_ceil(GROUP as u32).saturating_mul(GROUP as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    /// `| offset | name | ...` rows of the table under `heading` in FORMAT.md.
    fn documented(heading: &str) -> Vec<(usize, String)> {
        let text = include_str!("../FORMAT.md");
        let body = text.split(heading).nth(1).unwrap_or_else(|| panic!("no {heading} in FORMAT.md"));
        body.lines()
            .skip_while(|l| !l.starts_with('|'))
            .take_while(|l| l.starts_with('|'))
            .filter_map(|l| {
                let mut cells = l.split('|').map(str::trim).skip(1);
                let offset = cells.next()?.parse().ok()?;
                Some((offset, cells.next()?.trim_matches('`').to_owned()))
            })
            .collect()
    }

    /// Every field of `$record` with its offset, in order.
    macro_rules! fields {
        ($record:ident: $($field:ident)*) => { vec![$((offset_of!($record, $field), stringify!($field).to_owned())),*] };
    }

    #[test]
    fn format_md_shows_these_records() {
        let header = fields!(Header: magic version header_len head_crc head_len file_len n_layers n_sections
            layer_len section_len scheme order resize filter shorter_side input_height input_width
            input_channels n_classes scale mean std reserved);
        assert_eq!(documented("## Header"), header);
        let layer = fields!(LayerRecord: kind kernel stride padding activation algorithm layout reserved block
            weights params name_len name_start in_height in_width in_channels out_height out_width
            out_channels n_runs run_len in_scale out_scale in_zero_point out_zero_point reserved2 pad
            pool_multiplier pool_shift sqnr_db input_taps tap_scales reserved3);
        assert_eq!(documented("## Layer record"), layer);
        let section = fields!(SectionRecord: kind layer crc start len reserved);
        assert_eq!(documented("## Section record"), section);
        assert_eq!(
            (size_of::<Header>(), size_of::<LayerRecord>(), size_of::<SectionRecord>()),
            (128, 96, 32)
        );
        assert_eq!((size_of::<Line>(), align_of::<Line>()), (ALIGN, ALIGN));
        assert_eq!((size_of::<S8Params>(), size_of::<F16Params>()), (128, 32));
    }
}
