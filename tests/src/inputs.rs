//! What no input may do: panic, run for ever, or take memory beyond its size. For tests and fuzz targets.
//!
//! Each function takes hostile bytes and returns how far they came; a panic is the finding.

use std::hint::black_box;
use std::io::Write;
use std::mem::offset_of;

use vgg_edge_blob::layout::{HEAD_CRC_START, Header, SectionRecord};
use vgg_edge_blob::winograd8::Form;
use vgg_edge_blob::{AlignedBytes, Blob, LayerOp, NewModel, Scheme, Shape, Weights, write};
use vgg_edge_engine::image::{Limits, decode};
use vgg_edge_engine::kernels::Kernel;
use vgg_edge_engine::pool::Serial;
use vgg_edge_engine::{Engine, Options};

use crate::networks::{self, Part, Random};

/// How far a blob came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// The reader refused it.
    Refused,
    /// The reader took it; it was not run, because it is large.
    Parsed,
    /// It ran.
    Ran,
}

/// Largest arena, and most products, of a blob that is run.
const MAX_ARENA_BYTES: usize = 1 << 20;
const MAX_MACS: u64 = 10_000_000;
/// Most rows of all layers of a blob that is run: planning takes time by the row.
const MAX_ROWS: u64 = 1 << 10;

/// Parses and looks at everything that a blob gives.
pub fn blob(bytes: &[u8]) -> Reached {
    let mut copy = AlignedBytes::default();
    let Ok(()) = copy.write_all(bytes) else { return Reached::Refused };
    let Ok(blob) = Blob::parse(copy.as_slice()) else { return Reached::Refused };
    let _ = black_box(blob.verify_checksums());
    assert_eq!(blob.layers().count(), blob.n_layers());
    for layer in blob.layers() {
        black_box((layer.name, layer.macs()));
        if let LayerOp::Conv { linear, .. } | LayerOp::Dense(linear) = layer.op {
            let (values, groups) = match linear.weights {
                Weights::S8 { data, params, .. } => (data.len(), params.len()),
                Weights::S16Winograd { data, params } => (data.len(), params.len()),
                Weights::S8Winograd { form, data, params, input, scales, .. } => {
                    assert_eq!(input.len(), (form.taps() + 1) * linear.run_len as usize);
                    assert_eq!(scales.len(), form.taps() * 8 * params.len());
                    (data.len(), params.len())
                }
                Weights::S4 { blocks, params } => (blocks.len() * 64 * 8, params.len()),
                Weights::F16 { data, params } | Weights::F16Winograd { data, params, .. } => {
                    (data.len(), params.len())
                }
            };
            assert_eq!(groups, layer.output.channels.div_ceil(8) as usize);
            assert_eq!(values, groups * 8 * linear.n_runs as usize * linear.run_len as usize);
        }
    }
    if let Some(golden) = blob.golden() {
        assert_eq!((golden.input.len() as u64, golden.logits.len()), (blob.input().len(), blob.n_classes()));
    }
    let n_labels = blob.labels().count();
    assert!(n_labels == 0 || n_labels == blob.n_classes());
    black_box((blob.label(0), blob.metadata(), blob.preprocess()));
    Reached::Parsed
}

/// Runs a blob that the reader takes on `kernel`, if it is small.
pub fn engine(bytes: &[u8], kernel: &'static dyn Kernel) -> Reached {
    let mut copy = AlignedBytes::default();
    let Ok(()) = copy.write_all(bytes) else { return Reached::Refused };
    let Ok(blob) = Blob::parse(copy.as_slice()) else { return Reached::Refused };
    let macs = blob.layers().fold(0u64, |sum, layer| sum.saturating_add(layer.macs()));
    let rows: u64 = blob.layers().map(|layer| u64::from(layer.input.height)).sum();
    if macs > MAX_MACS || rows > MAX_ROWS || blob.input().len() > MAX_ARENA_BYTES as u64 {
        return Reached::Parsed;
    }
    let options = Options { max_arena_bytes: MAX_ARENA_BYTES, ..Options::default() };
    let Ok(mut engine) = Engine::new(&blob, kernel, &Serial, options) else { return Reached::Parsed };
    let picture = vec![200; blob.input().len() as usize];
    let logits = engine.run(&picture).expect("a picture of the right size");
    assert_eq!(logits.len(), blob.n_classes());
    let _ = black_box(engine.self_test());
    Reached::Ran
}

/// Decodes a picture of at most a million pixels; its sides, if it is one.
pub fn picture(bytes: &[u8]) -> Option<(usize, usize)> {
    let limits = Limits { pixels: 1 << 20, ..Limits::default() };
    let image = decode(bytes, limits).ok()?;
    assert_eq!(image.data().len(), image.width() * image.height() * image.channels());
    assert!(image.width() * image.height() <= 1 << 20);
    Some((image.width(), image.height()))
}

/// Makes the head's checksum right, if the header says where the head ends.
pub fn seal(bytes: &mut [u8]) {
    let at = offset_of!(Header, head_len);
    let Some(Ok(len)) = bytes.get(at..at + 4).map(<[u8; 4]>::try_from) else { return };
    let Some(head) = bytes.get(HEAD_CRC_START..u32::from_le_bytes(len) as usize) else { return };
    let crc = crc32fast::hash(head);
    bytes[offset_of!(Header, head_crc)..][..4].copy_from_slice(&crc.to_le_bytes());
}

