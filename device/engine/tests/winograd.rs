//! The Winograd methods of every kernel of the table: each gives the values of `scalar`, and `scalar` those of the matrices.
//!
//! ```text
//! VGG_EDGE_EXPECT_KERNELS="i8mm dotprod neon scalar" cargo test --test winograd -- --nocapture
//! ```
//!
//! Then whole layers: the bytes of direct convolution, whatever the shape, the cache and the number of threads.

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use support::{Part, Random, blob_bytes, int8_logits, model, winograd_twin};
use vgg_edge_blob::requant::requantize;
use vgg_edge_blob::winograd::{LIMIT, TAPS, TILE, WINDOW, transform};
use vgg_edge_blob::{Blob, NewLinear, NewModel, NewOp, NewWeights, Scheme, Shape};
use vgg_edge_engine::kernels::{
    CUT_TAPS, Cut, GROUP, Kernel, MAX_BATCH, Requant, WinogradInput, WinogradOutput, WinogradRow, available,
    by_name, variant,
};
use vgg_edge_engine::pool::{Executor, Pool, Serial};
use vgg_edge_engine::{Engine, Options};

const SEED: u64 = 0x5eed_2026_1124_0002;
const CANARY: u64 = 0xdead_beef_0bad_cafe;

const B: [[i64; 6]; 6] = [
    [4, 0, -5, 0, 1, 0],
    [0, 4, 4, -1, -1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
];
const A: [[i64; 6]; 4] = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 4]];

fn scalar() -> &'static dyn Kernel {
    by_name("scalar").unwrap()
}

fn random() -> Random {
    println!("seed {SEED:#x}");
    Random(SEED)
}

