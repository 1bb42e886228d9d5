//! One broken blob a check, and the exact words of each refusal.
//!
//! A case patches a good blob; where the check lies behind the head's checksum, that is made right again.

mod support;

use std::collections::BTreeSet;
use std::mem::offset_of;

use support::{
    GOLDEN_INPUT, GOLDEN_LOGITS, LABELS, METADATA, NAMES, PARAMS_0, Part, Random, WEIGHTS_0, WEIGHTS_3,
    aligned, bytes, filters_twin, half_twin, int4_twin, k8_twin, layer, model, put, seal, section,
    section_range, shape, small, winograd_twin, winograd8_twin,
};
use vgg_edge_blob::layout::{F16Params, Header, LayerRecord, S8Params, SectionRecord};
use vgg_edge_blob::winograd8::Form;
use vgg_edge_blob::{Blob, BlobError, NewModel, Padding, Scheme};

/// A damaged copy of a blob.
type Patch = fn(&mut Vec<u8>);

fn check(bytes: &[u8]) -> BlobError {
    let copy = aligned(bytes);
    let result = Blob::parse(copy.as_slice()).and_then(|blob| blob.verify_checksums());
    result.expect_err("a broken blob")
}

/// Runs cases on copies of `good`; the names of the variants they gave.
fn run(good: &[u8], sealed: bool, cases: &[(Patch, &str)]) -> BTreeSet<String> {
    let (mut variants, mut wrong) = (BTreeSet::new(), Vec::new());
    for (patch, message) in cases {
        let mut broken = good.to_vec();
        patch(&mut broken);
        if sealed {
            seal(&mut broken);
        }
        let error = check(&broken);
        if error.to_string() != *message {
            wrong.push(format!("found    {error}\nexpected {message}\n"));
        }
        let debug = format!("{error:?}");
        variants.insert(debug.split([' ', '{']).next().unwrap_or_default().to_owned());
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    variants
}

macro_rules! at {
    ($record:ident . $field:ident of $start:expr) => {
        $start + offset_of!($record, $field)
    };
}

fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, &value.to_le_bytes());
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}

fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    put(bytes, at, &value.to_le_bytes());
}

fn in_section(bytes: &[u8], index: usize, offset: usize) -> usize {
    section_range(bytes, index).start + offset
}

/// Checks before the head's checksum.
const START: &[(Patch, &str)] = &[
    (|b| b.truncate(3), "the file has 3 bytes, the header needs 128"),
    (|b| b.truncate(100), "the file has 100 bytes, the header needs 128"),
    (
        |b| put(b, 0, b"\x89HDF"),
        "not a vgg-edge model: it starts with bytes [89, 48, 44, 46], expected [56, 47, 47, 45]",
    ),
    (|b| put_u16(b, 4, 2), "blob version 2, this program reads version 1"),
    (|b| put_u16(b, 6, 64), "header records of 64 bytes, expected 128"),
    (|b| put_u16(b, at!(Header.layer_len of 0), 0), "layer records of 0 bytes, expected 96"),
    (|b| put_u16(b, at!(Header.section_len of 0), 24), "section records of 24 bytes, expected 32"),
    (|b| b.push(0), "the file has 1921 bytes, its header says 1920"),
    (
        |b| put_u32(b, at!(Header.head_len of 0), 127),
        "the file has 1920 bytes, the header with its tables needs 128",
    ),
    (
        |b| put_u32(b, at!(Header.head_len of 0), u32::MAX),
        "the file has 1920 bytes, the header with its tables needs 4294967295",
    ),
];

