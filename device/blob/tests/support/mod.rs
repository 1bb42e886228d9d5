//! Blobs to test with, and ways to damage them.
//!
//! ```text
//! small()  conv 3x3 ─► max-pool ─► average pool ─► dense, with labels, self-test and metadata
//! seal(&mut bytes)  makes the head's checksum right again, so that the checks behind it are reached
//! ```
#![allow(dead_code, reason = "each test program uses a part")]

use std::io::Write;
use std::mem::{offset_of, size_of};

use vgg_edge_blob::layout::{Header, LayerRecord, SectionRecord};
use vgg_edge_blob::{AlignedBytes, NewModel, Padding, Scheme, Shape, write};

#[path = "../../../engine/tests/support/mod.rs"]
mod networks;

#[allow(unused_imports, reason = "each test program uses a part")]
pub(crate) use networks::{
    Part, Random, filters_twin, half_twin, int4_twin, k8_twin, model, winograd_twin, winograd8_twin,
};

/// Sections of [`small`], by index.
pub(crate) const PARAMS_0: usize = 0;
pub(crate) const NAMES: usize = 2;
pub(crate) const LABELS: usize = 3;
pub(crate) const GOLDEN_INPUT: usize = 4;
pub(crate) const GOLDEN_LOGITS: usize = 5;
pub(crate) const METADATA: usize = 6;
pub(crate) const WEIGHTS_0: usize = 7;
pub(crate) const WEIGHTS_3: usize = 8;

pub(crate) fn shape(height: u32, width: u32, channels: u32) -> Shape {
    Shape { height, width, channels }
}

/// A model of one layer of each kind: input 6x5x3, 2 classes.
pub(crate) fn small(scheme: Scheme) -> NewModel {
    let parts = [
        Part::Conv { kernel: 3, filters: 5, block: 1 },
        Part::Pool { stride: 2, padding: Padding::Valid, block: 1 },
        Part::Gap,
        Part::Dense { units: 2 },
    ];
    let mut small = model(&mut Random(0x5EED_0002), scheme, shape(6, 5, 3), &parts);
    small.labels = vec!["cat".to_owned(), "größter Hund".to_owned()];
    small.golden = Some(((0..90).collect(), vec![0.25, -1.5]));
    small.metadata = r#"{"made_by": "a test"}"#.to_owned();
    small
}

pub(crate) fn bytes(model: NewModel) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(model, &mut bytes).expect("a legal model");
    bytes
}

/// A copy at an address that the reader takes.
pub(crate) fn aligned(bytes: &[u8]) -> AlignedBytes {
    let mut copy = AlignedBytes::default();
    copy.write_all(bytes).expect("memory");
    copy
}

/// Puts `new` at `at`.
pub(crate) fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// Makes the checksum of header and tables right again.
pub(crate) fn seal(bytes: &mut [u8]) {
    let at = offset_of!(Header, head_len);
    let head_len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let crc = crc32fast::hash(&bytes[at..head_len]);
    put(bytes, offset_of!(Header, head_crc), &crc.to_le_bytes());
}

/// First byte of the record of layer `i`.
pub(crate) fn layer(i: usize) -> usize {
    size_of::<Header>() + i * size_of::<LayerRecord>()
}

/// First byte of the record of section `i`, in a blob of [`small`].
pub(crate) fn section(i: usize) -> usize {
    layer(4) + i * size_of::<SectionRecord>()
}

/// Bytes of section `i`, in a blob of [`small`].
pub(crate) fn section_range(bytes: &[u8], i: usize) -> std::ops::Range<usize> {
    let number = |field: usize| {
        let at = section(i) + field;
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
    };
    let start = number(offset_of!(SectionRecord, start));
    start..start + number(offset_of!(SectionRecord, len))
}
