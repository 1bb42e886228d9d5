//! Exact Winograd from filters: every kernel's taps are those of `scalar`, and `scalar`'s those of the matrix. Then whole layers:
//! the bytes of direct convolution, whatever the shape, the cache and the number of threads.
//!
//! ```text
//! VGG_EDGE_EXPECT_KERNELS="i8mm dotprod neon scalar" cargo test --test winograd_filters -- --nocapture
//! ```

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use std::ops::Range;

use support::{Part, Random, blob_bytes, filters_twin, int8_logits, k8_twin, model};
use vgg_edge_blob::winograd::WINDOW;
use vgg_edge_blob::{Blob, Layout, NewModel, Padding, Scheme, Shape};
use vgg_edge_engine::kernels::{GROUP, Kernel, WinogradFilters, available, by_name, variant};
use vgg_edge_engine::pool::{Executor, Pool, Serial};
use vgg_edge_engine::{Engine, Options};

const SEED: u64 = 0x5eed_2026_1124_0011;
const CANARY: i16 = 0x5a5a;

/// As printed in `vgg_edge_blob::winograd`.
const G: [[i64; 3]; 6] = [[6, 0, 0], [4, 4, 4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 6]];

fn random() -> Random {
    println!("seed {SEED:#x}");
    Random(SEED)
}

#[test]
fn the_expected_rows_run() {
    let names: Vec<_> = available().map(|kernel| variant(kernel.name())).collect();
    println!("kernels: {} (seed {SEED:#x})", names.join(" "));
    if let Ok(expected) = std::env::var("VGG_EDGE_EXPECT_KERNELS") {
        assert_eq!(names.join(" "), expected, "kernels of this CPU, best first");
    }
}

/// The taps of some rows, from a buffer that is as long as it must be; nothing behind them is touched.
fn taps(kernel: &dyn Kernel, filters: &[i8], channels: usize, tap_rows: Range<usize>) -> Vec<i16> {
    let n = tap_rows.len() * WINDOW * channels * GROUP;
    let mut weights = vec![CANARY; n + GROUP];
    kernel.winograd_filters(&WinogradFilters { filters, channels, tap_rows }, &mut weights);
    assert!(weights[n..].iter().all(|w| *w == CANARY), "{}", kernel.name());
    weights.truncate(n);
    weights
}

fn check(filters: &[i8], channels: usize, tap_rows: &Range<usize>) {
    let expected = taps(by_name("scalar").unwrap(), filters, channels, tap_rows.clone());
    for kernel in available() {
        let found = taps(kernel, filters, channels, tap_rows.clone());
        let differs = found.iter().zip(&expected).position(|(f, e)| f != e);
        assert_eq!(differs, None, "{}: {channels} channels, rows {tap_rows:?}", kernel.name());
    }
}

fn ranges() -> impl Iterator<Item = Range<usize>> {
    (0..WINDOW).flat_map(|first| (first + 1..=WINDOW).map(move |end| first..end))
}

#[test]
fn scalar_is_the_matrix() {
    let r = &mut random();
    let channels = 16;
    let filters: Vec<i8> = (0..9 * channels * GROUP).map(|_| r.range(-127, 127) as i8).collect();
    for rows in ranges() {
        let found = taps(by_name("scalar").unwrap(), &filters, channels, rows.clone());
        for (n, i, j) in rows.clone().enumerate().flat_map(|(n, i)| (0..WINDOW).map(move |j| (n, i, j))) {
            for (c, o) in (0..channels).flat_map(|c| (0..GROUP).map(move |o| (c, o))) {
                let weight = |y: usize, x: usize| {
                    i64::from(filters[((3 * y + x) * channels + c / 4 * 4) * GROUP + o * 4 + c % 4])
                };
                let terms = (0..9).map(|t| G[i][t / 3] * G[j][t % 3] * weight(t / 3, t % 3));
                let place = ((n * WINDOW + j) * channels + c) * GROUP + o;
                assert_eq!(
                    i64::from(found[place]),
                    terms.sum::<i64>(),
                    "channel {c}, output {o}, tap ({i}, {j})"
                );
            }
        }
    }
}

#[test]
fn any_channels_and_rows() {
    let r = &mut random();
    for channels in (8..=48).step_by(8).chain([136, 512]) {
        let filters: Vec<i8> = (0..9 * channels * GROUP).map(|_| r.range(-127, 127) as i8).collect();
        ranges().for_each(|rows| check(&filters, channels, &rows));
    }
}

/// Also -128, which only a broken file has.
#[test]
fn extremes() {
    let r = &mut random();
    for low in [-127, -128] {
        for _ in 0..16 {
            let value = |_| if r.range(0, 1) == 0 { low } else { 127 };
            let filters: Vec<i8> = (0..9 * 8 * GROUP).map(value).collect();
            ranges().for_each(|rows| check(&filters, 8, &rows));
        }
    }
    // The largest tap there is.
    let found = taps(by_name("scalar").unwrap(), &[127; 9 * 64], 8, 1..2);
    assert_eq!(found[8 * GROUP], 144 * 127);
}

/// The first and the last row of taps look at one row of the filter.
#[test]
fn edges_take_a_third_of_a_filter() {
    let r = &mut random();
    let filters: Vec<i8> = (0..9 * 24 * GROUP).map(|_| r.range(-127, 127) as i8).collect();
    let third = 3 * 24 * GROUP;
    for (rows, seen) in [(0..1, 0..third), (5..6, 2 * third..3 * third)] {
        let mut other: Vec<i8> = filters.iter().map(|w| w.wrapping_add(1)).collect();
        other[seen.clone()].copy_from_slice(&filters[seen]);
        for kernel in available() {
            assert_eq!(taps(kernel, &filters, 24, rows.clone()), taps(kernel, &other, 24, rows.clone()));
        }
    }
}