fn same<T: PartialEq + std::fmt::Debug>(kernel: &dyn Kernel, what: &str, found: &[T], expected: &[T]) {
    if let Some(i) = found.iter().zip(expected).position(|(f, e)| f != e) {
        panic!("{}: {what}, value {i}: found {:?}, expected {:?}", kernel.name(), found[i], expected[i]);
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
    input: Vec<i8>,
    rows: [usize; WINDOW],
    columns: [usize; WINDOW],
    channels: usize,
    tap_rows: std::ops::Range<usize>,
    cut: Cut,
    tap_stride: usize,
    group_stride: usize,
}

impl Window {
    fn new(r: &mut Random, channels: usize, value: impl Fn(&mut Random) -> i8) -> Self {
        let mut places = || core::array::from_fn(|_| r.range(0, 50) as usize);
        let (rows, columns): ([usize; WINDOW], [usize; WINDOW]) = (places(), places());
        let len = rows.iter().max().unwrap() + columns.iter().max().unwrap() + channels;
        let input = (0..len).map(|_| value(r)).collect();
        let (group_stride, gap) = (GROUP * r.range(1, 12) as usize, r.range(0, 40) as usize);
        let tap_stride = channels / GROUP * group_stride + gap;
        let (tap_rows, cut) = (0..WINDOW, Cut::default());
        Self { input, rows, columns, channels, tap_rows, cut, tap_stride, group_stride }
    }

    fn taps(&self, kernel: &dyn Kernel) -> Vec<i16> {
        let last_group = (self.channels / GROUP - 1) * self.group_stride;
        let n_taps = self.tap_rows.len() * WINDOW;
        let mut taps = vec![0x5a5a; (n_taps - 1) * self.tap_stride + last_group + GROUP];
        let &Self { ref input, rows, columns, channels, cut, tap_stride, group_stride, .. } = self;
        let tap_rows = self.tap_rows.clone();
        let window =
            WinogradInput { input, rows, columns, channels, tap_rows, cut, tap_stride, group_stride };
        kernel.winograd_input(&window, &mut taps);
        taps
    }

    fn check(&self) {
        let expected = self.taps(scalar());
        for kernel in available().filter(|kernel| self.cut == Cut::default() || kernel.has_cut_tiles()) {
            same(kernel, "taps", &self.taps(kernel), &expected);
        }
    }
}

#[test]
fn input_scalar_is_the_matrix() {
    let r = &mut random();
    for extreme in [false, true] {
        let w =
            Window::new(
                r,
                16,
                |r| if !extreme || r.range(0, 1) == 0 { r.range(-128, 127) as i8 } else { -128 },
            );
        let taps = w.taps(scalar());
        for (c, i, j) in (0..16).flat_map(|c| (0..TAPS).map(move |t| (c, t / 6, t % 6))) {
            let value = |y: usize, x: usize| i64::from(w.input[w.rows[y] + w.columns[x] + c]);
            let terms = (0..TAPS).map(|t| B[i][t / 6] * B[j][t % 6] * value(t / 6, t % 6));
            let place = (i * 6 + j) * w.tap_stride + c / 8 * w.group_stride + c % 8;
            assert_eq!(i64::from(taps[place]), terms.sum::<i64>(), "channel {c}, tap ({i}, {j})");
        }
    }
}

#[test]
fn input_any_channels_and_strides() {
    let r = &mut random();
    for channels in (8..=72).step_by(8) {
        for _ in 0..8 {
            Window::new(r, channels, |r| r.range(-128, 127) as i8).check();
        }
    }
}

/// `scalar` against a plain sum: a cut tile's outputs, as what it is without the missing taps.
#[test]
fn cut_tiles_are_24_times_two_outputs() {
    let r = &mut random();
    for (short, narrow) in [(false, true), (true, false), (true, true)] {
        let filter: [[i64; 3]; 3] = core::array::from_fn(|_| core::array::from_fn(|_| r.range(-127, 127)));
        let weights = |w: [i64; 3]| transform(w.map(|w| w as i32));
        let columns: [[i32; 6]; 3] = core::array::from_fn(|x| weights([0, 1, 2].map(|y| filter[y][x])));
        let mut w = Window::new(r, 8, |r| r.range(-128, 127) as i8);
        w.cut = Cut { short, narrow };
        let taps = w.taps(scalar());
        let mut tile = Tile { short, bias: [0; GROUP], ..Tile::new(r) };
        tile.sums = vec![0x0bad_cafe; 24 * tile.column_stride];
        let (n_rows, n_columns) = (if short { 2 } else { 4 }, if narrow { 2 } else { 4 });
        for row in (0..WINDOW).filter(|row| !short || !CUT_TAPS.contains(row)) {
            // Channel 0 alone, to output 0.
            let mut batch = Batch { narrow, ..Batch::new(r, 1, 8) };
            batch.values.fill(0);
            batch.weights.fill(0);
            for (j, weight) in transform(columns.map(|c| c[row])).into_iter().enumerate() {
                batch.values[j * batch.tap_stride] = taps[(6 * row + j) * w.tap_stride];
                batch.weights[j * 8 * GROUP] = weight as i16;
            }
            for (x, sum) in batch.sums(scalar()).chunks(GROUP).take(n_columns).enumerate() {
                tile.sums[(row * TILE + x) * tile.column_stride] = sum[0];
            }
        }
        (tile.multiplier, tile.shift, tile.zero_point) = ([i32::MAX; GROUP], [13; GROUP], 0);
        let words = tile.pixels(scalar(), n_rows, n_columns);
        for (y, x) in (0..n_rows).flat_map(|y| (0..n_columns).map(move |x| (y, x))) {
            let product = |t: usize| {
                filter[t / 3][t % 3] * i64::from(w.input[w.rows[y + t / 3] + w.columns[x + t % 3]])
            };
            let acc: i64 = (0..9).map(product).sum();
            let expected = requantize(acc as i32, i32::MAX, 13, 0);
            let found = words[y * tile.row_stride + x * tile.pixel_stride] as i8;
            assert_eq!(found, expected, "({y}, {x}), short {short}, narrow {narrow}");
        }
    }
}

#[test]
fn input_cut_tiles() {
    let r = &mut random();
    for (short, narrow) in [(false, true), (true, false), (true, true)] {
        for (first, end) in [(0, 6), (0, 1), (1, 2), (2, 3), (5, 6), (1, 4), (2, 6)] {
            let mut w =
                Window::new(r, 24, |r| if r.range(0, 3) == 0 { -128 } else { r.range(-128, 127) as i8 });
            (w.cut, w.tap_rows) = (Cut { short, narrow }, first..end);
            w.check();
        }
    }
}

#[test]
fn input_any_rows_of_taps() {
    let r = &mut random();
    for first in 0..WINDOW {
        for end in first + 1..=WINDOW {
            for channels in [8, 40] {
                let mut w = Window::new(r, channels, |r| r.range(-128, 127) as i8);
                let all = w.taps(scalar());
                w.tap_rows = first..end;
                w.check();
                let some = w.taps(scalar());
                assert_eq!(some[..GROUP], all[first * WINDOW * w.tap_stride..][..GROUP]);
            }
        }
    }
}

#[test]
fn input_extremes() {
    let r = &mut random();
    for _ in 0..32 {
        Window::new(r, 24, |r| if r.range(0, 1) == 0 { -128 } else { 127 }).check();
    }
    // The largest tap there is: signs as in B's first row, both ways.
    let mut w = Window::new(r, 8, |_| 0);
    (w.rows, w.columns) = ([0, 1, 2, 3, 4, 5].map(|y| y * 48), [0, 1, 2, 3, 4, 5].map(|x| x * 8));
    let signs: Vec<i64> = (0..36).map(|t| B[0][t / 6] * B[0][t % 6]).collect();
    w.input = (0..36 * 8).map(|i| if signs[i / 8] > 0 { 127 } else { -128 }).collect();
    w.check();
    assert_eq!(w.taps(scalar())[0], 127 * 50 + 128 * 50);
}

/// A batch's values and weights; the taps of both lie as near as they may.
struct Batch {
    n_tiles: usize,
    channels: usize,
    tap_stride: usize,
    values: Vec<i16>,
    weights: Vec<i16>,
    narrow: bool,
}

impl Batch {
    fn new(r: &mut Random, n_tiles: usize, channels: usize) -> Self {
        let tap_stride = n_tiles * channels + r.range(0, 40) as usize;
        let n_values = 5 * tap_stride + n_tiles * channels.next_multiple_of(GROUP);
        let values = (0..n_values).map(|_| r.range(-12800, 12800) as i16).collect();
        let weights = (0..6 * channels * GROUP).map(|_| r.range(-18288, 18288) as i16).collect();
        Self { n_tiles, channels, tap_stride, values, weights, narrow: false }
    }

    fn sums(&self, kernel: &dyn Kernel) -> Vec<i32> {
        let &Self { n_tiles, channels, tap_stride, ref values, ref weights, narrow } = self;
        let n = 4 * n_tiles * GROUP;
        let mut sums = vec![0x5a5a_5a5a; n + GROUP];
        let row = WinogradRow { values, tap_stride, n_tiles, channels, weights, narrow };
        kernel.winograd_row(&row, &mut sums);
        assert!(sums[n..].iter().all(|s| *s == 0x5a5a_5a5a), "{}", kernel.name());
        // Columns 2 and 3 of narrow tiles have no meaning.
        sums.truncate(if narrow { n / 2 } else { n });
        sums
    }

    fn check(&self) {
        let expected = self.sums(scalar());
        for kernel in available().filter(|kernel| !self.narrow || kernel.has_cut_tiles()) {
            let what = format!("{} tiles, {} channels, narrow {}", self.n_tiles, self.channels, self.narrow);
            same(kernel, &what, &self.sums(kernel), &expected);
        }
    }
}

#[test]
fn row_scalar_is_the_index_equation() {
    let r = &mut random();
    let batch = Batch::new(r, 3, 16);
    let found = batch.sums(scalar());
    for (x, p, o) in (0..4).flat_map(|x| (0..24).map(move |i| (x, i / 8, i % 8))) {
        let product = |j: usize, c: usize| {
            let value = batch.values[j * batch.tap_stride + (c / 8 * 3 + p) * 8 + c % 8];
            A[x][j] * i64::from(value) * i64::from(batch.weights[(j * 16 + c) * 8 + o])
        };
        let sum: i64 = (0..6).flat_map(|j| (0..16).map(move |c| (j, c))).map(|(j, c)| product(j, c)).sum();
        assert_eq!(found[(x * 3 + p) * GROUP + o], sum as i32);
    }
}

#[test]
fn row_every_batch_and_depth() {
    let r = &mut random();
    for n_tiles in 1..=MAX_BATCH {
        // 512 channels of 9 taps are accumulators of 4608 products.
        for channels in [4, 8, 12, 16, 20, 24, 32, 40, 64, 136, 512] {
            let mut batch = Batch::new(r, n_tiles, channels);
            batch.check();
            batch.narrow = true;
            batch.check();
        }
    }
}

/// A broken file may hold any i16: sums wrap, on every kernel in the same way.
#[test]
fn row_extremes_wrap() {
    let r = &mut random();
    for n_tiles in [1, 7, 12] {
        for (value, weight) in [(i16::MIN, i16::MIN), (i16::MAX, i16::MIN), (-12800, 18288), (12800, 18288)] {
            let mut batch = Batch::new(r, n_tiles, 512);
            batch.values.fill(value);
            batch.weights.fill(weight);
            batch.check();
            let expected = 5 * 512 * i64::from(value) * i64::from(weight);
            assert_eq!(batch.sums(scalar())[0], expected as i32);
        }
    }
}

/// A run of tiles of sums, and what its pixels are made with.
struct Tile {
    /// Multiples of 64, as the 576 times an accumulator that a pixel's sum is.
    sums: Vec<i32>,
    /// 8 times the tiles.
    column_stride: usize,
    bias: [i32; GROUP],
    multiplier: [i32; GROUP],
    shift: [i32; GROUP],
    zero_point: i8,
    short: bool,
    row_stride: usize,
    pixel_stride: usize,
}

impl Tile {
    fn new(r: &mut Random) -> Self {
        let column_stride = GROUP * r.range(1, 12) as usize;
        let shifts = [(14, 20), (14, 18), (1, 18), (0, 31)][r.range(0, 3) as usize];
        Self {
            sums: (0..24 * column_stride).map(|_| r.next() as i32 & !63).collect(),
            column_stride,
            bias: core::array::from_fn(|_| r.next() as i32),
            multiplier: core::array::from_fn(|_| r.range(1 << 30, (1 << 31) - 1) as i32),
            shift: core::array::from_fn(|_| r.range(shifts.0, shifts.1) as i32),
            zero_point: r.range(-128, 127) as i8,
            short: false,
            row_stride: MAX_BATCH * TILE * 9 + r.range(0, 9) as usize,
            pixel_stride: r.range(1, 9) as usize,
        }
    }

    fn pixels(&self, kernel: &dyn Kernel, n_rows: usize, n_columns: usize) -> Vec<u64> {
        let len = (n_rows - 1) * self.row_stride + (n_columns - 1) * self.pixel_stride + 1;
        let words: Vec<AtomicU64> = (0..len + 1).map(|_| AtomicU64::new(CANARY)).collect();
        kernel.winograd_output(&WinogradOutput {
            sums: &self.sums,
            column_stride: self.column_stride,
            bias: &self.bias,
            requant: Requant {
                multiplier: &self.multiplier,
                shift: &self.shift,
                zero_point: self.zero_point,
            },
            short: self.short,
            n_rows,
            n_columns,
            words: &words[..len],
            row_stride: self.row_stride,
            pixel_stride: self.pixel_stride,
        });
        words.iter().map(|w| w.load(Relaxed)).collect()
    }

    fn check(&self) {
        let rows = if self.short { 1..=2 } else { 1..=TILE };
        let columns = self.column_stride / GROUP * TILE;
        for (n_rows, n_columns) in rows.flat_map(|y| (1..=columns).map(move |x| (y, x))) {
            let expected = self.pixels(scalar(), n_rows, n_columns);
            assert_eq!(expected[expected.len() - 1], CANARY);
            for kernel in available().filter(|kernel| !self.short || kernel.has_cut_tiles()) {
                let what = format!("tiles of {n_rows}x{n_columns}, short {}", self.short);
                same(kernel, &what, &self.pixels(kernel, n_rows, n_columns), &expected);
            }
        }
    }
}

#[test]
fn output_scalar_is_the_matrix() {
    let r = &mut random();
    let mut tile = Tile::new(r);
    // Accumulators up to the limits, made from sums that have wrapped: any 16 there are, and the taps that give them.
    for _ in 0..20 {
        tile.bias = core::array::from_fn(|_| r.range(-LIMIT / 2, LIMIT / 2) as i32);
        // Multiples of 576 in the row 1 of taps reach all pixels alike.
        let acc: [i64; GROUP] = core::array::from_fn(|_| r.range(-LIMIT / 2, LIMIT / 2 - 1));
        tile.sums.fill(0);
        for (o, acc) in acc.iter().enumerate() {
            (4..8).for_each(|column| tile.sums[column * tile.column_stride + o] = (576 * acc) as i32);
        }
        let words = tile.pixels(scalar(), 4, 4);
        for (o, acc) in acc.iter().enumerate() {
            let whole = (acc + i64::from(tile.bias[o])) as i32;
            let expected = requantize(whole, tile.multiplier[o], tile.shift[o], tile.zero_point);
            let found =
                |y: usize, x: usize| (words[y * tile.row_stride + x * tile.pixel_stride] >> (8 * o)) as i8;
            assert!((0..16).all(|p| found(p / 4, p % 4) == expected));
        }
    }
    // A sum of 576 * 2^18 in any one row and column of taps reaches each pixel of the column as A says.
    tile.bias.fill(0);
    (tile.multiplier, tile.shift, tile.zero_point) = ([1 << 30; GROUP], [15; GROUP], 0);
    for place in 0..24 {
        tile.sums.fill(0);
        tile.sums[place * tile.column_stride] = 576 << 18;
        let words = tile.pixels(scalar(), 4, 4);
        for (y, x) in (0..16).map(|p| (p / 4, p % 4)) {
            let acc = if x == place % 4 { A[y][place / 4] << 18 } else { 0 };
            let expected = requantize(acc as i32, 1 << 30, 15, 0);
            assert_eq!(
                words[y * tile.row_stride + x * tile.pixel_stride] as i8,
                expected,
                "{place}, ({y}, {x})"
            );
        }
    }
}

#[test]
fn output_every_part_of_a_tile() {
    let r = &mut random();
    for i in 0..20 {
        Tile { short: i % 2 == 1, ..Tile::new(r) }.check();
    }
}

/// Every kernel's rounding is the specification's, with accumulators up to the limits and any shift.
#[test]
fn output_is_the_requantization() {
    let r = &mut random();
    let mut tile = Tile::new(r);
    tile.bias.fill(0);
    let ends = [-LIMIT, 1 - LIMIT, -129, -128, -1, 0, 1, 127, 128, LIMIT - 2, LIMIT - 1];
    for i in 0..2000 {
        let (multiplier, shift) =
            (r.range(1 << 30, (1 << 31) - 1), r.range(0, if i % 2 == 0 { 18 } else { 31 }));
        tile.multiplier.fill(if i % 5 == 0 { i32::MAX } else { multiplier as i32 });
        tile.shift.fill(shift as i32);
        tile.zero_point = [-128, -1, 0, 127, r.range(-128, 127) as i8][i % 5];
        // The last ones are where rounding turns: half a step more or less.
        let near = |r: &mut Random| (r.range(-200, 200) << shift) + (1 << shift >> 1) + r.range(-2, 2);
        let acc: [i64; GROUP] = core::array::from_fn(|o| match o {
            0..3 => ends[r.range(0, 10) as usize],
            3 => r.range(-LIMIT, LIMIT - 1),
            _ => near(r).clamp(-LIMIT, LIMIT - 1),
        });
        tile.sums.fill(0);
        for (o, acc) in acc.iter().enumerate() {
            (4..8).for_each(|column| tile.sums[column * tile.column_stride + o] = (576 * acc) as i32);
        }
        for kernel in available() {
            let words = tile.pixels(kernel, 2, 4);
            for (o, &acc) in acc.iter().enumerate() {
                let expected = requantize(acc as i32, tile.multiplier[o], tile.shift[o], tile.zero_point);
                let found = (words[tile.row_stride + tile.pixel_stride] >> (8 * o)) as i8;
                let how = (acc, tile.multiplier[o], tile.shift[o], tile.zero_point);
                assert_eq!(found, expected, "{}: {how:?}", kernel.name());
            }
        }
    }
}

#[test]
fn output_extremes() {
    let r = &mut random();
    for sum in [i32::MIN, -64, 0, 64, i32::MAX - 63] {
        for (multiplier, shift) in [(0, 0), (i32::MAX, 0), (1 << 30, 31), (i32::MAX, 31), (1, 1)] {
            for zero_point in [-128, 0, 127] {
                let mut tile = Tile::new(r);
                tile.sums.fill(sum);
                (tile.multiplier, tile.shift) = ([multiplier; GROUP], [shift; GROUP]);
                (tile.bias, tile.zero_point) = ([sum; GROUP], zero_point);
                tile.check();
                tile.short = true;
                tile.check();
            }
        }
    }
}

#[test]
fn short_slices_and_bad_extents_panic() {
    let r = &mut random();
    let w = Window::new(r, 8, |_| 0);
    let input = w.input.as_slice();
    let (rows, columns) = (w.rows, w.columns);
    let (tap_rows, cut, channels) = (0..WINDOW, Cut::default(), 8);
    let (tap_stride, group_stride) = (8, 8);
    let window = WinogradInput { input, rows, columns, channels, tap_rows, cut, tap_stride, group_stride };
    let with = |tap_rows| WinogradInput { tap_rows, ..window.clone() };
    let bad: [(WinogradInput<'_>, usize, &str); 7] = [
        (WinogradInput { input: &input[1..], ..window.clone() }, TAPS * 8, "input has"),
        (window.clone(), TAPS * 8 - 1, "taps has 287 values, too few: Some(288) needed"),
        (WinogradInput { channels: 12, ..window.clone() }, TAPS * 8, "12 channels, expected a multiple of 8"),
        (WinogradInput { channels: 0, ..window.clone() }, TAPS * 8, "0 channels"),
        (WinogradInput { rows: [usize::MAX; WINDOW], ..window.clone() }, TAPS * 8, "input has"),
        (with(3..3), TAPS * 8, "rows 3..3 of taps"),
        (with(3..7), TAPS * 8, "rows 3..7 of taps, expected some of 0..6"),
    ];
    let (values, weights) = ([0; 96], [0; 384]);
    let (tap_stride, n_tiles, narrow) = (16, 2, false);
    let row = WinogradRow { values: &values, tap_stride, n_tiles, channels, weights: &weights, narrow };
    let bad_rows = [
        (WinogradRow { values: &values[1..], ..row }, "values has 95"),
        (WinogradRow { tap_stride: usize::MAX, ..row }, "values has 96"),
        (WinogradRow { weights: &weights[1..], ..row }, "weights has 383"),
        (WinogradRow { n_tiles: 0, ..row }, "0 tiles, expected 1 to 12"),
        (WinogradRow { n_tiles: 13, ..row }, "13 tiles"),
        (WinogradRow { n_tiles: 3, ..row }, "values has 96"),
        (WinogradRow { channels: 6, ..row }, "6 channels, expected a multiple of 4"),
    ];
    let words: Vec<AtomicU64> = (0..16).map(|_| AtomicU64::new(0)).collect();
    let sums = [0; 24 * 8];
    let requant = Requant { multiplier: &[1; GROUP], shift: &[1; GROUP], zero_point: 0 };
    let output = WinogradOutput {
        sums: &sums,
        column_stride: 8,
        bias: &[0; GROUP],
        requant,
        short: false,
        n_rows: 4,
        n_columns: 4,
        words: &words,
        row_stride: 4,
        pixel_stride: 1,
    };
    let bad_outputs = [
        (WinogradOutput { sums: &sums[1..], ..output }, "sums has 191"),
        (WinogradOutput { words: &words[1..], ..output }, "output has 15"),
        (WinogradOutput { short: true, ..output }, "short tile of 4 rows, expected 1 or 2"),
        (WinogradOutput { n_rows: 5, ..output }, "tiles of 5x4, expected 1 to 4 rows and 1 to 48 columns"),
        (WinogradOutput { n_columns: 0, ..output }, "tiles of 4x0"),
        (WinogradOutput { n_columns: 49, ..output }, "tiles of 4x49"),
        (WinogradOutput { n_columns: 5, ..output }, "sums has 192"),
        (WinogradOutput { row_stride: usize::MAX, ..output }, "output has"),
        (
            WinogradOutput { requant: Requant { shift: &[32; GROUP], ..requant }, ..output },
            "shift 32 is outside",
        ),
    ];
    for kernel in available() {
        kernel.winograd_input(&window, &mut [0; TAPS * 8]);
        kernel.winograd_row(&row, &mut [0; 64]);
        kernel.winograd_output(&output);
        for (window, len, message) in &bad {
            panics(kernel, message, || kernel.winograd_input(window, &mut vec![0; *len]));
        }
        for (row, message) in &bad_rows {
            panics(kernel, message, || kernel.winograd_row(row, &mut [0; 416]));
        }
        panics(kernel, "sums has 63", || kernel.winograd_row(&row, &mut [0; 63]));
        for (output, message) in &bad_outputs {
            panics(kernel, message, || kernel.winograd_output(output));
        }
    }
}

fn panics(kernel: &dyn Kernel, message: &str, run: impl FnOnce()) {
    let name = kernel.name();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).expect_err(name);
    let found = found.downcast_ref::<String>().expect("a formatted message");
    assert!(found.contains(message), "{name}: found {found:?}, expected {message:?}");
}

fn conv_layers(new: &mut NewModel) -> impl Iterator<Item = &mut NewLinear> {
    new.layers.iter_mut().filter_map(|layer| match &mut layer.op {
        NewOp::Conv { linear, .. } => Some(linear),
        _ => None,
    })
}

/// A 1x1 layer that makes `channels`, then a 3x3 one.
fn layer(r: &mut Random, height: u32, width: u32, channels: u32, filters: u32) -> NewModel {
    let conv = |kernel, filters, block| Part::Conv { kernel, filters, block };
    let parts = [conv(1, channels, 1), conv(3, filters, 1)];
    model(r, Scheme::Int8, Shape { height, width, channels: 3 }, &parts)
}

/// Direct and Winograd blob, every kernel, thread count and cache size: the values of plain loops.
fn check_model(new: &NewModel, picture: &[u8], expected: Option<&[f32]>) {
    let (direct, twin) = (blob_bytes(new), blob_bytes(&winograd_twin(new.clone())));
    assert!(direct.as_slice() != twin.as_slice());
    let pools: [Box<dyn Executor>; 3] =
        [Box::new(Serial), Box::new(Pool::new(2).unwrap()), Box::new(Pool::new(4).unwrap())];
    let mut first = expected.map(<[f32]>::to_vec);
    for (bytes, algorithm) in [(&direct, "direct"), (&twin, "winograd")] {
        let blob = Blob::parse(bytes.as_slice()).unwrap();
        for kernel in available() {
            for pool in &pools {
                for l2_bytes in [1, 64 << 10, 1 << 20] {
                    let options = Options { l2_bytes, repack: false, ..Options::default() };
                    let mut engine = Engine::new(&blob, kernel, pool.as_ref(), options).unwrap();
                    let found = engine.run(picture).unwrap();
                    let expected = first.get_or_insert_with(|| found.to_vec());
                    let what = format!("{algorithm}, {} threads, L2 {l2_bytes}", pool.n_threads());
                    same(kernel, &what, found, expected);
                }
            }
        }
    }
}

#[test]
fn layers_of_every_ragged_shape() {
    let r = &mut random();
    let sides = [
        (1, 1),
        (1, 14),
        (13, 1),
        (2, 3),
        (4, 4),
        (5, 6),
        (6, 5),
        (7, 13),
        (8, 9),
        (13, 14),
        (14, 14),
        (3, 70),
    ];
    for (i, (height, width)) in sides.into_iter().enumerate() {
        let (channels, filters) = ([8, 3, 16, 24, 40, 33][i % 6], [8, 17, 5, 32, 24][i % 5]);
        let new = layer(r, height, width, channels, filters);
        let picture: Vec<u8> = (0..new.input.len()).map(|_| r.range(0, 255) as u8).collect();
        check_model(&new, &picture, Some(&int8_logits(&new, &picture)));
    }
}

/// First layers of 3x3 filters over 1, 3 and 4 channels, which some kernels run as Winograd whatever the file says.
#[test]
fn pictures_of_every_ragged_shape() {
    let r = &mut random();
    for (i, (height, width)) in [(1, 1), (2, 5), (7, 3), (9, 13), (14, 30), (18, 4)].into_iter().enumerate() {
        let parts = [Part::Conv { kernel: 3, filters: [5, 16, 33][i % 3], block: 1 }];
        let shape = Shape { height, width, channels: [3, 1, 4][i % 3] };
        let mut new = model(r, Scheme::Int8, shape, &parts);
        for saturated in [false, true] {
            if saturated {
                // Accumulators that exact Winograd may not have: such a layer stays direct.
                let linear = conv_layers(&mut new).next().unwrap();
                let NewWeights::S8(_, params) = &mut linear.weights else { panic!("int8") };
                params[0].bias[2] = 1 << 25;
                params[0].shift[2] += 8;
            }
            let picture: Vec<u8> = (0..new.input.len()).map(|_| r.range(0, 255) as u8).collect();
            let expected = int8_logits(&new, &picture);
            let bytes = blob_bytes(&new);
            let blob = Blob::parse(bytes.as_slice()).unwrap();
            for kernel in available() {
                for l2_bytes in [1, 1 << 20] {
                    let options = Options { l2_bytes, ..Options::default() };
                    let pool = Pool::new(2).unwrap();
                    let mut engine = Engine::new(&blob, kernel, &pool, options).unwrap();
                    let what = format!("{height}x{width}, saturated {saturated}, L2 {l2_bytes}");
                    same(kernel, &what, engine.run(&picture).unwrap(), &expected);
                }
            }
        }
    }
}

/// 512 channels: accumulators of 4608 products, up to the largest that the proof lets pass.
#[test]
fn accumulators_of_4608_products_up_to_the_limit() {
    let r = &mut random();
    for (weight, input) in [(56, 127), (56, -128), (-56, 127), (-56, -128), (0, 0)] {
        let mut new = layer(r, 6, 5, 512, 8);
        let mut linears = conv_layers(&mut new);
        // Saturate the 1x1 layer's outputs, but for weight 0, which stands for random ones.
        let NewWeights::S8(_, params) = &mut linears.next().unwrap().weights else { panic!("int8") };
        if weight != 0 {
            params.iter_mut().for_each(|p| p.bias = [if input > 0 { 1 << 29 } else { -(1 << 29) }; 8]);
        }
        let NewWeights::S8(weights, params) = &mut linears.next().unwrap().weights else { panic!("int8") };
        for w in weights.iter_mut() {
            *w = if weight == 0 { *w / 2 } else { weight };
        }
        if weight != 0 {
            // Sums near 2^25 to steps of the output.
            params.iter_mut().for_each(|p| p.shift = p.shift.map(|s| s + 8));
        }
        drop(linears);
        let picture: Vec<u8> = (0..new.input.len()).map(|_| r.range(0, 255) as u8).collect();
        check_model(&new, &picture, None);
    }
}
