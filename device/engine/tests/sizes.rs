//! Inputs of 32x32 to 640x640, square or not, odd or even: the best kernel against `scalar`, arenas and bands.
//!
//! ```text
//! five VGG blocks, narrow ─► every size, scheme, stride of the last pool: best == scalar
//! VGG16's own widths      ─► arena and bands
//! ```

#[allow(dead_code, reason = "what networks must compute is another test's")]
mod support;

use std::collections::BTreeSet;

use support::{Part, Random, blob_bytes, model};
use vgg_edge_blob::{Blob, Padding, Scheme, Shape};
use vgg_edge_engine::pool::{Executor, Pool, Serial};
use vgg_edge_engine::{Engine, Options, kernels};

const SEED: u64 = 0x5EED_0005;

/// Height and width.
const SIZES: [(u32, u32); 11] = [
    (32, 32),
    (33, 47),
    (64, 32),
    (37, 129),
    (96, 96),
    (101, 75),
    (224, 224),
    (225, 223),
    (299, 331),
    (480, 640),
    (640, 640),
];

/// A block of convolutions with its pool for each of five widths; the last pool has `stride`.
fn vgg(n_convs: [usize; 5], widths: [u32; 5], stride: u8) -> Vec<Part> {
    let mut parts = Vec::new();
    for (block, (n_convs, filters)) in (1..).zip(n_convs.into_iter().zip(widths)) {
        parts.extend(vec![Part::Conv { kernel: 3, filters, block }; n_convs]);
        let stride = if block == 5 { stride } else { 2 };
        let padding = if stride == 1 { Padding::Same } else { Padding::Valid };
        parts.push(Part::Pool { stride, padding, block });
    }
    parts
}

const VGG11: [usize; 5] = [1, 1, 2, 2, 2];
const VGG16: [usize; 5] = [2, 2, 3, 3, 3];

fn input(height: u32, width: u32, channels: u32) -> Shape {
    Shape { height, width, channels }
}

/// Every size meets both strides of the last pool, classifier and feature extractor, pictures of 1, 3 and 4 channels
/// somewhere in the list.
#[test]
fn the_best_kernel_equals_scalar_at_every_size() {
    let (best, scalar) = (kernels::best(), kernels::by_name("scalar").unwrap());
    println!("{} against {}, seed {SEED:#x}", best.name(), scalar.name());
    let pool = Pool::new(2).unwrap();
    for (i, (height, width)) in SIZES.into_iter().enumerate() {
        let n_convs = if height * width > 100_000 { VGG11 } else { VGG16 };
        let input = input(height, width, [3, 4, 1][i % 3]);
        for (stride, widths) in [(2, [8, 8, 16, 8, 8]), (1, [8, 16, 8, 8, 13])] {
            let mut parts = vgg(n_convs, widths, stride);
            if stride == 2 {
                parts.extend([Part::Gap, Part::Dense { units: 10 }]);
            }
            for scheme in [Scheme::Int8, Scheme::F16] {
                let bytes = blob_bytes(&model(&mut Random(SEED), scheme, input, &parts));
                let blob = Blob::parse(bytes.as_slice()).unwrap();
                let mut random = Random(SEED + i as u64);
                let picture: Vec<u8> = (0..input.len()).map(|_| random.range(0, 255) as u8).collect();
                let bits = |kernel, executor: &dyn Executor| -> Vec<u32> {
                    let mut engine = Engine::new(&blob, kernel, executor, Options::default()).unwrap();
                    engine.run(&picture).unwrap().iter().map(|v| v.to_bits()).collect()
                };
                let (found, expected) = (bits(best, &pool), bits(scalar, &Serial));
                let wrong = found.iter().zip(&expected).position(|(f, e)| f != e);
                assert_eq!(wrong, None, "{input}, {}, stride {stride}: first wrong value", scheme.name());
                let distinct = expected.iter().collect::<BTreeSet<_>>().len();
                assert!(distinct >= 5, "{input}, {}: {distinct} different values", scheme.name());
            }
        }
    }
}

/// Arena in MiB that VGG16's convolutions may take: int8, f16.
fn arena_limit(pixels: u32) -> [usize; 2] {
    match pixels {
        0..=10_000 => [1, 4],
        10_001..=60_000 => [4, 20],
        60_001..=100_000 => [7, 36],
        _ => [28, 150],
    }
}

#[test]
fn vgg16_plans_sanely_from_small_to_large() {
    let parts = vgg(VGG16, [64, 128, 256, 512, 512], 2);
    for (scheme, limit_idx) in [(Scheme::Int8, 0), (Scheme::F16, 1)] {
        // Plans depend on shapes alone: the weights of one size serve all.
        let mut model = model(&mut Random(SEED), scheme, input(32, 32, 3), &parts);
        for (height, width) in [(32, 32), (33, 47), (96, 96), (224, 224), (299, 331), (640, 640)] {
            model.input = input(height, width, 3);
            let bytes = blob_bytes(&model);
            let blob = Blob::parse(bytes.as_slice()).unwrap();
            let engine = Engine::new(&blob, kernels::best(), &Serial, Options::default()).unwrap();
            let (arena, blocks) = (engine.arena_bytes(), engine.blocks());
            let bands: Vec<_> = blocks.iter().map(|b| (b.n_bands, b.band_rows, b.window_bytes)).collect();
            let case = format!("{height}x{width} {}: arena {arena}, bands {bands:?}", scheme.name());
            println!("{case}");
            assert!(arena < arena_limit(height * width)[limit_idx] << 20, "{case}");
            assert_eq!(blocks.len(), 5, "{case}");
            let layers = engine.layers();
            for block in blocks {
                let members = &layers[block.first_layer..][..block.n_layers];
                let rows = members[block.n_layers - 1].output.height as usize;
                assert_eq!(rows.div_ceil(block.band_rows), block.n_bands, "{case}");
                assert!(block.window_bytes + block.map_bytes <= arena, "{case}");
                // A band's windows are never more than the maps, with their padding and alignment.
                let value_size = if scheme == Scheme::Int8 { 1 } else { 4 };
                let padded = |s: Shape| ((s.height + 2) * (s.width + 2) + 16) as usize * s.channels as usize;
                let whole: usize =
                    members[..block.n_layers - 1].iter().map(|l| padded(l.output) * value_size + 64).sum();
                assert!(block.window_bytes <= whole, "{case}");
            }
        }
    }
}
