//! The f16 blobs' Winograd methods of every kernel of the table: each gives the bits of `scalar`; then whole layers.
//!
//! ```text
//! VGG_EDGE_EXPECT_KERNELS="i8mm dotprod neon scalar" cargo test --test winograd16 -- --nocapture
//! ```

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ::half::f16;
use support::{Part, Random, blob_bytes, f16_logits, half_twin, model};
use vgg_edge_blob::winograd::{TAPS, TILE, WINDOW};
use vgg_edge_blob::{Blob, NewModel, Padding, Scheme, Shape};
use vgg_edge_engine::kernels::{
    GROUP, Kernel, MAX_BATCH, Winograd16Input, Winograd16Output, Winograd16Row, available, by_name, variant,
};
use vgg_edge_engine::pool::{Executor, Pool, Serial};
use vgg_edge_engine::{Engine, Options};

const SEED: u64 = 0x5eed_2026_1124_0010;
const CANARY: u64 = 0xdead_beef_0bad_cafe;

fn scalar() -> &'static dyn Kernel {
    by_name("scalar").unwrap()
}

fn random() -> Random {
    println!("seed {SEED:#x}");
    Random(SEED)
}

/// Of any size between 2^-low and 2^high, both signs.
fn number(r: &mut Random, low: i64, high: i64) -> f32 {
    let exponent = r.range(-low, high - 1) as i32;
    let value = (1.0 + r.range(0, (1 << 23) - 1) as f32 / (1 << 23) as f32) * (exponent as f32).exp2();
    if r.range(0, 1) == 0 { value } else { -value }
}

