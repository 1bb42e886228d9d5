//! Strips over blocks of 8 channels: every kernel of the table gives the bytes of `scalar`.
//!
//! `scalar` in turn gives those of the strip over NHWC.
//!
//! Output words start as a canary and are compared whole, so that a store beside the strip's own words fails, too.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vgg_edge_blob::Layout;
use vgg_edge_blob::requant::ACC_LIMIT;
use vgg_edge_engine::kernels::{GROUP, Kernel, Requant, S8Blocks, S8Output, S8Strip, available, by_name};

const SEED: u64 = 0x5eed_2026_1124_0008;
const CANARY: u64 = 0xdead_beef_0bad_cafe;
/// Beyond twice the widest tile of any row (12 pixels).
const TWO_TILES: usize = 26;

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In `low..=high`.
    fn range(&mut self, low: i64, high: i64) -> i64 {
        low + ((self.next() >> 16) % (high - low + 1) as u64) as i64
    }

    fn fill(&mut self, n: usize, low: i64) -> Vec<i8> {
        (0..n).map(|_| self.range(low, 127) as i8).collect()
    }
}

/// The extents of a strip; the slices are as short as they may be.
#[derive(Clone, Copy, Debug)]
struct Shape {
    n_pixels: usize,
    n_rows: usize,
    row_stride: usize,
    n_columns: usize,
    n_blocks: usize,
    block_stride: usize,
    /// Words between output pixels.
    stride: usize,
}

impl Shape {
    /// A filter of `side * side` over a map of blocks that is just wide enough.
    fn conv(n_pixels: usize, side: usize, channels: usize) -> Self {
        let (n_blocks, width) = (channels / GROUP, n_pixels + side - 1);
        let (block_stride, row_stride) = (width * GROUP, n_blocks * width * GROUP);
        Self { n_pixels, n_rows: side, row_stride, n_columns: side, n_blocks, block_stride, stride: 1 }
    }

    fn input_len(&self) -> usize {
        let pixels = if self.n_pixels == 1 { 1 } else { self.n_pixels.next_multiple_of(2) };
        (self.n_rows - 1) * self.row_stride
            + (self.n_blocks - 1) * self.block_stride
            + (pixels + self.n_columns - 1) * GROUP
    }

    fn weights_len(&self) -> usize {
        self.n_rows * self.n_columns * self.n_blocks * GROUP * GROUP
    }
}

struct Case {
    shape: Shape,
    input: Vec<i8>,
    weights: Vec<i8>,
    bias: [i32; GROUP],
    multiplier: [i32; GROUP],
    shift: [i32; GROUP],
    zero_point: i8,
}

impl Case {
    /// Random values over the whole range of each, at a scale that uses the output's range.
    fn random(shape: Shape, random: &mut Random) -> Self {
        let k = (shape.weights_len() / GROUP) as f64;
        let shift = (74.0 * 73.0 * k.sqrt() / 64.0).log2() as i64;
        Self {
            shape,
            input: random.fill(shape.input_len(), -128),
            weights: random.fill(shape.weights_len(), -127),
            bias: core::array::from_fn(|_| random.range(-100_000, 100_000) as i32),
            multiplier: core::array::from_fn(|_| random.range(1 << 30, (1 << 31) - 1) as i32),
            shift: core::array::from_fn(|_| (shift + random.range(-1, 1)).clamp(0, 31) as i32),
            zero_point: random.range(-128, 127) as i8,
        }
    }

