//! Requantized Winograd of every kernel of the table: each gives the bytes of `scalar`, and `scalar` those of the matrices.
//!
//! ```text
//! VGG_EDGE_EXPECT_KERNELS="i8mm dotprod neon scalar" cargo test --test winograd8 -- --nocapture
//! ```
//!
//! Whole layers are in `winograd8_layers`.

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use support::Random;
use vgg_edge_blob::requant::requantize;
use vgg_edge_blob::winograd8::Form;
use vgg_edge_engine::kernels::{
    GROUP, Kernel, MAX_BATCH, Requant, Winograd8Input, Winograd8Output, Winograd8Row, available, by_name,
    variant,
};

const SEED: u64 = 0x5eed_2026_1124_0008;
const CANARY: u64 = 0xdead_beef_0bad_cafe;
const FORMS: [Form; 2] = [Form::F23, Form::F43];

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

/// A run's data, its rows and columns anywhere.
struct Run {
    form: Form,
    input: Vec<i8>,
    rows: Vec<usize>,
    columns: Vec<usize>,
    channels: usize,
    tap_rows: std::ops::Range<usize>,
    multipliers: Vec<i16>,
    multiplier_stride: usize,
    offsets: Vec<i16>,
    tap_stride: usize,
    group_stride: usize,
}

impl Run {
    fn new(
        r: &mut Random,
        form: Form,
        n_tiles: usize,
        channels: usize,
        value: impl Fn(&mut Random) -> i8,
    ) -> Self {
        let mut places = |n: usize| -> Vec<usize> { (0..n).map(|_| r.range(0, 50) as usize).collect() };
        let (rows, columns) = (places(form.window()), places(n_tiles * form.tile() + 2));
        let len = rows.iter().max().unwrap() + columns.iter().max().unwrap() + channels;
        let input = (0..len).map(|_| value(r)).collect();
        let group_stride = GROUP * r.range(n_tiles as i64, 14) as usize;
        let tap_stride = channels / GROUP * group_stride + r.range(0, 40) as usize;
        let multiplier_stride = channels + r.range(0, 9) as usize;
        let n = form.taps() * multiplier_stride;
        // Most taps near 8 bits, some far beyond.
        let multiplier = |r: &mut Random| {
            let most = [400, 4000, 32767][r.range(0, 2) as usize];
            r.range(0, most) as i16
        };
        let multipliers = (0..n).map(|_| multiplier(r)).collect();
        let offsets = (0..channels).map(|_| r.range(-200, 200) as i16).collect();
        let tap_rows = 0..form.window();
        Self {
            form,
            input,
            rows,
            columns,
            channels,
            tap_rows,
            multipliers,
            multiplier_stride,
            offsets,
            tap_stride,
            group_stride,
        }
    }

    fn n_tiles(&self) -> usize {
        (self.columns.len() - 2) / self.form.tile()
    }

    fn get(&self) -> Winograd8Input<'_> {
        Winograd8Input {
            form: self.form,
            input: &self.input,
            rows: &self.rows,
            columns: &self.columns,
            channels: self.channels,
            tap_rows: self.tap_rows.clone(),
            multipliers: &self.multipliers,
            multiplier_stride: self.multiplier_stride,
            offsets: &self.offsets,
            tap_stride: self.tap_stride,
            group_stride: self.group_stride,
        }
    }

    fn len(&self) -> usize {
        let n_taps = self.tap_rows.len() * self.form.window();
        let last_group = (self.channels / GROUP - 1) * self.group_stride;
        (n_taps - 1) * self.tap_stride + last_group + self.n_tiles() * GROUP
    }

    fn taps(&self, kernel: &dyn Kernel) -> Vec<i8> {
        let mut taps = vec![0x5a; self.len() + 16];
        kernel.winograd8_input(&self.get(), &mut taps[..self.len()]);
        taps
    }

    fn check(&self) {
        let expected = self.taps(scalar());
        for kernel in available() {
            let what = format!("{:?}, {} tiles, {} channels", self.form, self.n_tiles(), self.channels);
            same(kernel, &what, &self.taps(kernel), &expected);
        }
    }
}

fn any(r: &mut Random) -> i8 {
    r.range(-128, 127) as i8
}

