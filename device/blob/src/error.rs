//! What can be wrong with a blob, one variant a check, in the order of the checks.

use crate::preprocess::ChannelOrder;

/// Why bytes are not a blob this crate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// Shorter than the part that must be read next.
    #[error("the file has {len} bytes, the {what} needs {need}")]
    TooShort {
        /// What was being read.
        what: &'static str,
        /// Bytes needed.
        need: u64,
        /// Bytes found.
        len: u64,
    },
    /// Not a vgg-edge file.
    #[error(
        "not a vgg-edge model: it starts with bytes {found:02x?}, expected {:02x?}",
        crate::layout::MAGIC
    )]
    BadMagic {
        /// First four bytes.
        found: [u8; 4],
    },
    /// Written by another version.
    #[error("blob version {found}, this program reads version {supported}")]
    UnsupportedVersion {
        /// Version in the file.
        found: u16,
        /// Version this crate reads.
        supported: u16,
    },
    /// A record size other than this version's.
    #[error("{what} records of {found} bytes, expected {expected}")]
    RecordSize {
        /// Which record.
        what: &'static str,
        /// Size in the file.
        found: u16,
        /// Size in this version.
        expected: u16,
    },
    /// The header's length differs from the file's: cut off, or something was appended.
    #[error("the file has {found} bytes, its header says {expected}")]
    FileLength {
        /// Bytes found.
        found: u64,
        /// Bytes the header says.
        expected: u64,
    },
    /// The header or a table is damaged.
    #[error("header checksum {found:08x}, expected {expected:08x}: the file is damaged")]
    HeadChecksum {
        /// Checksum of the bytes.
        found: u32,
        /// Checksum stored.
        expected: u32,
    },
    /// The memory does not start at a multiple of 64 bytes.
    #[error("the bytes start at an address that is not a multiple of {} bytes", crate::layout::ALIGN)]
    Misaligned,
    /// Header and tables do not have the size that the header's counts give.
    #[error("header and tables have {found} bytes, expected {expected}")]
    HeadLength {
        /// Bytes the header says.
        found: u64,
        /// Bytes of the header and of so many records.
        expected: u64,
    },
    /// A header field has a value this version does not know.
    #[error("header: {field} is {found}")]
    HeaderField {
        /// Field name.
        field: &'static str,
        /// Value found.
        found: u32,
    },
    /// The channel order has another number of channels than the input picture.
    #[error(
        "header: input_channels is {found}, expected {} for order {}",
        .order.channels(),
        .order.name()
    )]
    Channels {
        /// Order found.
        order: ChannelOrder,
        /// Channels found.
        found: u32,
    },
    /// A header number is not finite, or a standard deviation is not positive.
    #[error("header: {field} is not a usable number")]
    HeaderNumber {
        /// Field name.
        field: &'static str,
    },
    /// A section does not start at the first multiple of 64 bytes behind the one before, or behind the tables.
    #[error("section {index} ({kind}): starts at byte {found}, expected {expected}")]
    SectionStart {
        /// Index in the section table.
        index: u16,
        /// Kind of section.
        kind: Section,
        /// First byte.
        found: u64,
        /// Where it must be.
        expected: u64,
    },
    /// A section ends outside the file.
    #[error("section {index} ({kind}): bytes {start}..{end} of a file of {len} bytes")]
    SectionBounds {
        /// Index in the section table.
        index: u16,
        /// Kind of section.
        kind: Section,
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// File length.
        len: u64,
    },
    /// A section kind this version does not know.
    #[error("section {index}: unknown kind {found}")]
    SectionKind {
        /// Index in the section table.
        index: u16,
        /// Value found.
        found: u16,
    },
    /// A layer's section that its layer does not name, or a section of the whole network that names a layer.
    #[error("section {index} ({kind}): does not belong to layer {layer}")]
    SectionLayer {
        /// Index in the section table.
        index: u16,
        /// Kind of section.
        kind: Section,
        /// Layer that the section names.
        layer: u16,
    },
    /// Bytes behind the last section.
    #[error("the file has {len} bytes, its sections end at byte {end}")]
    SectionsEnd {
        /// One past the last section's last byte.
        end: u64,
        /// File length.
        len: u64,
    },
    /// A layer field has a value that contradicts another.
    #[error("layer {layer}: {field} is {found}, expected {expected}")]
    LayerField {
        /// Layer index.
        layer: u16,
        /// Field name.
        field: &'static str,
        /// Value found.
        found: u64,
        /// Value expected.
        expected: u64,
    },
    /// A layer field has a value this version does not know.
    #[error("layer {layer}: {field} has the unknown value {found}")]
    LayerValue {
        /// Layer index.
        layer: u16,
        /// Field name.
        field: &'static str,
        /// Value found.
        found: u64,
    },
    /// An activation map has no value.
    #[error("layer {layer}: a map of {height}x{width}x{channels} has no value")]
    MapEmpty {
        /// Layer index.
        layer: u16,
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
        /// Channels.
        channels: u32,
    },
    /// An activation map is too large for any network of this family.
    #[error(
        "layer {layer}: a map of {height}x{width}x{channels} is over the limit of {} a side or {} values",
        crate::layout::MAX_SIDE,
        crate::layout::MAX_MAP_VALUES
    )]
    MapTooLarge {
        /// Layer index.
        layer: u16,
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
        /// Channels.
        channels: u32,
    },
    /// A global average pool whose sums could leave the accumulator's range.
    #[error("layer {layer}: an average over {found} pixels, the limit is {limit}")]
    AverageTooLarge {
        /// Layer index.
        layer: u16,
        /// Pixels of the map.
        found: u64,
        /// Largest number.
        limit: u64,
    },
    /// A scale of an int8 map is not positive and finite, or not 0 where the layer gives logits.
    #[error("layer {layer}: {field} is not a usable number")]
    LayerNumber {
        /// Layer index.
        layer: u16,
        /// Field name.
        field: &'static str,
    },
    /// A zero point, or a padding value made from it, contradicts the layer before or the activation.
    #[error("layer {layer}: {field} is {found}, expected {expected}")]
    ZeroPoint {
        /// Layer index.
        layer: u16,
        /// Field name.
        field: &'static str,
        /// Value found.
        found: i8,
        /// Value expected.
        expected: i8,
    },
    /// A layer's section has the wrong size.
    #[error("layer {layer}: {kind} have {found} bytes, expected {expected}")]
    LayerSection {
        /// Layer index.
        layer: u16,
        /// Kind of section.
        kind: Section,
        /// Bytes found.
        found: u64,
        /// Bytes expected.
        expected: u64,
    },
    /// A parameter is outside its range.
    #[error("layer {layer}, channel {channel}: {field} is {found}, outside its range")]
    Parameter {
        /// Layer index.
        layer: u16,
        /// Output channel.
        channel: u32,
        /// Field name.
        field: &'static str,
        /// Value found.
        found: i64,
    },
    /// A parameter is infinite or not a number.
    #[error("layer {layer}, channel {channel}: {field} is not finite")]
    NotFinite {
        /// Layer index.
        layer: u16,
        /// Output channel.
        channel: u32,
        /// Field name.
        field: &'static str,
    },
    /// All maps together have more rows than any network of this family.
    #[error("the layers' outputs have {found} rows together, the limit is {}", crate::layout::MAX_ROWS)]
    TooManyRows {
        /// Rows found.
        found: u64,
    },
    /// A section that must be there once is missing or doubled.
    #[error("{kind} section: found {found}, expected {expected}")]
    SectionCount {
        /// Kind of section.
        kind: Section,
        /// Number found.
        found: u16,
        /// Number expected.
        expected: u16,
    },
    /// A section has another size than its content needs.
    #[error("{kind} section has {found} bytes, expected {expected}")]
    SectionLength {
        /// Kind of section.
        kind: Section,
        /// Bytes found.
        found: u64,
        /// Bytes expected.
        expected: u64,
    },
    /// A text section is not UTF-8.
    #[error("{kind} section is not UTF-8 text")]
    NotText {
        /// Kind of section.
        kind: Section,
    },
    /// The labels section does not have a line a class, or the network gives features and has no classes.
    #[error("labels section: found {found} labels, expected {expected}")]
    LabelCount {
        /// Lines found.
        found: u64,
        /// Classes; 0 for features.
        expected: u64,
    },
    /// A section's bytes are damaged.
    #[error("section {index} ({kind}): checksum {found:08x}, expected {expected:08x}: the file is damaged")]
    SectionChecksum {
        /// Index in the section table.
        index: u16,
        /// Kind of section.
        kind: Section,
        /// Checksum of the bytes.
        found: u32,
        /// Checksum stored.
        expected: u32,
    },
    /// A byte between two sections, or between the tables and the first one, is not 0.
    #[error("section {index} ({kind}): byte {at} of the padding before it is not 0: the file is damaged")]
    Padding {
        /// Index in the section table.
        index: u16,
        /// Kind of section.
        kind: Section,
        /// Offset in the file.
        at: u64,
    },
}