    fn strip(&self) -> S8Blocks<'_> {
        let Shape { n_pixels, n_rows, row_stride, n_columns, n_blocks, block_stride, .. } = self.shape;
        let (input, weights, bias) = (&self.input, &self.weights, &self.bias);
        S8Blocks { input, n_pixels, n_rows, row_stride, n_columns, n_blocks, block_stride, weights, bias }
    }

    fn requant(&self) -> Requant<'_> {
        Requant { multiplier: &self.multiplier, shift: &self.shift, zero_point: self.zero_point }
    }

    fn activations(&self, run: impl FnOnce(S8Output<'_>)) -> Vec<u64> {
        let words = canaries((self.shape.n_pixels - 1) * self.shape.stride + 2);
        let n = words.len() - 1;
        let (words_of_strip, stride) = (&words[..n], self.shape.stride);
        run(S8Output::Activations { requant: self.requant(), words: words_of_strip, stride });
        values(&words)
    }

    fn accumulators(&self, run: impl FnOnce(S8Output<'_>)) -> Vec<u64> {
        let words = canaries(self.shape.n_pixels * 4 + 1);
        run(S8Output::Accumulators(&words[..self.shape.n_pixels * 4]));
        values(&words)
    }

    /// Every row against `scalar`, both outputs.
    fn check(&self) {
        let scalar = by_name("scalar").unwrap();
        let both = |kernel: &dyn Kernel| {
            let run = |out: S8Output<'_>| kernel.s8_blocks(&self.strip(), out);
            [self.accumulators(run), self.activations(run)]
        };
        let expected = both(scalar);
        for kernel in available() {
            same(kernel, &self.shape, &both(kernel), &expected);
        }
    }

    /// The same strip over NHWC, on every row: one window for each pixel, copied.
    fn check_against_nhwc(&self) {
        let shape = &self.shape;
        let per_pixel = shape.weights_len() / GROUP;
        let mut input = Vec::new();
        let places = || {
            let rows = 0..shape.n_rows;
            rows.flat_map(|r| (0..shape.n_columns).map(move |t| (r, t)))
                .flat_map(|rt| (0..shape.n_blocks).map(move |b| (rt, b)))
        };
        for p in 0..shape.n_pixels {
            for ((r, t), b) in places() {
                let start = r * shape.row_stride + b * shape.block_stride + (p + t) * GROUP;
                input.extend_from_slice(&self.input[start..start + GROUP]);
            }
        }
        let mut weights = vec![0; shape.weights_len()];
        for (block, k8) in self.weights.chunks_exact(64).enumerate() {
            for (o, k) in (0..GROUP).flat_map(|o| (0..8).map(move |k| (o, k))) {
                weights[block * 64 + k / 4 * 32 + o * 4 + k % 4] = k8[o * 8 + k];
            }
        }
        let strip = S8Strip {
            input: &input,
            n_pixels: shape.n_pixels,
            pixel_stride: per_pixel,
            n_runs: 1,
            run_stride: 0,
            run_len: per_pixel,
            weights: &weights,
            bias: &self.bias,
        };
        for kernel in available() {
            let blocks = |out: S8Output<'_>| kernel.s8_blocks(&self.strip(), out);
            let nhwc = |out: S8Output<'_>| kernel.s8(&strip, out);
            let found = [self.accumulators(blocks), self.activations(blocks)];
            same(kernel, shape, &found, &[self.accumulators(nhwc), self.activations(nhwc)]);
        }
    }
}

fn canaries(n: usize) -> Vec<AtomicU64> {
    (0..n).map(|_| AtomicU64::new(CANARY)).collect()
}

fn values(words: &[AtomicU64]) -> Vec<u64> {
    words.iter().map(|w| w.load(Relaxed)).collect()
}

fn same(kernel: &dyn Kernel, shape: &Shape, found: &[Vec<u64>; 2], expected: &[Vec<u64>; 2]) {
    for (what, (found, expected)) in ["accumulators", "activations"].iter().zip(found.iter().zip(expected)) {
        if let Some(i) = found.iter().zip(expected).position(|(f, e)| f != e) {
            let (name, found, expected) = (kernel.name(), found[i], expected[i]);
            panic!(
                "{name}: {what}, word {i}: found {found:#018x}, expected {expected:#018x}, {shape:?}, seed {SEED:#x}"
            );
        }
    }
}

#[test]
fn every_tail_of_a_tile() {
    println!("seed {SEED:#x}");
    let mut random = Random(SEED);
    for n_pixels in 1..=TWO_TILES {
        for (side, channels) in [(3, 16), (3, 24), (1, 8), (1, 40)] {
            Case::random(Shape::conv(n_pixels, side, channels), &mut random).check();
        }
    }
}

#[test]
fn blocks_are_the_same_strip_as_nhwc() {
    let mut random = Random(SEED);
    for n_pixels in [1, 2, 5, 12, 13, 14] {
        for (side, channels) in [(3, 8), (3, 64), (1, 24), (1, 256)] {
            Case::random(Shape::conv(n_pixels, side, channels), &mut random).check_against_nhwc();
        }
    }
}

#[test]
fn rows_blocks_and_pixels_lie_apart() {
    let mut random = Random(SEED);
    for n_pixels in [1, 4, 7, 24] {
        for stride in [1, 2, 64] {
            let shape = Shape { stride, ..Shape::conv(n_pixels, 3, 16) };
            let apart = Shape { row_stride: shape.row_stride + 13, block_stride: 1000, ..shape };
            Case::random(apart, &mut random).check();
            Case::random(Shape { row_stride: 0, block_stride: 0, ..shape }, &mut random).check();
            Case::random(Shape { n_rows: 2, n_columns: 5, ..shape }, &mut random).check();
        }
    }
}

#[test]
fn a_picture_has_one_row_of_four_blocks() {
    let mut random = Random(SEED);
    for n_pixels in [1, 2, 31, 224] {
        Case::random(Shape::conv(n_pixels, 1, 32), &mut random).check();
    }
}

#[test]
fn deep_layers_and_dense_ones() {
    let mut random = Random(SEED);
    for (n_pixels, side, channels) in [(14, 3, 512), (7, 3, 512), (1, 3, 512), (1, 1, 25_088), (1, 1, 1000)] {
        Case::random(Shape::conv(n_pixels, side, channels), &mut random).check();
    }
}

#[test]
fn extreme_values_at_the_largest_legal_k() {
    let k = ((ACC_LIMIT - 1) / (128 * 127) / 8 * 8) as usize;
    let mut random = Random(SEED);
    for (x, w) in [(-128, 127), (-128, -127), (127, 127), (127, -127)] {
        for n_pixels in [1, 3, 12] {
            let shape = Shape { block_stride: 0, ..Shape::conv(n_pixels, 1, k) };
            let mut case = Case::random(shape, &mut random);
            case.input.fill(x);
            case.weights.fill(w);
            case.bias = [0; GROUP];
            case.check();
            for kernel in available() {
                let word = case.accumulators(|out| kernel.s8_blocks(&case.strip(), out))[0];
                assert_eq!(i64::from(word as i32), k as i64 * i64::from(x) * i64::from(w));
            }
        }
    }
}

#[test]
fn shift_multiplier_and_zero_point_extremes() {
    let mut random = Random(SEED);
    for shift in [0, 1, 2, 15, 30, 31] {
        for multiplier in [0, 1, 1 << 30, i32::MAX] {
            for zero_point in [-128, -1, 0, 127] {
                for n_pixels in [1, 3] {
                    let mut case = Case::random(Shape::conv(n_pixels, 1, 8), &mut random);
                    (case.shift, case.multiplier) = ([shift; GROUP], [multiplier; GROUP]);
                    case.zero_point = zero_point;
                    case.check();
                    // Small sums around the rounding's halves, and the largest legal ones.
                    case.input.fill(0);
                    for bias in [[0, 1, -1, 2, -2, 3, -3, 4], [1 << 16; GROUP], [(1 << 30) - 1; GROUP]] {
                        case.bias = bias;
                        case.check();
                        case.bias = bias.map(|b| -b);
                        case.check();
                    }
                }
            }
        }
    }
}

#[test]
fn channels_keep_their_own_parameters() {
    let mut random = Random(SEED);
    for n_pixels in [1, 2, 5] {
        let mut case = Case::random(Shape::conv(n_pixels, 3, 16), &mut random);
        case.shift = [0, 31, 1, 30, 2, 10, 3, 8];
        case.multiplier = [0, i32::MAX, 1 << 30, 1, 3 << 29, 1_234_567_890, 0, 1 << 30];
        case.check();
    }
}

#[test]
fn kernels_say_their_layout() {
    for kernel in available() {
        let expected = if kernel.name().ends_with("i8mm") { Layout::S8O8K8 } else { Layout::S8O8K4 };
        for layout in [Layout::S8O8K4, Layout::S8O8K8] {
            assert_eq!(kernel.wants(layout), expected, "{}", kernel.name());
        }
    }
}

#[test]
fn short_slices_and_bad_extents_panic() {
    let random = &mut Random(SEED);
    // An odd number of pixels: the values of the next one must be there.
    let good = Case::random(Shape::conv(3, 3, 8), random);
    let words = canaries(64);
    let out = S8Output::Activations { requant: good.requant(), words: &words[..5], stride: 2 };
    let strip = good.strip();
    let (input, weights) = (&strip.input[..strip.input.len() - 1], &strip.weights[..strip.weights.len() - 1]);
    let short = S8Output::Activations { requant: good.requant(), words: &words[..4], stride: 2 };
    let bad: [(S8Blocks<'_>, S8Output<'_>, &str); 13] = [
        (S8Blocks { input, ..strip }, out, "input has"),
        (S8Blocks { weights, ..strip }, out, "weights have"),
        (S8Blocks { n_pixels: 0, ..strip }, out, "empty strip"),
        (S8Blocks { n_rows: 0, ..strip }, out, "empty strip"),
        (S8Blocks { n_columns: 0, ..strip }, out, "empty strip"),
        (S8Blocks { n_blocks: 0, ..strip }, out, "empty strip"),
        (S8Blocks { n_pixels: usize::MAX, ..strip }, out, "input has"),
        (S8Blocks { n_columns: usize::MAX, ..strip }, out, "input has"),
        (S8Blocks { row_stride: usize::MAX / 2, ..strip }, out, "input has"),
        (S8Blocks { n_blocks: 3, block_stride: usize::MAX / 2, ..strip }, out, "input has"),
        (S8Blocks { n_blocks: usize::MAX / 64, block_stride: 0, ..strip }, out, "weights have"),
        (strip, short, "output has 4 words"),
        (strip, S8Output::Accumulators(&words[..11]), "output has 11 words"),
    ];
    for kernel in available() {
        kernel.s8_blocks(&strip, out);
        for (strip, out, message) in &bad {
            panics(kernel, message, || kernel.s8_blocks(strip, *out));
        }
        for (multiplier, shift, message) in
            [(-1, 0, "multiplier -1"), (1, 32, "shift 32 is outside"), (1, -1, "shift -1 is outside")]
        {
            let (multiplier, shift) = (&[multiplier; GROUP], &[shift; GROUP]);
            let requant = Requant { multiplier, shift, zero_point: 0 };
            let out = S8Output::Activations { requant, words: &words, stride: 1 };
            panics(kernel, message, || kernel.s8_blocks(&strip, out));
        }
    }
}

fn panics(kernel: &dyn Kernel, message: &str, run: impl FnOnce()) {
    let name = kernel.name();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).expect_err(name);
    let found = found.downcast_ref::<String>().expect("a formatted message");
    assert!(found.contains(message), "{name}: found {found:?}, expected {message:?}");
}
