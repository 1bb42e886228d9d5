//! What tilings promise: room for every task, values that stay, weights that are read once.

use super::*;
use vgg_edge_blob::winograd::TAPS;
use vgg_edge_blob::{Linear, Quantization, Shape};

/// Only the channels of a layer matter here, and that its map is ragged.
fn tiling(channels: u32, outputs: u32, n_tiles: usize, l2: usize, n_threads: usize) -> Tiling {
    tiling_of((Sizes::EXACT, false), channels, outputs, n_tiles, l2, n_threads)
}

fn tiling_of(
    (sizes, filters): (Sizes, bool),
    channels: u32,
    outputs: u32,
    n_tiles: usize,
    l2: usize,
    n_threads: usize,
) -> Tiling {
    let shape = |channels| Shape { height: 1, width: 2, channels };
    let quant = Quantization { scale: 1.0, zero_point: 0 };
    let weights = Weights::S8 { layout: S8Layout::K4, winograd: filters, data: &[], params: &[] };
    let linear = Linear { relu: true, n_runs: 3, run_len: 3 * channels, pad: [0; 4], weights };
    let layer = Layer {
        name: "",
        op: LayerOp::Conv { kernel: 3, linear },
        input: shape(channels),
        output: shape(outputs),
        block: 0,
        in_quant: quant,
        out_quant: quant,
        sqnr_db: f32::NAN,
    };
    Tiling::new(sizes, &layer, n_tiles, l2, n_threads)
}

/// The layers of a VGG16 at 224x224: inputs, outputs, tiles.
const VGG16: [(u32, u32, usize); 9] = [
    (64, 64, 3136),
    (64, 128, 784),
    (128, 128, 784),
    (128, 256, 196),
    (256, 256, 196),
    (256, 512, 49),
    (512, 512, 49),
    (512, 512, 16),
    (512, 512, 1),
];

#[test]
fn early_layers_keep_values_in_the_cache_and_late_ones_read_weights_once() {
    for l2 in [512 << 10, 1 << 20, 2 << 20] {
        for n_threads in [1, 4] {
            for (i, (channels, outputs, n_tiles)) in VGG16.into_iter().enumerate() {
                let t = tiling(channels, outputs, n_tiles, l2, n_threads);
                let weights = (channels * outputs) as usize * TAPS * 2;
                let (values, sums) = (t.values_of(t.band), t.sums_bytes());
                assert!(values + sums <= MAX_BYTES + MAX_BYTES / 8, "layer {i}: {t:?}");
                if t.by_row {
                    assert!(i >= 2, "layer {i} with {l2}: {t:?}");
                } else {
                    assert!(values + sums + weights / t.n_groups <= l2, "layer {i} with {l2}: {t:?}");
                }
                if i >= 5 {
                    assert_eq!(t.bands(n_tiles).count(), 1, "layer {i} with {l2}: {t:?}");
                }
            }
        }
    }
}

#[test]
fn tasks_have_room_for_their_sums() {
    for sizes in [Sizes::EXACT, REQUANTIZED[0], REQUANTIZED[1]] {
        for (channels, outputs, n_tiles) in VGG16 {
            // As many pixels in smaller tiles.
            room((sizes, false), channels, outputs, n_tiles * 16 / (sizes.tile * sizes.tile));
        }
    }
    VGG16
        .into_iter()
        .for_each(|(channels, outputs, n_tiles)| room((Sizes::EXACT, true), channels, outputs, n_tiles));
}

/// F23 and F43.
const REQUANTIZED: [Sizes; 2] = [
    Sizes { tile: 2, window: 4, pixel: 1, value: 1, weight: 1 },
    Sizes { tile: 4, window: 6, pixel: 1, value: 1, weight: 1 },
];

fn room((sizes, filters): (Sizes, bool), channels: u32, outputs: u32, n_tiles: usize) {
    for l2 in [1, 100 << 10, 1 << 20] {
        for n_threads in [1, 2, 3, 4, 100] {
            let t = tiling_of((sizes, filters), channels, outputs, n_tiles, l2, n_threads);
            let all = (1..=t.band).rev().take(40).chain(1..=t.band.min(40));
            for (n, at_edge) in all.flat_map(|n| (0..=t.n_edges).map(move |edges| (n, edges))) {
                let n_batches = t.n_batches(n) + at_edge;
                let widest = if at_edge == 0 { n.div_ceil(n_batches) } else { n.min(MAX_BATCH) };
                let (of_groups, of_batches) = t.parts(n_batches);
                let owners = if t.by_row { of_groups } else { t.n_slots() };
                assert!(!t.by_row || of_batches == 1);
                let sums = 4 * owners * t.task_len(n, n_batches, widest);
                assert!(sums <= t.sums_bytes(), "{t:?}: {n} tiles");
                assert!(sizes.value * n_batches * t.batch_len(widest) <= t.values_bytes(), "{t:?}: {n}");
            }
        }
    }
}

#[test]
fn filters_move_an_eighth_by_band_and_are_looked_at_in_pairs_where_they_are_many() {
    let l2 = 512 << 10;
    let of = |channels, outputs, n_tiles| tiling_of((Sizes::EXACT, true), channels, outputs, n_tiles, l2, 1);
    // 128 to 128 channels at 112x112: by band, as with taps, but a band reads 147 KB instead of 1.2 MB.
    let (early, taps) = (of(128, 128, 784), tiling(128, 128, 784, l2, 1));
    assert!(!early.by_row && !taps.by_row, "{early:?}, {taps:?}");
    assert!(6 * early.traffic(784, l2) < taps.traffic(784, l2), "{early:?}, {taps:?}");
    assert!(early.passes().eq(core::iter::once(0..6)));
    // 512 to 512 at 14x14: one band; 2.4 MB of filters are read 8/3 times, instead of once 18.9 MB of taps.
    let late = of(512, 512, 16);
    assert!(late.by_row && late.bands(16).count() == 1, "{late:?}");
    assert!(late.passes().eq([0..1, 1..3, 3..5, 5..6]));
    assert_eq!((early.n_made(784), late.n_made(16)), (early.bands(784).count(), 1));
    // Their room is beside the sums: six rows of taps of a group, or two.
    assert_eq!((early.made_bytes(), late.made_bytes()), (72 * 128 * 8, 24 * 512 * 8));
    let taps = tiling(512, 512, 16, l2, 1);
    assert!(5 * late.traffic(16, l2) < 3 * taps.traffic(16, l2), "{late:?}, {taps:?}");
    assert_eq!((taps.made_len(), taps.n_made(16), taps.price(16)), (0, 0, 0));
    assert!(taps.passes().eq((0..6).map(|row| row..row + 1)));
}