/// Header, tables and sections.
const HEAD: &[(Patch, &str)] = &[
    (
        |b| put_u16(b, at!(Header.n_layers of 0), u16::MAX),
        "header and tables have 800 bytes, expected 6291776",
    ),
    (|b| put_u16(b, at!(Header.n_sections of 0), 8), "header and tables have 800 bytes, expected 768"),
    (|b| b[at!(Header.scheme of 0)] = 4, "header: scheme is 4"),
    (|b| b[at!(Header.order of 0)] = 4, "header: order is 4"),
    (|b| b[at!(Header.order of 0)] = 2, "header: input_channels is 3, expected 1 for order gray"),
    (|b| b[at!(Header.order of 0)] = 3, "header: input_channels is 3, expected 4 for order rgba"),
    (
        |b| put_u32(b, at!(Header.input_channels of 0), 4),
        "header: input_channels is 4, expected 3 for order rgb",
    ),
    (|b| b[at!(Header.resize of 0)] = 2, "header: resize is 2"),
    (|b| b[at!(Header.resize of 0)] = 1, "header: resize is 1"),
    (|b| b[at!(Header.filter of 0)] = 5, "header: filter is 5"),
    (|b| put_u32(b, at!(Header.shorter_side of 0), 16385), "header: shorter_side is 16385"),
    (|b| put_u32(b, at!(Header.input_channels of 0), 2), "header: input_channels is 2"),
    (|b| put_u32(b, at!(Header.input_height of 0), 0), "header: input_height is 0"),
    (|b| put_u32(b, at!(Header.input_width of 0), 0), "header: input_width is 0"),
    (|b| put_u32(b, at!(Header.n_classes of 0), 3), "header: n_classes is 3"),
    (|b| put_u32(b, at!(Header.scale of 0), 0), "header: scale is not a usable number"),
    (|b| put_u32(b, at!(Header.mean of 0), 0x7fc0_0000), "header: mean is not a usable number"),
    (|b| put(b, at!(Header.std of 4), &(-1f32).to_le_bytes()), "header: std is not a usable number"),
    (|b| put_u16(b, section(1), 99), "section 1: unknown kind 99"),
    (
        |b| put_u64(b, at!(SectionRecord.start of section(PARAMS_0)), 800),
        "section 0 (params): starts at byte 800, expected 832",
    ),
    // Overlap: the second section where the first is.
    (
        |b| put_u64(b, at!(SectionRecord.start of section(1)), 832),
        "section 1 (params): starts at byte 832, expected 960",
    ),
    // A gap of one line.
    (
        |b| put_u64(b, at!(SectionRecord.start of section(METADATA)), u64::MAX),
        "section 6 (metadata): starts at byte 18446744073709551615, expected 1408",
    ),
    (
        |b| put_u64(b, at!(SectionRecord.len of section(WEIGHTS_3)), u64::MAX),
        "section 8 (weights): bytes 1856..18446744073709551615 of a file of 1920 bytes",
    ),
    (
        |b| put_u64(b, at!(SectionRecord.len of section(WEIGHTS_3)), 1),
        "the file has 1920 bytes, its sections end at byte 1857",
    ),
    (
        |b| put_u16(b, at!(SectionRecord.layer of section(WEIGHTS_0)), 3),
        "section 7 (weights): does not belong to layer 3",
    ),
    (
        |b| put_u16(b, at!(SectionRecord.layer of section(WEIGHTS_0)), 4),
        "section 7 (weights): does not belong to layer 4",
    ),
    (
        |b| put_u16(b, at!(SectionRecord.layer of section(NAMES)), 0),
        "section 2 (names): does not belong to layer 0",
    ),
    (
        |b| put_u16(b, at!(LayerRecord.params of layer(0)), u16::MAX),
        "section 0 (params): does not belong to layer 0",
    ),
    (|b| put_u16(b, section(NAMES), 5), "names section: found 0, expected 1"),
    (|b| put_u16(b, section(LABELS), 1), "names section: found 2, expected 1"),
    (|b| put_u16(b, section(METADATA), 2), "labels section: found 2, expected 1"),
    (|b| put_u16(b, section(METADATA), 3), "golden input section: found 2, expected 1"),
    (
        |b| {
            put_u16(b, section(METADATA), 2);
            put_u16(b, section(LABELS), 5);
            put_u16(b, section(GOLDEN_LOGITS), 5);
        },
        "metadata section: found 2, expected 1",
    ),
    (
        |b| {
            put_u16(b, section(GOLDEN_INPUT), 4);
            put_u16(b, section(GOLDEN_LOGITS), 3);
        },
        "golden input section has 8 bytes, expected 90",
    ),
    (
        |b| {
            let at = in_section(b, LABELS, 0);
            b[at] = 0xff;
        },
        "labels section is not UTF-8 text",
    ),
    (
        |b| {
            let at = in_section(b, LABELS, 3);
            b[at] = b' ';
        },
        "labels section: found 1 labels, expected 2",
    ),
];