/// Small blobs of every scheme and every kind of layer: where mutations start.
pub fn seeds() -> Vec<Vec<u8>> {
    use vgg_edge_blob::Padding::{Same, Valid};
    let conv = |kernel, filters, block| Part::Conv { kernel, filters, block };
    let pool = |stride, padding, block| Part::Pool { stride, padding, block };
    let networks: [(u32, u32, u32, Vec<Part>); 5] = [
        (6, 5, 3, vec![conv(3, 5, 1), pool(2, Valid, 1), Part::Gap, Part::Dense { units: 2 }]),
        (8, 8, 1, vec![conv(3, 8, 1), conv(1, 9, 1), pool(1, Same, 1), conv(3, 4, 2), pool(2, Same, 2)]),
        (3, 7, 4, vec![conv(3, 3, 1), pool(1, Valid, 2), Part::Dense { units: 9 }, Part::Dense { units: 3 }]),
        (4, 4, 3, vec![Part::Gap, Part::Dense { units: 2 }]),
        (
            7,
            5,
            3,
            vec![conv(1, 8, 1), conv(3, 9, 1), pool(2, Same, 1), conv(3, 8, 2), Part::Dense { units: 2 }],
        ),
    ];
    let mut random = Random(0x5EED_0004);
    let mut seeds = Vec::new();
    for scheme in [Scheme::Int8, Scheme::F16] {
        for (height, width, channels, parts) in &networks {
            let input = Shape { height: *height, width: *width, channels: *channels };
            // The last network: with Winograd, where the scheme has it.
            let last = *height == 7;
            let twins: &[fn(NewModel) -> NewModel] = match (last, scheme) {
                (false, _) => &[|model| model],
                (true, Scheme::F16) => &[networks::winograd_twin],
                (true, Scheme::Int8 | Scheme::Int8Fc4) => &[
                    networks::winograd_twin,
                    networks::filters_twin,
                    |model| networks::winograd8_twin(model, Form::F23),
                    |model| networks::winograd8_twin(model, Form::F43),
                ],
            };
            let plain = networks::model(&mut random, scheme, input, parts);
            for twin in twins {
                let mut model = twin(plain.clone());
                if let Some(Part::Dense { units }) = parts.last() {
                    model.labels = (0..*units).map(|class| format!("class {class}")).collect();
                    model.golden = Some((vec![7; input.len() as usize], vec![0.5; *units as usize]));
                }
                model.metadata = "{}".to_owned();
                let mut bytes = Vec::new();
                write(model, &mut bytes).expect("a legal model");
                seeds.push(bytes);
            }
        }
    }
    // Two dense layers in 4 bits.
    let (height, width, channels, parts) = &networks[2];
    let input = Shape { height: *height, width: *width, channels: *channels };
    let model = networks::model(&mut random, Scheme::Int8, input, parts);
    let mut bytes = Vec::new();
    write(networks::int4_twin(&mut random, model), &mut bytes).expect("a legal model");
    seeds.push(bytes);
    seeds
}

/// The `n`-th mutation of `seeds`: one to four edits, mostly of the head, where all structure is; sealed
/// every other time.
pub fn mutation(seeds: &[Vec<u8>], n: u64) -> Vec<u8> {
    let mut random = Random((n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    random.next();
    let mut pick = |n: usize| (random.next() >> 16) as usize % n.max(1);
    let mut bytes = seeds[pick(seeds.len())].clone();
    let head_len = bytes.len().min(size_of::<Header>() + 5 * 96 + 9 * size_of::<SectionRecord>());
    for _ in 0..1 + pick(4) {
        let at = if pick(4) > 0 { pick(head_len.min(bytes.len())) } else { pick(bytes.len()) };
        let values = [0, 1, 2, 3, 4, 7, 8, 9, 127, 128, 254, 255];
        let wide = [0u32, 1, 2, 255, 256, 4096, 16384, 65535, 1 << 28, 1 << 31, u32::MAX];
        match pick(6) {
            0 => bytes[at] ^= 1 << pick(8),
            1 => bytes[at] = values[pick(values.len())],
            2 | 3 => {
                let (at, value) = (at & !3, wide[pick(wide.len())].to_le_bytes());
                bytes.iter_mut().skip(at).zip(value).for_each(|(byte, new)| *byte = new);
            }
            4 => {
                let from = pick(bytes.len());
                let n = (1 + pick(32)).min(bytes.len() - from).min(bytes.len() - at);
                bytes.copy_within(from..from + n, at);
            }
            _ => {
                let len = pick(bytes.len() + 64).max(1);
                bytes.resize(len, 0);
                let len = (len as u64).to_le_bytes();
                let field = offset_of!(Header, file_len);
                bytes.iter_mut().skip(field).zip(len).for_each(|(byte, new)| *byte = new);
            }
        }
    }
    if pick(2) == 0 {
        seal(&mut bytes);
    }
    bytes
}