fn half_number(r: &mut Random, low: i64, high: i64) -> u16 {
    f16::from_f32(number(r, low, high)).to_bits()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(kernel: &dyn Kernel, what: &str, found: &[T], expected: &[T]) {
    if let Some(i) = found.iter().zip(expected).position(|(f, e)| f != e) {
        panic!("{}: {what}, value {i}: found {:x?}, expected {:x?}", kernel.name(), found[i], expected[i]);
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn the_expected_rows_run() {
    let names: Vec<_> = available().map(|kernel| variant(kernel.name())).collect();
    println!("kernels: {} (seed {SEED:#x})", names.join(" "));
    if let Ok(expected) = std::env::var("VGG_EDGE_EXPECT_KERNELS") {
        assert_eq!(names.join(" "), expected, "kernels of this CPU, best first");
    }
}

/// A window's data, its rows and columns anywhere.
struct Window {
    input: Vec<f32>,
    rows: [usize; WINDOW],
    columns: [usize; WINDOW],
    channels: usize,
    tap_rows: std::ops::Range<usize>,
    scale: f32,
    tap_stride: usize,
    group_stride: usize,
}

impl Window {
    fn new(r: &mut Random, channels: usize, value: impl Fn(&mut Random) -> f32) -> Self {
        let mut places = || core::array::from_fn(|_| r.range(0, 50) as usize);
        let (rows, columns): ([usize; WINDOW], [usize; WINDOW]) = (places(), places());
        let len = rows.iter().max().unwrap() + columns.iter().max().unwrap() + channels;
        let input = (0..len).map(|_| value(r)).collect();
        let (group_stride, gap) = (GROUP * r.range(1, 12) as usize, r.range(0, 40) as usize);
        let tap_stride = channels / GROUP * group_stride + gap;
        let scale = (r.range(-8, 8) as f32).exp2();
        Self { input, rows, columns, channels, tap_rows: 0..WINDOW, scale, tap_stride, group_stride }
    }

    fn len(&self) -> usize {
        let last_group = (self.channels / GROUP - 1) * self.group_stride;
        (self.tap_rows.len() * WINDOW - 1) * self.tap_stride + last_group + GROUP
    }

    fn window(&self) -> Winograd16Input<'_> {
        let &Self { ref input, rows, columns, channels, scale, tap_stride, group_stride, .. } = self;
        let tap_rows = self.tap_rows.clone();
        Winograd16Input { input, rows, columns, channels, tap_rows, scale, tap_stride, group_stride }
    }

    fn taps(&self, kernel: &dyn Kernel) -> (Vec<u32>, Vec<u16>) {
        let (mut single, mut half) = (vec![77.0; self.len()], vec![0x5a5a; self.len()]);
        kernel.winograd16_input_f32(&self.window(), &mut single);
        kernel.winograd16_input_f16(&self.window(), &mut half);
        (bits(&single), half)
    }

    fn check(&self) {
        let (single, half) = self.taps(scalar());
        for kernel in available() {
            let found = self.taps(kernel);
            same(kernel, "f32 taps", &found.0, &single);
            same(kernel, "f16 taps", &found.1, &half);
        }
    }
}

const B: [[f64; 6]; 6] = [
    [1.0, 1.5, -2.0, -1.5, 1.0, 0.0],
    [0.0, -1.0, -2.5, -0.5, 1.0, 0.0],
    [0.0, 1.0, 0.5, -2.5, 1.0, 0.0],
    [0.0, -1.0, -2.0, 1.0, 2.0, 0.0],
    [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
    [0.0, 1.0, 1.5, -2.0, -1.5, 1.0],
];
const A: [[f64; 6]; 4] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -0.5, 0.0],
    [0.0, 1.0, 1.0, 4.0, 0.25, 0.0],
    [0.0, 1.0, -1.0, 8.0, -0.125, 1.0],
];

/// Small integers: every operation is exact, so that the matrices tell the result.
#[test]
fn input_scalar_is_the_matrix() {
    let r = &mut random();
    let w = Window::new(r, 16, |r| r.range(-20, 20) as f32);
    let (single, half) = w.taps(scalar());
    for (c, i, j) in (0..16).flat_map(|c| (0..TAPS).map(move |t| (c, t / 6, t % 6))) {
        let value = |y: usize, x: usize| f64::from(w.input[w.rows[y] + w.columns[x] + c]);
        let terms = (0..TAPS).map(|t| B[i][t / 6] * B[j][t % 6] * value(t / 6, t % 6));
        let expected = (terms.sum::<f64>() * f64::from(w.scale)) as f32 + 0.0;
        let place = (i * 6 + j) * w.tap_stride + c / 8 * w.group_stride + c % 8;
        assert_eq!(f32::from_bits(single[place]), expected, "channel {c}, tap ({i}, {j})");
        assert_eq!(f16::from_bits(half[place]), f16::from_f32(expected));
    }
}

#[test]
fn input_any_channels_strides_and_rows_of_taps() {
    let r = &mut random();
    for channels in (8..=72).step_by(8) {
        for _ in 0..8 {
            Window::new(r, channels, |r| number(r, 20, 12)).check();
        }
    }
    for (first, end) in (0..WINDOW).flat_map(|first| (first + 1..=WINDOW).map(move |end| (first, end))) {
        let mut w = Window::new(r, 16, |r| number(r, 4, 12));
        w.tap_rows = first..end;
        w.check();
    }
}

/// Beyond half precision, subnormal, zeros of both signs.
#[test]
fn input_extremes() {
    let r = &mut random();
    for value in [65504.0, -65504.0, 1e30, -1e-42, 2f32.powi(-25), 0.0, -0.0] {
        Window::new(r, 24, |r| if r.range(0, 1) == 0 { value } else { number(r, 30, 4) }).check();
        Window::new(r, 8, |_| value).check();
    }
}

/// A batch's values and weights; the taps of both lie as near as they may.
struct Batch<V> {
    n_tiles: usize,
    channels: usize,
    tap_stride: usize,
    values: Vec<V>,
    weights: Vec<u16>,
}

impl<V: Copy> Batch<V> {
    fn new(r: &mut Random, n_tiles: usize, channels: usize, value: impl Fn(&mut Random) -> V) -> Self {
        let tap_stride = n_tiles * channels + r.range(0, 40) as usize;
        let values = (0..5 * tap_stride + n_tiles * channels).map(|_| value(r)).collect();
        let weights = (0..6 * channels * GROUP).map(|_| half_number(r, 14, 1)).collect();
        Self { n_tiles, channels, tap_stride, values, weights }
    }

    fn check(&self, multiply: impl Fn(&dyn Kernel, &Winograd16Row<'_, V>, &mut [f32])) -> Vec<f32> {
        let &Self { n_tiles, channels, tap_stride, ref values, ref weights } = self;
        let row = Winograd16Row { values, tap_stride, n_tiles, channels, weights };
        let n = 4 * n_tiles * GROUP;
        let sums = |kernel: &dyn Kernel| {
            let mut sums = vec![77.0; n + GROUP];
            multiply(kernel, &row, &mut sums);
            assert!(sums[n..].iter().all(|s| *s == 77.0), "{}", kernel.name());
            sums
        };
        let expected = sums(scalar());
        for kernel in available() {
            let what = format!("{n_tiles} tiles, {channels} channels");
            same(kernel, &what, &bits(&sums(kernel)), &bits(&expected));
        }
        expected
    }
}

fn single(kernel: &dyn Kernel, row: &Winograd16Row<'_, f32>, sums: &mut [f32]) {
    kernel.winograd16_row_f32(row, sums);
}

fn half(kernel: &dyn Kernel, row: &Winograd16Row<'_, u16>, sums: &mut [f32]) {
    kernel.winograd16_row_f16(row, sums);
}

/// Small integers again.
#[test]
fn row_scalar_is_the_index_equation() {
    let r = &mut random();
    let integer = |r: &mut Random| r.range(-3, 3) as f32;
    let mut batch = Batch::new(r, 3, 272, integer);
    batch.weights.iter_mut().for_each(|w| *w = f16::from_f32(r.range(-2, 2) as f32).to_bits());
    let halves = Batch {
        values: batch.values.iter().map(|v| f16::from_f32(*v).to_bits()).collect(),
        weights: batch.weights.clone(),
        n_tiles: batch.n_tiles,
        channels: batch.channels,
        tap_stride: batch.tap_stride,
    };
    let found = (batch.check(single), halves.check(half));
    for (x, p, o) in (0..4).flat_map(|x| (0..24).map(move |i| (x, i / 8, i % 8))) {
        let product = |j: usize, c: usize| {
            let value = f64::from(batch.values[j * batch.tap_stride + (c / 8 * 3 + p) * 8 + c % 8]);
            A[x][j] * value * f16::from_bits(batch.weights[(j * 272 + c) * 8 + o]).to_f64()
        };
        let sum: f64 = (0..6).flat_map(|j| (0..272).map(move |c| (j, c))).map(|(j, c)| product(j, c)).sum();
        let place = (x * 3 + p) * GROUP + o;
        assert_eq!((f64::from(found.0[place]), f64::from(found.1[place])), (sum, sum));
    }
}

#[test]
fn row_every_batch_and_depth() {
    let r = &mut random();
    for n_tiles in 1..=MAX_BATCH {
        for channels in [8, 16, 24, 32, 40, 64, 128, 136, 168, 256, 264] {
            Batch::new(r, n_tiles, channels, |r| number(r, 10, 6)).check(single);
            Batch::new(r, n_tiles, channels, |r| half_number(r, 10, 6)).check(half);
        }
    }
    Batch::new(r, 12, 512, |r| number(r, 10, 6)).check(single);
    // 512 channels of 9 taps are depth 4608.
    Batch::new(r, 12, 512, |r| half_number(r, 10, 6)).check(half);
}

/// Ties, cancellations, subnormal and infinite sums: what a rounding in between would spoil.
#[test]
fn row_f16_extremes() {
    let r = &mut random();
    for (low, high) in [(24, -12), (24, 15), (2, 1), (14, -8), (0, 10)] {
        for _ in 0..4 {
            Batch::new(r, 7, 64, |r| half_number(r, low, high)).check(half);
        }
        // Few bits: many exact ties and sums of 0.
        let few = |r: &mut Random| half_number(r, low, high) & 0xff00;
        let mut batch = Batch::new(r, 12, 96, few);
        batch.weights.iter_mut().for_each(|w| *w &= 0xfe00);
        batch.check(half);
    }
    for (value, weight) in [(0x7bff, 0x7bff), (0x0001, 0x0001), (0x8000, 0x3c00), (0x0001, 0x3800)] {
        let mut batch = Batch::new(r, 5, 40, |_| value);
        batch.weights.fill(weight);
        // The row half of the transform makes NaN of infinities, and NaN's bits are the CPU's own: compare without.
        if value != 0x7bff {
            batch.check(half);
        }
    }
}

/// A tile of sums, and what its pixels are made with.
struct Tile {
    sums: Vec<f32>,
    column_stride: usize,
    bias: [f32; GROUP],
    scale: f32,
    relu: bool,
    row_stride: usize,
    pixel_stride: usize,
}

impl Tile {
    fn new(r: &mut Random) -> Self {
        let column_stride = GROUP * r.range(1, 12) as usize;
        Self {
            sums: (0..23 * column_stride + GROUP).map(|_| number(r, 4, 12)).collect(),
            column_stride,
            bias: core::array::from_fn(|_| number(r, 4, 4)),
            scale: (r.range(-8, 4) as f32).exp2(),
            relu: r.range(0, 1) == 0,
            row_stride: 4 * 9 * 4 + r.range(0, 9) as usize,
            pixel_stride: 4 * r.range(1, 9) as usize,
        }
    }

    fn pixels(&self, kernel: &dyn Kernel, n_rows: usize, n_columns: usize) -> Vec<u64> {
        let len = (n_rows - 1) * self.row_stride + (n_columns - 1) * self.pixel_stride + 4;
        let words: Vec<AtomicU64> = (0..len + 1).map(|_| AtomicU64::new(CANARY)).collect();
        kernel.winograd16_output(&Winograd16Output {
            sums: &self.sums,
            column_stride: self.column_stride,
            bias: &self.bias,
            scale: self.scale,
            relu: self.relu,
            n_rows,
            n_columns,
            words: &words[..len],
            row_stride: self.row_stride,
            pixel_stride: self.pixel_stride,
        });
        words.iter().map(|w| w.load(Relaxed)).collect()
    }

    fn check(&self) {
        for (n_rows, n_columns) in (1..=TILE).flat_map(|y| (1..=TILE).map(move |x| (y, x))) {
            let expected = self.pixels(scalar(), n_rows, n_columns);
            assert_eq!(expected[expected.len() - 1], CANARY);
            for kernel in available() {
                let what = format!("tile of {n_rows}x{n_columns}");
                same(kernel, &what, &self.pixels(kernel, n_rows, n_columns), &expected);
            }
        }
    }
}

#[test]
fn output_every_part_of_a_tile_and_extremes() {
    let r = &mut random();
    for _ in 0..20 {
        Tile::new(r).check();
    }
    for sum in [f32::NAN, f32::INFINITY, -0.0, 0.0, 1e38, -1e38, 1e-40] {
        for relu in [false, true] {
            let mut tile = Tile::new(r);
            tile.sums.iter_mut().step_by(3).for_each(|s| *s = sum);
            tile.relu = relu;
            tile.check();
        }
    }
}

#[test]
fn output_scalar_is_the_matrix() {
    let r = &mut random();
    let mut tile = Tile::new(r);
    tile.sums.iter_mut().for_each(|s| *s = r.range(-100, 100) as f32);
    (tile.bias, tile.scale, tile.relu) = (core::array::from_fn(|o| o as f32 - 4.0), 0.25, false);
    let words = tile.pixels(scalar(), 4, 4);
    for (y, x, o) in (0..16).flat_map(|p| (0..8).map(move |o| (p / 4, p % 4, o))) {
        let sum: f64 =
            (0..6).map(|i| A[y][i] * f64::from(tile.sums[(4 * i + x) * tile.column_stride + o])).sum();
        let word = words[y * tile.row_stride + x * tile.pixel_stride + o / 2];
        let found = f32::from_bits((word >> (32 * (o % 2))) as u32);
        assert_eq!(f64::from(found), sum * 0.25 + f64::from(tile.bias[o]), "({y}, {x}), output {o}");
    }
}

#[test]
fn short_slices_and_bad_extents_panic() {
    let r = &mut random();
    let mut w = Window::new(r, 8, |_| 0.0);
    (w.tap_stride, w.group_stride) = (8, 8);
    let mut bad: Vec<(Winograd16Input<'_>, usize, &str)> = vec![
        (Winograd16Input { input: &w.input[1..], ..w.window() }, TAPS * 8, "input has"),
        (w.window(), TAPS * 8 - 1, "taps has 287 values, too few: Some(288) needed"),
        (Winograd16Input { channels: 12, ..w.window() }, TAPS * 8, "12 channels, expected a multiple of 8"),
        (Winograd16Input { rows: [usize::MAX; WINDOW], ..w.window() }, TAPS * 8, "input has"),
    ];
    bad.push((Winograd16Input { tap_rows: 3..7, ..w.window() }, TAPS * 8, "rows 3..7 of taps"));
    for kernel in available() {
        for (window, len, expected) in &bad {
            panics(expected, || kernel.winograd16_input_f32(window, &mut vec![0.0; *len]));
            panics(expected, || kernel.winograd16_input_f16(window, &mut vec![0; *len]));
        }
        let (values, weights) = (vec![0.0; 96], vec![0; 384]);
        let row =
            Winograd16Row { values: &values[..], tap_stride: 16, n_tiles: 2, channels: 8, weights: &weights };
        let rows = [
            (Winograd16Row { values: &values[..95], ..row }, 64, "values has 95 values"),
            (Winograd16Row { weights: &weights[..383], ..row }, 64, "weights has 383"),
            (Winograd16Row { n_tiles: 13, ..row }, 64, "13 tiles"),
            (row, 63, "sums has 63"),
        ];
        for (row, len, expected) in rows {
            panics(expected, || kernel.winograd16_row_f32(&row, &mut vec![0.0; len]));
        }
        let mut tile = Tile::new(r);
        tile.sums.pop();
        panics("sums has", || drop(tile.pixels(kernel, 4, 4)));
        panics("tile of 5x4", || drop(Tile::new(&mut Random(1)).pixels(kernel, 5, 4)));
    }
}

fn panics(expected: &str, run: impl FnOnce()) {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    let message = result.expect_err(expected).downcast::<String>().unwrap();
    assert!(message.contains(expected), "found `{message}`, expected `{expected}`");
}

/// Every kernel, thread count and cache size: one answer, near direct convolution.
fn check_model(new: &NewModel, picture: &[u8], is_half: bool) {
    let near = f16_logits(new, picture);
    let twin = half_twin(new.clone(), is_half);
    let bytes = blob_bytes(&twin);
    let blob = Blob::parse(bytes.as_slice()).unwrap();
    let mut expected: Option<Vec<f32>> = None;
    let pools: [Box<dyn Executor>; 3] =
        [Box::new(Serial), Box::new(Pool::new(2).unwrap()), Box::new(Pool::new(4).unwrap())];
    for kernel in available() {
        for pool in &pools {
            for l2_bytes in [1, 64 << 10, 1 << 20] {
                let options = Options { l2_bytes, ..Options::default() };
                let mut engine = Engine::new(&blob, kernel, pool.as_ref(), options).unwrap();
                let found = engine.run(picture).unwrap();
                let expected = expected.get_or_insert_with(|| found.to_vec());
                let what = format!("{}, {} threads, L2 {l2_bytes}", kernel.name(), pool.n_threads());
                assert_eq!(bits(found), bits(expected), "{what}");
            }
        }
    }
    let (mut signal, mut noise) = (0.0, 0.0);
    for (found, near) in expected.unwrap().iter().zip(&near) {
        signal += f64::from(*near).powi(2);
        noise += f64::from(found - near).powi(2);
    }
    let db = 10.0 * (signal / noise).log10();
    let least = if is_half { 35.0 } else { 50.0 };
    assert!(db > least, "{db:.1} dB of {} values, expected {least}", near.len());
}

fn conv(kernel: u8, filters: u32, block: u16) -> Part {
    Part::Conv { kernel, filters, block }
}

#[test]
fn layers_of_any_size_have_one_answer() {
    let r = &mut random();
    for (height, width, channels, filters) in [
        (8, 8, 16, 8),
        (1, 1, 8, 8),
        (1, 9, 5, 3),
        (7, 5, 11, 20),
        (13, 30, 24, 9),
        (6, 6, 136, 16),
        (2, 50, 8, 8),
    ] {
        for is_half in [false, true] {
            let parts = [conv(1, channels, 1), conv(3, filters, 1)];
            let new = model(r, Scheme::F16, Shape { height, width, channels: 3 }, &parts);
            let picture: Vec<u8> = (0..new.input.len()).map(|_| r.range(0, 255) as u8).collect();
            check_model(&new, &picture, is_half);
        }
    }
}

#[test]
fn blocks_with_pools_and_a_head_have_one_answer() {
    let r = &mut random();
    let pool = |stride, padding, block| Part::Pool { stride, padding, block };
    for is_half in [false, true] {
        let parts = [
            conv(3, 12, 1),
            conv(3, 16, 1),
            pool(2, Padding::Valid, 1),
            conv(3, 24, 2),
            conv(3, 20, 2),
            pool(1, Padding::Same, 2),
            conv(3, 8, 3),
            Part::Dense { units: 10 },
        ];
        let new = model(r, Scheme::F16, Shape { height: 19, width: 22, channels: 3 }, &parts);
        let picture: Vec<u8> = (0..new.input.len()).map(|_| r.range(0, 255) as u8).collect();
        check_model(&new, &picture, is_half);
    }
}