/// Layers and their parameters.
const LAYERS: &[(Patch, &str)] = &[
    (|b| b[layer(2)] = 5, "layer 2: kind has the unknown value 5"),
    (|b| b[at!(LayerRecord.kernel of layer(0))] = 2, "layer 0: kernel has the unknown value 2"),
    (|b| b[at!(LayerRecord.kernel of layer(0))] = 1, "layer 0: n_runs is 3, expected 1"),
    (|b| b[at!(LayerRecord.stride of layer(0))] = 2, "layer 0: stride is 2, expected 1"),
    (|b| b[at!(LayerRecord.padding of layer(0))] = 1, "layer 0: padding is 1, expected 0"),
    (|b| b[at!(LayerRecord.activation of layer(0))] = 2, "layer 0: activation has the unknown value 2"),
    (|b| b[at!(LayerRecord.algorithm of layer(0))] = 2, "layer 0: algorithm has the unknown value 2"),
    (|b| b[at!(LayerRecord.layout of layer(0))] = 2, "layer 0: layout has the unknown value 2"),
    (|b| b[at!(LayerRecord.kernel of layer(1))] = 3, "layer 1: kernel is 3, expected 2"),
    (|b| b[at!(LayerRecord.stride of layer(1))] = 0, "layer 1: stride has the unknown value 0"),
    (|b| b[at!(LayerRecord.padding of layer(1))] = 2, "layer 1: padding has the unknown value 2"),
    (|b| b[at!(LayerRecord.activation of layer(1))] = 1, "layer 1: activation is 1, expected 0"),
    (|b| put_u16(b, at!(LayerRecord.weights of layer(1)), 7), "layer 1: weights is 7, expected 65535"),
    (|b| b[at!(LayerRecord.padding of layer(1))] = 1, "layer 1: out_width is 2, expected 3"),
    (|b| b[at!(LayerRecord.stride of layer(2))] = 0, "layer 2: stride is 0, expected 1"),
    (|b| b[at!(LayerRecord.kernel of layer(3))] = 1, "layer 3: kernel is 1, expected 0"),
    (|b| b[at!(LayerRecord.activation of layer(3))] = 1, "layer 3: activation is 1, expected 0"),
    (|b| put_u32(b, at!(LayerRecord.in_height of layer(0)), 5), "layer 0: in_height is 5, expected 6"),
    (|b| put_u32(b, at!(LayerRecord.in_width of layer(1)), 6), "layer 1: in_width is 6, expected 5"),
    (|b| put_u32(b, at!(LayerRecord.in_channels of layer(3)), 8), "layer 3: in_channels is 8, expected 5"),
    (|b| put_u32(b, at!(LayerRecord.out_height of layer(2)), 2), "layer 2: out_height is 2, expected 1"),
    (|b| put_u32(b, at!(LayerRecord.run_len of layer(0)), 9), "layer 0: run_len is 9, expected 16"),
    (
        |b| put_u32(b, at!(LayerRecord.name_start of layer(3)), 19),
        "layer 3: name_start has the unknown value 19",
    ),
    (
        |b| put_u32(b, at!(LayerRecord.name_start of layer(0)), u32::MAX),
        "layer 0: name_start has the unknown value 4294967295",
    ),
    (
        |b| put_u32(b, at!(LayerRecord.out_channels of layer(0)), 9),
        "layer 0: weights have 384 bytes, expected 768",
    ),
    (
        |b| put_u32(b, at!(LayerRecord.out_channels of layer(0)), u32::MAX),
        "layer 0: weights have 384 bytes, expected 206158430208",
    ),
    (
        |b| put_u32(b, at!(Header.input_height of 0), 16385),
        "layer 0: a map of 16385x5x3 is over the limit of 16384 a side or 268435456 values",
    ),
    (
        |b| {
            put_u32(b, at!(Header.input_height of 0), 16384);
            put_u32(b, at!(Header.input_width of 0), 2049);
        },
        "layer 0: a map of 16384x2049x3 is over the limit of 16384 a side or 268435456 values",
    ),
    (
        |b| {
            put_u32(b, at!(Header.input_height of 0), u32::MAX);
            put_u32(b, at!(Header.input_width of 0), u32::MAX);
        },
        "layer 0: a map of 4294967295x4294967295x3 is over the limit of 16384 a side or 268435456 values",
    ),
    (|b| put_u32(b, at!(LayerRecord.in_scale of layer(0)), 0), "layer 0: in_scale is not a usable number"),
    (
        |b| put_u32(b, at!(LayerRecord.out_scale of layer(1)), 0x7f80_0000),
        "layer 1: out_scale is not a usable number",
    ),
    (|b| put_u32(b, at!(LayerRecord.out_scale of layer(3)), 1), "layer 3: out_scale is not a usable number"),
    (|b| b[at!(LayerRecord.out_zero_point of layer(0))] = 7, "layer 0: out_zero_point is 7, expected -128"),
    (|b| b[at!(LayerRecord.in_zero_point of layer(1))] = 7, "layer 1: in_zero_point is 7, expected -128"),
    (|b| b[at!(LayerRecord.out_zero_point of layer(1))] = 7, "layer 1: out_zero_point is 7, expected -128"),
    (
        |b| put_u32(b, at!(LayerRecord.pool_multiplier of layer(2)), u32::MAX),
        "layer 2, channel 0: pool_multiplier is -1, outside its range",
    ),
    (
        |b| put_u32(b, at!(LayerRecord.pool_shift of layer(2)), 32),
        "layer 2, channel 0: pool_shift is 32, outside its range",
    ),
    (
        |b| {
            let at = in_section(b, PARAMS_0, offset_of!(S8Params, bias) + 4);
            put_u32(b, at, 1 << 30);
        },
        "layer 0, channel 1: bias is 1073741824, outside its range",
    ),
    (
        |b| {
            let at = in_section(b, PARAMS_0, offset_of!(S8Params, multiplier) + 28);
            put_u32(b, at, u32::MAX);
        },
        "layer 0, channel 7: multiplier is -1, outside its range",
    ),
    (
        |b| {
            let at = in_section(b, PARAMS_0, offset_of!(S8Params, shift));
            put_u32(b, at, 32);
        },
        "layer 0, channel 0: shift is 32, outside its range",
    ),
    (
        |b| {
            let at = in_section(b, PARAMS_0, offset_of!(S8Params, scale));
            put_u32(b, at, 0x7f80_0000);
        },
        "layer 0, channel 0: scale is not finite",
    ),
];