/// Kinds of sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Section {
    /// Layer names, UTF-8, back to back.
    Names = 1,
    /// Class labels, UTF-8, one a line.
    Labels = 2,
    /// The self-test's picture: u8, NHWC, RGB, gray or RGBA, of the input size.
    GoldenInput = 3,
    /// The logits or features that this picture gives: f32.
    GoldenLogits = 4,
    /// How the blob was made and what was measured: UTF-8 JSON.
    Metadata = 5,
    /// Packed weights of a layer.
    Weights = 6,
    /// Per-channel parameters of a layer.
    Params = 7,
    /// Multipliers and offsets of a requantized Winograd layer's input.
    InputTaps = 8,
    /// Scales of its sums, a tap and output channel.
    TapScales = 9,
}

impl Section {
    /// The section kind with this number.
    pub fn from_u16(number: u16) -> Option<Self> {
        use Section::*;
        [Names, Labels, GoldenInput, GoldenLogits, Metadata, Weights, Params, InputTaps, TapScales]
            .into_iter()
            .find(|s| *s as u16 == number)
    }
}

impl core::fmt::Display for Section {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Section::Names => "names",
            Section::Labels => "labels",
            Section::GoldenInput => "golden input",
            Section::GoldenLogits => "golden logits",
            Section::Metadata => "metadata",
            Section::Weights => "weights",
            Section::Params => "params",
            Section::InputTaps => "input taps",
            Section::TapScales => "tap scales",
        })
    }
}