#[test]
fn input_scalar_is_the_matrix() {
    let r = &mut random();
    for form in FORMS {
        let (b, window) = (form.input_matrix(), form.window());
        for extreme in [false, true] {
            let run = Run::new(r, form, 3, 16, |r| if extreme && r.range(0, 1) == 0 { -128 } else { any(r) });
            let taps = run.taps(scalar());
            for (p, c, t) in (0..3 * 16).flat_map(|i| (0..form.taps()).map(move |t| (i / 16, i % 16, t))) {
                let (i, j) = (t / window, t % window);
                let value = |y: usize, x: usize| {
                    i64::from(run.input[run.rows[y] + run.columns[p * form.tile() + x] + c])
                };
                let term =
                    |k: usize| i64::from(b[i][k / window] * b[j][k % window]) * value(k / window, k % window);
                let tap: i64 = (0..form.taps()).map(term).sum();
                let multiplier = i64::from(run.multipliers[t * run.multiplier_stride + c]);
                let offset = if (i, j) == (1, 1) { i64::from(run.offsets[c]) } else { 0 };
                let expected = ((2 * tap * multiplier + 32768).div_euclid(65536) + offset).clamp(-128, 127);
                let place = t * run.tap_stride + c / 8 * run.group_stride + p * 8 + c % 8;
                assert_eq!(i64::from(taps[place]), expected, "{form:?}: tile {p}, channel {c}, tap {t}");
            }
        }
    }
}

#[test]
fn input_any_tiles_channels_and_strides() {
    let r = &mut random();
    for form in FORMS {
        for n_tiles in 1..=MAX_BATCH {
            for channels in [8, 16, 24, 40, 72] {
                Run::new(r, form, n_tiles, channels, any).check();
            }
        }
    }
}

#[test]
fn input_any_rows_of_taps() {
    let r = &mut random();
    for form in FORMS {
        for first in 0..form.window() {
            for end in first + 1..=form.window() {
                let mut run = Run::new(r, form, 1 + (first + end) % 4, 24, any);
                let all = run.taps(scalar());
                run.tap_rows = first..end;
                run.check();
                let some = run.taps(scalar());
                assert_eq!(some[..GROUP], all[first * form.window() * run.tap_stride..][..GROUP]);
            }
        }
    }
}

#[test]
fn input_extremes() {
    let r = &mut random();
    for form in FORMS {
        for multiplier in [0, 1, 32767] {
            for offset in [i16::MIN, -1, 0, i16::MAX] {
                let mut run = Run::new(r, form, 5, 24, |r| if r.range(0, 1) == 0 { -128 } else { 127 });
                run.multipliers.fill(multiplier);
                run.offsets.fill(offset);
                run.check();
            }
        }
    }
    // The largest tap there is, with a product that shows each unit of it.
    let mut run = Run::new(r, Form::F43, 1, 8, |_| 0);
    run.rows = (0..6).map(|y| y * 48).collect();
    run.columns = (0..6).map(|x| x * 8).collect();
    let b = Form::F43.input_matrix()[0];
    run.input = (0..36 * 8).map(|i| if b[i / 48] * b[i / 8 % 6] > 0 { 127 } else { -128 }).collect();
    run.multipliers.fill(160);
    run.check();
    let largest = 127 * 98 + 128 * 98;
    assert_eq!(i32::from(run.taps(scalar())[0]), (2 * largest * 160 + 32768) >> 16);
}

/// A batch's values and weights.
struct Batch {
    form: Form,
    n_tiles: usize,
    channels: usize,
    tap_stride: usize,
    values: Vec<i8>,
    weights: Vec<i8>,
    scales: Vec<i32>,
}

impl Batch {
    fn new(r: &mut Random, form: Form, n_tiles: usize, channels: usize) -> Self {
        let tap_stride = n_tiles * channels + r.range(0, 40) as usize;
        let n_values = (form.window() - 1) * tap_stride + n_tiles * channels;
        let values = (0..n_values).map(|_| any(r)).collect();
        let n_weights = form.window() * channels * GROUP;
        let weights = (0..n_weights).map(|_| r.range(-127, 127) as i8).collect();
        let scales = (0..form.window() * GROUP).map(|_| r.range(0, i32::MAX.into()) as i32).collect();
        Self { form, n_tiles, channels, tap_stride, values, weights, scales }
    }