/// Found by `verify_checksums` only.
const CONTENTS: &[(Patch, &str)] = &[
    (
        |b| {
            let at = in_section(b, WEIGHTS_3, 63);
            b[at] ^= 1;
        },
        "section 8 (weights): checksum 4ee42e9d, expected 39e31e0b: the file is damaged",
    ),
    (|b| b[831] = 1, "section 0 (params): byte 831 of the padding before it is not 0: the file is damaged"),
    (
        |b| {
            let at = section_range(b, LABELS).end;
            b[at] = 1;
        },
        "section 4 (golden input): byte 1170 of the padding before it is not 0: the file is damaged",
    ),
];

/// Layers of 3x3, 3x3 with Winograd, 1x1, 8 channels each.
const WINOGRAD: &[(Patch, &str)] = &[
    (|b| b[at!(LayerRecord.algorithm of layer(1))] = 99, "layer 1: algorithm has the unknown value 99"),
    (|b| b[at!(LayerRecord.algorithm of layer(1))] = 3, "layer 1: layout has the unknown value 3"),
    (|b| b[at!(LayerRecord.algorithm of layer(1))] = 1, "layer 1: layout has the unknown value 3"),
    (|b| b[at!(LayerRecord.layout of layer(1))] = 1, "layer 1: layout has the unknown value 1"),
    (|b| put_u32(b, at!(LayerRecord.n_runs of layer(1)), 3), "layer 1: n_runs is 3, expected 36"),
    (|b| put_u32(b, at!(LayerRecord.run_len of layer(1)), 24), "layer 1: run_len is 24, expected 8"),
    (|b| b[at!(LayerRecord.algorithm of layer(2))] = 2, "layer 2: algorithm has the unknown value 2"),
    (
        |b| {
            put_u32(b, at!(LayerRecord.out_channels of layer(1)), 9);
            put_u32(b, at!(LayerRecord.in_channels of layer(2)), 9);
        },
        "layer 1: weights have 4608 bytes, expected 9216",
    ),
];