#[test]
fn wrong_extents_panic() {
    let (filters, channels) = (vec![0i8; 9 * 8 * GROUP], 8);
    let good = WinogradFilters { filters: &filters, channels, tap_rows: 1..3 };
    let with = |tap_rows| WinogradFilters { tap_rows, ..good.clone() };
    let n = 2 * WINDOW * 8 * GROUP;
    let bad = [
        (
            WinogradFilters { filters: &filters[1..], ..good.clone() },
            n,
            "filters has 575 values, too few: Some(576)",
        ),
        (good.clone(), n - 1, "weights has 767 values, too few: Some(768)"),
        (WinogradFilters { channels: 12, ..good.clone() }, n, "12 channels, expected a multiple of 8"),
        (WinogradFilters { channels: 0, ..good.clone() }, n, "0 channels"),
        (
            WinogradFilters { channels: usize::MAX & !7, ..good.clone() },
            n,
            "filters has 576 values, too few: None",
        ),
        (with(3..3), n, "rows 3..3 of taps"),
        (with(5..7), n, "rows 5..7 of taps, expected some of 0..6"),
    ];
    for kernel in available() {
        kernel.winograd_filters(&good, &mut vec![0; n]);
        for (filters, len, message) in &bad {
            let run = || kernel.winograd_filters(filters, &mut vec![0; *len]);
            let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).expect_err(kernel.name());
            let found = found.downcast_ref::<String>().expect("a formatted message");
            assert!(found.contains(message), "{}: found {found:?}, expected {message:?}", kernel.name());
        }
    }
}

/// From filters, 4 or 8 values together, repacked and not: the values of plain loops on every kernel, thread count and cache size.
fn check_model(new: &NewModel, picture: &[u8]) {
    let expected = int8_logits(new, picture);
    let filters = filters_twin(new.clone());
    let (k4, k8) = (blob_bytes(&filters), blob_bytes(&k8_twin(filters)));
    assert!(k4.as_slice() != k8.as_slice() && k4.as_slice() != blob_bytes(new).as_slice());
    let pools: [Box<dyn Executor>; 3] =
        [Box::new(Serial), Box::new(Pool::new(2).unwrap()), Box::new(Pool::new(4).unwrap())];
    for (bytes, is_k8) in [(&k4, false), (&k8, true)] {
        let blob = Blob::parse(bytes.as_slice()).unwrap();
        for (kernel, repack) in available().flat_map(|kernel| [(kernel, false), (kernel, true)]) {
            for (pool, l2_bytes) in
                pools.iter().flat_map(|p| [1, 20 << 10, 150 << 10, 1 << 20].map(|l2| (p, l2)))
            {
                let options = Options { l2_bytes, repack, ..Options::default() };
                let mut engine = Engine::new(&blob, kernel, pool.as_ref(), options).unwrap();
                let found = engine.run(picture).unwrap();
                let what = format!(
                    "{}, {} threads, L2 {l2_bytes}, k8 {is_k8}, repack {repack}",
                    kernel.name(),
                    pool.n_threads()
                );
                let differs = found.iter().zip(&expected).position(|(f, e)| f != e);
                assert_eq!((found.len(), differs), (expected.len(), None), "{what}");
                // The layout of the direct algorithm: no kernel that reads it needs another copy.
                let reads = !repack
                    || kernel.wants(Layout::S8O8K4) == if is_k8 { Layout::S8O8K8 } else { Layout::S8O8K4 };
                assert_eq!(engine.repacked().is_empty(), reads, "{what}");
            }
        }
    }
}

#[test]
fn layers_of_every_ragged_shape() {
    let r = &mut random();
    let sides = [(1, 1), (1, 14), (13, 1), (4, 4), (5, 6), (7, 13), (14, 14), (3, 70)];
    for (i, (height, width)) in sides.into_iter().enumerate() {
        let (channels, filters) = ([8, 3, 16, 24, 40, 33][i % 6], [8, 17, 5, 72, 24][i % 5]);
        let conv = |kernel, filters, block| Part::Conv { kernel, filters, block };
        let parts = [conv(1, channels, 1), conv(3, filters, 1)];
        let new = model(r, Scheme::Int8, Shape { height, width, channels: 3 }, &parts);
        let picture: Vec<u8> = (0..new.input.len()).map(|_| r.range(0, 255) as u8).collect();
        check_model(&new, &picture);
    }
}

/// Several layers of a block, in bands, and a pool that takes tiles as they are made.
#[test]
fn blocks_with_pools() {
    let r = &mut random();
    let conv = |filters, block| Part::Conv { kernel: 3, filters, block };
    let pool = |stride, padding, block| Part::Pool { stride, padding, block };
    let parts = [
        conv(16, 1),
        conv(24, 1),
        pool(2, Padding::Same, 1),
        conv(40, 2),
        conv(72, 2),
        pool(2, Padding::Valid, 2),
        Part::Dense { units: 7 },
    ];
    let new = model(r, Scheme::Int8, Shape { height: 27, width: 38, channels: 3 }, &parts);
    let picture: Vec<u8> = (0..new.input.len()).map(|_| r.range(0, 255) as u8).collect();
    check_model(&new, &picture);
}