    fn get(&self) -> Winograd8Row<'_> {
        let &Self { form, n_tiles, channels, tap_stride, ref values, ref weights, ref scales } = self;
        Winograd8Row { form, values, tap_stride, n_tiles, channels, weights, scales }
    }

    fn sums(&self, kernel: &dyn Kernel) -> Vec<i32> {
        let n = self.form.tile() * self.n_tiles * GROUP;
        let mut sums = vec![0x5a5a_5a5a; n + GROUP];
        kernel.winograd8_row(&self.get(), &mut sums);
        assert!(sums[n..].iter().all(|s| *s == 0x5a5a_5a5a), "{}", kernel.name());
        sums
    }

    fn check(&self) {
        let expected = self.sums(scalar());
        for kernel in available() {
            let what = format!("{:?}, {} tiles, {} channels", self.form, self.n_tiles, self.channels);
            same(kernel, &what, &self.sums(kernel), &expected);
        }
    }
}

#[test]
fn row_scalar_is_the_index_equation() {
    let r = &mut random();
    for form in FORMS {
        let batch = Batch::new(r, form, 3, 16);
        let found = batch.sums(scalar());
        for (x, p, o) in (0..form.tile()).flat_map(|x| (0..24).map(move |i| (x, i / 8, i % 8))) {
            let tap = |j: usize| -> i64 {
                let product = |c: usize| {
                    let value = batch.values[j * batch.tap_stride + (c / 8 * 3 + p) * 8 + c % 8];
                    let weight = batch.weights[((j * 4 + c / 4) * 8 + o) * 4 + c % 4];
                    i64::from(value) * i64::from(weight)
                };
                let acc: i64 = (0..16).map(product).sum();
                (2 * acc * i64::from(batch.scales[j * 8 + o]) + (1 << 31)) >> 32
            };
            let terms = (0..form.window()).map(|j| i64::from(form.output_matrix()[x][j]) * tap(j));
            assert_eq!(i64::from(found[(x * 3 + p) * GROUP + o]), terms.sum::<i64>());
        }
    }
}

#[test]
fn row_every_batch_and_depth() {
    let r = &mut random();
    for form in FORMS {
        for n_tiles in 1..=MAX_BATCH {
            // 512 channels of 9 taps are accumulators of 4608 products.
            for channels in [8, 16, 24, 32, 40, 64, 136, 512] {
                Batch::new(r, form, n_tiles, channels).check();
            }
        }
    }
}

#[test]
fn row_extremes() {
    let r = &mut random();
    for form in FORMS {
        for n_tiles in [1, 3, 7, 12] {
            for (value, weight) in [(-128, -127), (127, -127), (-128, 127), (127, 127)] {
                for scale in [0, 1, i32::MAX] {
                    let mut batch = Batch::new(r, form, n_tiles, 512);
                    batch.values.fill(value);
                    batch.weights.fill(weight);
                    batch.scales.fill(scale);
                    batch.check();
                }
            }
        }
    }
}

/// A run of tiles' sums, and what its pixels are made with.
struct Tiles {
    form: Form,
    n_tiles: usize,
    sums: Vec<i32>,
    column_stride: usize,
    bias: [i32; GROUP],
    multiplier: [i32; GROUP],
    shift: [i32; GROUP],
    zero_point: i8,
    row_stride: usize,
    pixel_stride: usize,
}

impl Tiles {
    fn new(r: &mut Random, form: Form, n_tiles: usize) -> Self {
        let column_stride = GROUP * r.range(n_tiles as i64, 12) as usize;
        let n = (form.window() * form.tile() - 1) * column_stride + n_tiles * GROUP;
        let pixel_stride = r.range(1, 9) as usize;
        // What the writer lets pass: outputs within 2^30 even where all 144 terms have the same sign.
        let limit = (1 << 30) / 160;
        Self {
            form,
            n_tiles,
            sums: (0..n).map(|_| r.range(-limit, limit) as i32 / 2).collect(),
            column_stride,
            bias: core::array::from_fn(|_| r.range(-limit, limit) as i32),
            multiplier: core::array::from_fn(|_| r.range(1 << 30, (1 << 31) - 1) as i32),
            shift: core::array::from_fn(|_| r.range(16, 22) as i32),
            zero_point: any(r),
            row_stride: n_tiles * form.tile() * pixel_stride + r.range(0, 9) as usize,
            pixel_stride,
        }
    }