/// The same from filters.
const FILTERS: &[(Patch, &str)] = &[
    (|b| b[at!(LayerRecord.algorithm of layer(0))] = 6, "layer 0: algorithm has the unknown value 6"),
    (|b| b[at!(LayerRecord.algorithm of layer(1))] = 7, "layer 1: algorithm has the unknown value 7"),
    (|b| b[at!(LayerRecord.algorithm of layer(1))] = 2, "layer 1: layout has the unknown value 1"),
    (|b| b[at!(LayerRecord.algorithm of layer(2))] = 6, "layer 2: algorithm has the unknown value 6"),
    (|b| b[at!(LayerRecord.layout of layer(1))] = 3, "layer 1: layout has the unknown value 3"),
    (|b| b[at!(LayerRecord.layout of layer(1))] = 11, "layer 1: layout has the unknown value 11"),
    (|b| put_u32(b, at!(LayerRecord.n_runs of layer(1)), 36), "layer 1: n_runs is 36, expected 3"),
    (|b| put_u32(b, at!(LayerRecord.run_len of layer(1)), 8), "layer 1: run_len is 8, expected 24"),
    (
        |b| {
            put_u32(b, at!(LayerRecord.out_channels of layer(1)), 9);
            put_u32(b, at!(LayerRecord.in_channels of layer(2)), 9);
        },
        "layer 1: weights have 576 bytes, expected 1152",
    ),
];

/// The same with weights for `smmla`.
const WINOGRAD8_K8: &[(Patch, &str)] = &[
    (|b| b[at!(LayerRecord.layout of layer(1))] = 9, "layer 1: layout has the unknown value 9"),
    (|b| b[at!(LayerRecord.layout of layer(1))] = 4, "layer 1: layout has the unknown value 4"),
    (|b| b[at!(LayerRecord.layout of layer(0))] = 10, "layer 0: layout has the unknown value 10"),
];

/// The small blob in layout `s8-o8k8`: its first layer has one run of 27 values in 32.
const K8: &[(Patch, &str)] = &[
    (|b| b[at!(LayerRecord.layout of layer(0))] = 1, "layer 0: n_runs is 1, expected 3"),
    (|b| b[at!(LayerRecord.layout of layer(0))] = 7, "layer 0: layout has the unknown value 7"),
    (|b| put_u32(b, at!(LayerRecord.n_runs of layer(0)), 3), "layer 0: n_runs is 3, expected 1"),
    (|b| put_u32(b, at!(LayerRecord.run_len of layer(0)), 27), "layer 0: run_len is 27, expected 32"),
    (|b| put_u32(b, at!(LayerRecord.run_len of layer(3)), 16), "layer 3: run_len is 16, expected 8"),
    (
        |b| {
            put_u32(b, at!(LayerRecord.n_runs of layer(0)), 3);
            put_u32(b, at!(LayerRecord.run_len of layer(0)), 16);
            b[at!(LayerRecord.layout of layer(0))] = 1;
        },
        "layer 0: weights have 256 bytes, expected 384",
    ),
];

/// The same with requantized Winograd. Sections: params 0, those of layer 1 from 1 on, params 4, names, weights.
const WINOGRAD8: &[(Patch, &str)] = &[
    (|b| b[at!(LayerRecord.algorithm of layer(1))] = 2, "section 1 (input taps): does not belong to layer 1"),
    (|b| b[at!(LayerRecord.algorithm of layer(1))] = 4, "layer 1: layout has the unknown value 5"),
    (|b| b[at!(LayerRecord.algorithm of layer(1))] = 1, "section 1 (input taps): does not belong to layer 1"),
    (|b| b[at!(LayerRecord.algorithm of layer(2))] = 3, "layer 2: algorithm has the unknown value 3"),
    (|b| put_u32(b, at!(LayerRecord.n_runs of layer(1)), 36), "layer 1: n_runs is 36, expected 16"),
    (|b| put_u32(b, at!(LayerRecord.run_len of layer(1)), 24), "layer 1: run_len is 24, expected 8"),
    (
        |b| put_u16(b, at!(LayerRecord.input_taps of layer(1)), 0),
        "section 1 (input taps): does not belong to layer 1",
    ),
    (
        |b| put_u16(b, at!(LayerRecord.tap_scales of layer(1)), u16::MAX),
        "section 2 (tap scales): does not belong to layer 1",
    ),
    (
        |b| {
            put_u16(b, taps_section(1), 9);
            put_u16(b, at!(LayerRecord.tap_scales of layer(1)), 1);
            put_u16(b, taps_section(2), 8);
            put_u16(b, at!(LayerRecord.input_taps of layer(1)), 2);
        },
        "layer 1: input taps have 512 bytes, expected 272",
    ),
    (
        |b| {
            put_u16(b, taps_section(1), 9);
            put_u16(b, at!(LayerRecord.tap_scales of layer(1)), 1);
        },
        "section 2 (tap scales): does not belong to layer 1",
    ),
    (
        |b| {
            let at = in_taps_section(b, 1, 2 * (15 * 8 + 3));
            put_u16(b, at, 0x8000);
        },
        "layer 1, channel 3: input multiplier is -32768, outside its range",
    ),
    (
        |b| {
            let at = in_taps_section(b, 2, 4 * (7 * 8 + 5));
            put_u32(b, at, u32::MAX);
        },
        "layer 1, channel 5: tap scale is -1, outside its range",
    ),
    (
        |b| {
            let at = in_taps_section(b, 3, offset_of!(S8Params, shift));
            put_u32(b, at, 32);
        },
        "layer 1, channel 0: shift is 32, outside its range",
    ),
];

/// The same of an f16 blob, the middle layer in half precision; then in f32.
const HALF: &[(Patch, &str)] = &[
    (|b| b[at!(LayerRecord.algorithm of layer(1))] = 6, "layer 1: algorithm has the unknown value 6"),
    (|b| b[at!(LayerRecord.algorithm of layer(1))] = 1, "layer 1: layout has the unknown value 8"),
    (|b| b[at!(LayerRecord.algorithm of layer(1))] = 3, "layer 1: algorithm has the unknown value 3"),
    (|b| b[at!(LayerRecord.algorithm of layer(2))] = 5, "layer 2: algorithm has the unknown value 5"),
    (|b| b[at!(LayerRecord.layout of layer(1))] = 2, "layer 1: layout has the unknown value 2"),
    (|b| put_u32(b, at!(LayerRecord.n_runs of layer(1)), 3), "layer 1: n_runs is 3, expected 36"),
    (
        |b| put(b, at!(LayerRecord.in_scale of layer(1)), &3f32.to_le_bytes()),
        "layer 1: in_scale is not a usable number",
    ),
    (
        |b| put(b, at!(LayerRecord.out_scale of layer(1)), &(-2f32).to_le_bytes()),
        "layer 1: out_scale is not a usable number",
    ),
];
const SINGLE: &[(Patch, &str)] = &[(
    |b| put(b, at!(LayerRecord.in_scale of layer(1)), &2f32.to_le_bytes()),
    "layer 1: in_scale is not a usable number",
)];

/// First byte of the record of section `i` of a blob of 3 layers.
fn taps_section(i: usize) -> usize {
    layer(3) + i * size_of::<SectionRecord>()
}

fn in_taps_section(bytes: &[u8], i: usize, offset: usize) -> usize {
    let at = at!(SectionRecord.start of taps_section(i));
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize + offset
}