    fn pixels(&self, kernel: &dyn Kernel, n_rows: usize, n_columns: usize) -> Vec<u64> {
        let len = (n_rows - 1) * self.row_stride + (n_columns - 1) * self.pixel_stride + 1;
        let words: Vec<AtomicU64> = (0..len + 1).map(|_| AtomicU64::new(CANARY)).collect();
        kernel.winograd8_output(&Winograd8Output {
            form: self.form,
            sums: &self.sums,
            column_stride: self.column_stride,
            bias: &self.bias,
            requant: Requant {
                multiplier: &self.multiplier,
                shift: &self.shift,
                zero_point: self.zero_point,
            },
            n_rows,
            n_columns,
            words: &words[..len],
            row_stride: self.row_stride,
            pixel_stride: self.pixel_stride,
        });
        words.iter().map(|w| w.load(Relaxed)).collect()
    }

    fn check(&self) {
        let tile = self.form.tile();
        let widest = self.n_tiles * tile;
        for (n_rows, n_columns) in (1..=tile).flat_map(|y| (widest - tile + 1..=widest).map(move |x| (y, x)))
        {
            let expected = self.pixels(scalar(), n_rows, n_columns);
            assert_eq!(expected[expected.len() - 1], CANARY);
            for kernel in available() {
                let what = format!("{:?}, {n_rows}x{n_columns}", self.form);
                same(kernel, &what, &self.pixels(kernel, n_rows, n_columns), &expected);
            }
        }
    }
}

#[test]
fn output_scalar_is_the_matrix() {
    let r = &mut random();
    for form in FORMS {
        let (a, tile) = (form.output_matrix(), form.tile());
        let run = Tiles::new(r, form, 3);
        let words = run.pixels(scalar(), tile, 3 * tile);
        for (y, x, o) in (0..tile * tile * 3).flat_map(|i| (0..8).map(move |o| (i % tile, i / tile, o))) {
            let sum = |i: usize| {
                let place = (tile * i + x % tile) * run.column_stride + x / tile * 8 + o;
                i64::from(run.sums[place]) + if i == 1 { i64::from(run.bias[o]) } else { 0 }
            };
            let acc: i64 = (0..form.window()).map(|i| i64::from(a[y][i]) * sum(i)).sum();
            let expected =
                requantize(i32::try_from(acc).unwrap(), run.multiplier[o], run.shift[o], run.zero_point);
            let found = (words[y * run.row_stride + x * run.pixel_stride] >> (8 * o)) as i8;
            assert_eq!(found, expected, "{form:?}, ({y}, {x}), channel {o}");
        }
    }
}

#[test]
fn output_every_part_of_a_run() {
    let r = &mut random();
    for form in FORMS {
        for n_tiles in 1..=MAX_BATCH {
            Tiles::new(r, form, n_tiles).check();
        }
    }
}

#[test]
fn output_extremes() {
    let r = &mut random();
    for form in FORMS {
        // The largest sums whose outputs are within the proof: 144 terms, or 9.
        let most = ((1 << 30) - 1) / if form == Form::F43 { 150 } else { 10 };
        for sum in [-most, -1, 0, 1, most] {
            for (multiplier, shift) in [(0, 0), (i32::MAX, 0), (1 << 30, 31), (i32::MAX, 31), (1, 1)] {
                for zero_point in [-128, 0, 127] {
                    let mut run = Tiles::new(r, form, 3);
                    run.sums.fill(sum);
                    (run.multiplier, run.shift) = ([multiplier; GROUP], [shift; GROUP]);
                    (run.bias, run.zero_point) = ([sum; GROUP], zero_point);
                    run.check();
                }
            }
        }
    }
}