/// Offsets may be any i16; nothing but the checksum looks at them.
#[test]
fn offsets_of_taps_may_be_anything() {
    let convs = model(&mut Random(3), Scheme::Int8, shape(5, 4, 3), &[conv(3), conv(3), conv(1)]);
    let mut bytes = bytes(winograd8_twin(convs, Form::F23));
    let at = in_taps_section(&bytes, 1, 2 * 16 * 8);
    put_u16(&mut bytes, at, 0x8000);
    assert!(Blob::parse(aligned(&bytes).as_slice()).is_ok());
}

/// A 3x3 convolution and two dense layers in 4 bits, of 160 inputs for 9 outputs and of 9 (16) for 2.
const INT4: &[(Patch, &str)] = &[
    (|b| b[at!(Header.scheme of 0)] = 1, "layer 1: layout has the unknown value 7"),
    (|b| b[at!(LayerRecord.layout of layer(0))] = 7, "layer 0: layout has the unknown value 7"),
    (|b| b[at!(LayerRecord.layout of layer(1))] = 6, "layer 1: layout has the unknown value 6"),
    (|b| b[at!(LayerRecord.layout of layer(1))] = 1, "layer 1: run_len is 192, expected 160"),
    (|b| b[at!(LayerRecord.algorithm of layer(1))] = 2, "layer 1: algorithm has the unknown value 2"),
    (|b| put_u32(b, at!(LayerRecord.run_len of layer(1)), 160), "layer 1: run_len is 160, expected 192"),
    (|b| put_u32(b, at!(LayerRecord.n_runs of layer(2)), 2), "layer 2: n_runs is 2, expected 1"),
    (
        |b| {
            put_u32(b, at!(LayerRecord.out_channels of layer(1)), 17);
            put_u32(b, at!(LayerRecord.in_channels of layer(2)), 17);
        },
        "layer 1: weights have 1584 bytes, expected 2376",
    ),
];

fn conv(kernel: u8) -> Part {
    Part::Conv { kernel, filters: 8, block: 1 }
}

/// Cases that need another blob than the small one.
fn others() -> BTreeSet<String> {
    let part = |parts: &[Part], input| model(&mut Random(3), Scheme::Int8, input, parts);
    let pools = part(
        &[
            Part::Conv { kernel: 1, filters: 8, block: 1 },
            Part::Pool { stride: 2, padding: Padding::Same, block: 1 },
            Part::Conv { kernel: 3, filters: 8, block: 2 },
        ],
        shape(1, 4, 3),
    );
    let mut seen = run(
        &bytes(pools),
        true,
        &[
            (
                |b| {
                    b[at!(LayerRecord.padding of layer(1))] = 0;
                    put_u32(b, at!(LayerRecord.out_height of layer(1)), 0);
                },
                "layer 1: a map of 0x2x8 has no value",
            ),
            (|b| b[at!(LayerRecord.pad of layer(2)) + 3] ^= 2, "layer 2: pad is -126, expected -128"),
        ],
    );
    let tall = part(&[Part::Pool { stride: 1, padding: Padding::Same, block: 1 }; 17], shape(8192, 1, 1));
    let taller: &[(Patch, &str)] = &[(
        |b| {
            put_u32(b, at!(Header.input_height of 0), 16384);
            for i in 0..17 {
                put_u32(b, at!(LayerRecord.in_height of layer(i)), 16384);
                put_u32(b, at!(LayerRecord.out_height of layer(i)), 16384);
            }
        },
        "the layers' outputs have 278528 rows together, the limit is 262144",
    )];
    seen.extend(run(&bytes(tall), true, taller));
    let average = part(&[Part::Gap, Part::Dense { units: 2 }], shape(2048, 2057, 1));
    let too_large: &[(Patch, &str)] =
        &[(|_| (), "layer 0: an average over 4212736 pixels, the limit is 4210752")];
    seen.extend(run(&bytes(average), true, too_large));
    let mut features = part(&[Part::Conv { kernel: 3, filters: 2, block: 1 }, Part::Gap], shape(4, 4, 3));
    // Two lines, one a channel; still no classes.
    features.metadata = "cat\ndog".to_owned();
    let labelled: &[(Patch, &str)] = &[(
        |b| {
            let metadata = layer(2) + 2 * size_of::<SectionRecord>();
            put_u16(b, metadata, 2);
        },
        "labels section: found 2 labels, expected 0",
    )];
    seen.extend(run(&bytes(features), true, labelled));
    let infinite: &[(Patch, &str)] = &[(
        |b| {
            let at = in_section(b, PARAMS_0, offset_of!(F16Params, bias) + 8);
            put_u32(b, at, 0xff80_0000);
        },
        "layer 0, channel 2: bias is not finite",
    )];
    seen.extend(run(&bytes(small(Scheme::F16)), true, infinite));
    let convs = part(&[conv(3), conv(3), conv(1)], shape(5, 4, 3));
    seen.extend(run(&bytes(winograd_twin(convs.clone())), true, WINOGRAD));
    seen.extend(run(&bytes(filters_twin(convs.clone())), true, FILTERS));
    seen.extend(run(&bytes(winograd8_twin(convs.clone(), Form::F23)), true, WINOGRAD8));
    seen.extend(run(&bytes(k8_twin(winograd8_twin(convs, Form::F43))), true, WINOGRAD8_K8));
    let dense = part(&[conv(3), Part::Dense { units: 9 }, Part::Dense { units: 2 }], shape(5, 4, 3));
    seen.extend(run(&bytes(int4_twin(&mut Random(5), dense)), true, INT4));
    seen.extend(run(&bytes(k8_twin(small(Scheme::Int8))), true, K8));
    let convs = model(&mut Random(3), Scheme::F16, shape(5, 4, 3), &[conv(3), conv(3), conv(1)]);
    seen.extend(run(&bytes(half_twin(convs.clone(), true)), true, HALF));
    seen.extend(run(&bytes(half_twin(convs, false)), true, SINGLE));
    let no_self_test: NewModel = NewModel { golden: None, ..small(Scheme::Int8) };
    let half: &[(Patch, &str)] =
        &[(|b| put_u16(b, section(4), 4), "golden logits section: found 1, expected 0")];
    seen.extend(run(&bytes(no_self_test), true, half));
    seen
}

#[test]
fn every_check_has_its_words() {
    let good = bytes(small(Scheme::Int8));
    let mut seen = run(&good, false, START);
    seen.extend(run(&good, true, HEAD));
    seen.extend(run(&good, true, LAYERS));
    seen.extend(run(&good, false, CONTENTS));
    seen.extend(others());

    let unsealed: &[(Patch, &str)] = &[(
        |b| b[at!(Header.reserved of 0)] = 1,
        "header checksum 825bb573, expected f28d472b: the file is damaged",
    )];
    seen.extend(run(&good, false, unsealed));

    let shifted = aligned(&[&[0], good.as_slice()].concat());
    let error = Blob::parse(&shifted.as_slice()[1..]).expect_err("an odd address");
    assert_eq!(error.to_string(), "the bytes start at an address that is not a multiple of 64 bytes");
    seen.insert("Misaligned".to_owned());

    let source = include_str!("../src/error.rs");
    let body = source.split("pub enum BlobError {").nth(1).and_then(|s| s.split("\n}").next()).unwrap();
    let variants: BTreeSet<String> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.strip_suffix([',', '{']).map(|name| name.trim_end()))
        .filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(str::to_owned)
        .collect();
    assert_eq!(seen, variants, "variants that a case gives, and all variants");
}

/// Reserved bytes are for later writers of this version: readers ignore them.
#[test]
fn reserved_bytes_are_ignored() {
    let mut bytes = bytes(small(Scheme::Int8));
    let reserved = [
        at!(Header.reserved of 0),
        at!(LayerRecord.reserved of layer(1)),
        at!(LayerRecord.reserved2 of layer(1)),
        at!(LayerRecord.reserved3 of layer(1)),
        at!(SectionRecord.reserved of section(1)),
    ];
    reserved.into_iter().for_each(|at| bytes[at] = 0xff);
    seal(&mut bytes);
    assert_eq!(Blob::parse(aligned(&bytes).as_slice()).and_then(|b| b.verify_checksums()), Ok(()));
}