#[test]
fn short_slices_and_bad_extents_panic() {
    let r = &mut random();
    let mut run = Run::new(r, Form::F23, 2, 8, |_| 0);
    (run.multiplier_stride, run.tap_stride, run.group_stride) = (8, 16, 16);
    run.multipliers.truncate(16 * 8);
    let good = run.get();
    let len = 16 * 16;
    let with = |tap_rows| Winograd8Input { tap_rows, ..good.clone() };
    let bad: [(Winograd8Input<'_>, usize, &str); 12] = [
        (Winograd8Input { input: &good.input[1..], ..good.clone() }, len, "input has"),
        (good.clone(), len - 1, "taps has 255 values, too few: Some(256) needed"),
        (Winograd8Input { channels: 12, ..good.clone() }, len, "12 channels, expected a multiple of 8"),
        (Winograd8Input { channels: 0, ..good.clone() }, len, "0 channels"),
        (Winograd8Input { rows: &[usize::MAX; 4], ..good.clone() }, len, "input has"),
        (Winograd8Input { rows: &[0; 6], ..good.clone() }, len, "6 rows, expected 4"),
        (Winograd8Input { columns: &[0; 5], ..good.clone() }, len, "5 columns, expected 2 more"),
        (Winograd8Input { columns: &[0; 2], ..good.clone() }, len, "2 columns, expected 2 more"),
        (Winograd8Input { multipliers: &good.multipliers[1..], ..good.clone() }, len, "multipliers has 127"),
        (Winograd8Input { offsets: &[0; 7], ..good.clone() }, len, "offsets has 7"),
        (with(3..3), len, "rows 3..3 of taps"),
        (with(3..5), len, "rows 3..5 of taps, expected some of 0..4"),
    ];
    let (values, weights, scales) = ([0; 64], [0; 256], [0; 32]);
    let row = Winograd8Row {
        form: Form::F23,
        values: &values,
        tap_stride: 16,
        n_tiles: 2,
        channels: 8,
        weights: &weights,
        scales: &scales,
    };
    let bad_rows = [
        (Winograd8Row { values: &values[1..], ..row }, "values has 63"),
        (Winograd8Row { tap_stride: usize::MAX, ..row }, "values has 64"),
        (Winograd8Row { weights: &weights[1..], ..row }, "weights has 255"),
        (Winograd8Row { scales: &scales[1..], ..row }, "scales has 31"),
        (Winograd8Row { n_tiles: 0, ..row }, "0 tiles, expected 1 to 12"),
        (Winograd8Row { n_tiles: 13, ..row }, "13 tiles"),
        (Winograd8Row { form: Form::F43, ..row }, "values has 64"),
    ];
    let words: Vec<AtomicU64> = (0..8).map(|_| AtomicU64::new(0)).collect();
    let sums = [0; 128];
    let requant = Requant { multiplier: &[1; GROUP], shift: &[1; GROUP], zero_point: 0 };
    let output = Winograd8Output {
        form: Form::F23,
        sums: &sums,
        column_stride: 16,
        bias: &[0; GROUP],
        requant,
        n_rows: 2,
        n_columns: 4,
        words: &words,
        row_stride: 4,
        pixel_stride: 1,
    };
    let bad_outputs = [
        (Winograd8Output { sums: &sums[1..], ..output }, "sums has 127"),
        (Winograd8Output { words: &words[1..], ..output }, "output has 7"),
        (Winograd8Output { n_rows: 3, ..output }, "tiles of 3 rows, expected 1 to 2"),
        (Winograd8Output { n_columns: 0, ..output }, "0 columns"),
        (Winograd8Output { n_columns: 25, ..output }, "25 columns, expected 1 to 24"),
        (Winograd8Output { row_stride: usize::MAX, ..output }, "output has"),
        (
            Winograd8Output { requant: Requant { shift: &[32; GROUP], ..requant }, ..output },
            "shift 32 is outside",
        ),
    ];
    for kernel in available() {
        kernel.winograd8_input(&good, &mut vec![0; len]);
        kernel.winograd8_row(&row, &mut [0; 32]);
        kernel.winograd8_output(&output);
        for (run, len, message) in &bad {
            panics(kernel, message, || kernel.winograd8_input(run, &mut vec![0; *len]));
        }
        for (row, message) in &bad_rows {
            panics(kernel, message, || kernel.winograd8_row(row, &mut [0; 512]));
        }
        panics(kernel, "sums has 31", || kernel.winograd8_row(&row, &mut [0; 31]));
        for (output, message) in &bad_outputs {
            panics(kernel, message, || kernel.winograd8_output(output));
        }
    }
}

fn panics(kernel: &dyn Kernel, message: &str, run: impl FnOnce()) {
    let name = kernel.name();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).expect_err(name);
    let found = found.downcast_ref::<String>().expect("a formatted message");
    assert!(found.contains(message), "{name}: found {found:?}, expected {message:?}");
}
