//! One suite over every kernel of the table that this CPU can run: each gives the bytes of `scalar`.
//!
//! ```text
//! VGG_EDGE_EXPECT_KERNELS="i8mm dotprod neon scalar" cargo test --test kernels -- --nocapture
//! kernels: aarch64-s8-i8mm aarch64-s8-dotprod aarch64-s8-neon generic-s8-scalar (seed 0x...)
//! ```
//!
//! Tests are named by the edge they hit. Output words start as a canary and are compared whole, so that a store
//! beside the strip's own words fails, too.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use half::f16;
use vgg_edge_blob::requant::{ACC_LIMIT, requantize};
use vgg_edge_engine::kernels::{
    self, F16Strip, GROUP, Kernel, KernelError, Requant, S8Output, S8Strip, TABLE, available, by_name,
    variant,
};

const SEED: u64 = 0x5eed_2026_1124_0001;
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

    fn fill<T>(&mut self, n: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..n).map(|_| one(self)).collect()
    }
}

/// The extents of a strip; the slices are as short as they may be.
#[derive(Clone, Copy, Debug)]
struct Shape {
    n_pixels: usize,
    pixel_stride: usize,
    n_runs: usize,
    run_stride: usize,
    run_len: usize,
    /// Words between output pixels, times what a pixel needs.
    stride: usize,
}

impl Shape {
    /// A 3x3 filter over `channels` channels in a map just wide enough.
    fn conv3x3(n_pixels: usize, channels: usize) -> Self {
        let (run_len, run_stride) = ((3 * channels).next_multiple_of(8), (n_pixels + 2) * channels);
        Self { n_pixels, pixel_stride: channels, n_runs: 3, run_stride, run_len, stride: 1 }
    }

    fn conv1x1(n_pixels: usize, channels: usize) -> Self {
        Self { n_pixels, pixel_stride: channels, n_runs: 1, run_stride: 0, run_len: channels, stride: 1 }
    }

    fn input_len(&self) -> usize {
        (self.n_pixels - 1) * self.pixel_stride + (self.n_runs - 1) * self.run_stride + self.run_len
    }

    fn weights_len(&self) -> usize {
        self.n_runs * self.run_len * GROUP
    }
}

/// An int8 strip's data.
struct S8Case {
    shape: Shape,
    input: Vec<i8>,
    weights: Vec<i8>,
    bias: [i32; GROUP],
    multiplier: [i32; GROUP],
    shift: [i32; GROUP],
    zero_point: i8,
}

impl S8Case {
    /// Random values over the whole range of each, at a scale that uses the output's range.
    fn random(shape: Shape, random: &mut Random) -> Self {
        let k = (shape.n_runs * shape.run_len) as f64;
        // Sums have a spread of 74 * 73 * sqrt(k); 2^6 steps of output for it.
        let shift = (74.0 * 73.0 * k.sqrt() / 64.0).log2() as i64;
        Self {
            shape,
            input: random.fill(shape.input_len(), |r| r.range(-128, 127) as i8),
            weights: random.fill(shape.weights_len(), |r| r.range(-127, 127) as i8),
            bias: core::array::from_fn(|_| random.range(-100_000, 100_000) as i32),
            multiplier: core::array::from_fn(|_| random.range(1 << 30, (1 << 31) - 1) as i32),
            shift: core::array::from_fn(|_| (shift + random.range(-1, 1)).clamp(0, 31) as i32),
            zero_point: random.range(-128, 127) as i8,
        }
    }

    fn strip(&self) -> S8Strip<'_> {
        let Shape { n_pixels, pixel_stride, n_runs, run_stride, run_len, .. } = self.shape;
        let (input, weights, bias) = (&self.input, &self.weights, &self.bias);
        S8Strip { input, n_pixels, pixel_stride, n_runs, run_stride, run_len, weights, bias }
    }

    fn activations(&self, kernel: &dyn Kernel) -> Vec<u64> {
        let words = canaries((self.shape.n_pixels - 1) * self.shape.stride + 2);
        let requant =
            Requant { multiplier: &self.multiplier, shift: &self.shift, zero_point: self.zero_point };
        let n = words.len() - 1;
        let out = S8Output::Activations { requant, words: &words[..n], stride: self.shape.stride };
        kernel.s8(&self.strip(), out);
        values(&words)
    }

    fn accumulators(&self, kernel: &dyn Kernel) -> Vec<u64> {
        let words = canaries(self.shape.n_pixels * 4 + 1);
        kernel.s8(&self.strip(), S8Output::Accumulators(&words[..self.shape.n_pixels * 4]));
        values(&words)
    }

    /// Every row against `scalar`, both outputs.
    fn check(&self) {
        let scalar = by_name("scalar").unwrap();
        let (activations, accumulators) = (self.activations(scalar), self.accumulators(scalar));
        for kernel in available() {
            same(kernel, &self.shape, "accumulators", &self.accumulators(kernel), &accumulators);
            same(kernel, &self.shape, "activations", &self.activations(kernel), &activations);
        }
    }
}

/// A strip with f16 weights.
struct F16Case {
    shape: Shape,
    input: Vec<f32>,
    weights: Vec<u16>,
    bias: [f32; GROUP],
    relu: bool,
}

impl F16Case {
    fn random(shape: Shape, relu: bool, random: &mut Random) -> Self {
        let mut real = |r: &mut Random| r.range(-1 << 24, 1 << 24) as f32 / (1 << 20) as f32;
        Self {
            shape,
            input: random.fill(shape.input_len(), &mut real),
            weights: random.fill(shape.weights_len(), |r| f16::from_f32(real(r) / 100.0).to_bits()),
            bias: core::array::from_fn(|_| real(random)),
            relu,
        }
    }

    fn run(&self, kernel: &dyn Kernel) -> Vec<u64> {
        let Shape { n_pixels, pixel_stride, n_runs, run_stride, run_len, stride } = self.shape;
        let (input, weights, bias, relu) = (&self.input, &self.weights, &self.bias, self.relu);
        let stride = stride * 4;
        let words = canaries((n_pixels - 1) * stride + 5);
        let own = &words[..words.len() - 1];
        kernel.f16(&F16Strip {
            input,
            n_pixels,
            pixel_stride,
            n_runs,
            run_stride,
            run_len,
            weights,
            bias,
            relu,
            words: own,
            stride,
        });
        values(&words)
    }

    fn check(&self) {
        let expected = self.run(by_name("scalar").unwrap());
        for kernel in available() {
            same(kernel, &self.shape, "f16", &self.run(kernel), &expected);
        }
    }
}

fn canaries(n: usize) -> Vec<AtomicU64> {
    (0..n).map(|_| AtomicU64::new(CANARY)).collect()
}

fn values(words: &[AtomicU64]) -> Vec<u64> {
    words.iter().map(|w| w.load(Relaxed)).collect()
}

fn same(kernel: &dyn Kernel, shape: &Shape, what: &str, found: &[u64], expected: &[u64]) {
    if let Some(i) = found.iter().zip(expected).position(|(f, e)| f != e) {
        let name = kernel.name();
        panic!(
            "{name}: {what}, word {i}: found {:#018x}, expected {:#018x}, {shape:?}",
            found[i], expected[i]
        );
    }
}

#[test]
fn the_expected_rows_run() {
    let names: Vec<_> = available().map(|kernel| kernel.name()).collect();
    println!("kernels: {} (seed {SEED:#x})", names.join(" "));
    if let Ok(expected) = std::env::var("VGG_EDGE_EXPECT_KERNELS") {
        let found: Vec<_> = names.iter().map(|name| variant(name)).collect();
        assert_eq!(found, expected.split_whitespace().collect::<Vec<_>>(), "kernels of this CPU, best first");
    }
}

#[test]
fn names_lead_to_rows() {
    assert_eq!(kernels::best().name(), available().next().unwrap().name());
    assert_eq!(TABLE.last().unwrap().name, "generic-s8-scalar");
    let here = available().map(|kernel| variant(kernel.name())).collect::<Vec<_>>().join(" ");
    for row in TABLE {
        for name in [row.name, variant(row.name)] {
            match (by_name(name), (row.detect)()) {
                (Ok(kernel), Some(_)) => assert_eq!(kernel.name(), row.name),
                (Err(e), None) => {
                    assert_eq!(e, KernelError::Unsupported { name: row.name });
                    let message = "needs instructions that this CPU lacks, available here:";
                    assert_eq!(e.to_string(), format!("kernel `{}` {message} {here}", row.name));
                }
                (found, detected) => panic!("{name}: by_name {found:?}, detect {detected:?}"),
            }
        }
    }
    let e = by_name("foo").unwrap_err();
    assert_eq!(e.to_string(), format!("unknown kernel `foo`, available here: {here}"));
}

#[test]
fn scalar_is_the_index_equation() {
    let mut random = Random(SEED);
    let scalar = by_name("scalar").unwrap();
    let shape = Shape { stride: 2, ..Shape::conv3x3(5, 3) };
    let case = S8Case::random(shape, &mut random);
    let (activations, accumulators) = (case.activations(scalar), case.accumulators(scalar));
    for p in 0..shape.n_pixels {
        for o in 0..GROUP {
            let mut acc = i64::from(case.bias[o]);
            for (r, k) in (0..shape.n_runs).flat_map(|r| (0..shape.run_len).map(move |k| (r, k))) {
                let x = case.input[p * shape.pixel_stride + r * shape.run_stride + k];
                let w = case.weights[((r * shape.run_len + k) / 4 * GROUP + o) * 4 + k % 4];
                acc += i64::from(x) * i64::from(w);
            }
            let acc = i32::try_from(acc).unwrap();
            assert_eq!((accumulators[p * 4 + o / 2] >> (o % 2 * 32)) as i32, acc);
            let expected = requantize(acc, case.multiplier[o], case.shift[o], case.zero_point);
            assert_eq!((activations[p * shape.stride] >> (o * 8)) as i8, expected);
        }
    }
    assert_eq!((activations[1], activations[activations.len() - 1]), (CANARY, CANARY));

    let case = F16Case::random(Shape::conv1x1(2, 5), false, &mut random);
    let words = case.run(scalar);
    for (p, o) in (0..2).flat_map(|p| (0..GROUP).map(move |o| (p, o))) {
        let mut acc = case.bias[o];
        for k in 0..5 {
            acc = case.input[p * 5 + k].mul_add(f16::from_bits(case.weights[k * GROUP + o]).to_f32(), acc);
        }
        assert_eq!((words[p * 4 + o / 2] >> (o % 2 * 32)) as u32, acc.to_bits());
    }
}

#[test]
fn s8_every_tail_of_a_tile() {
    let mut random = Random(SEED);
    for n_pixels in 1..=TWO_TILES {
        S8Case::random(Shape::conv3x3(n_pixels, 16), &mut random).check();
        S8Case::random(Shape::conv1x1(n_pixels, 24), &mut random).check();
    }
}

#[test]
fn s8_every_tail_of_a_run() {
    let mut random = Random(SEED);
    for run_len in [8, 16, 24, 32, 40, 56, 64, 192, 576] {
        for n_pixels in [1, 2, 7, 12] {
            for n_runs in [1, 2, 3] {
                let run_stride = n_pixels * 32 + 8;
                let shape = Shape { n_pixels, pixel_stride: 32, n_runs, run_stride, run_len, stride: 1 };
                S8Case::random(shape, &mut random).check();
            }
        }
    }
}

#[test]
fn s8_first_layer_runs_overlap_and_are_unaligned() {
    let mut random = Random(SEED);
    for n_pixels in [1, 2, 5, 14, 31] {
        // Three channels: 9 values a run, 16 read, pixels 3 apart.
        S8Case::random(Shape::conv3x3(n_pixels, 3), &mut random).check();
        S8Case::random(Shape::conv3x3(n_pixels, 1), &mut random).check();
        S8Case::random(Shape::conv3x3(n_pixels, 4), &mut random).check();
    }
}

#[test]
fn s8_pixel_stride_zero_and_strided_convolution() {
    let mut random = Random(SEED);
    for pixel_stride in [0, 1, 48] {
        let shape = Shape { pixel_stride, ..Shape::conv3x3(13, 24) };
        S8Case::random(shape, &mut random).check();
    }
}

#[test]
fn s8_output_pixels_lie_apart() {
    let mut random = Random(SEED);
    for stride in [2, 8, 64] {
        S8Case::random(Shape { stride, ..Shape::conv3x3(9, 8) }, &mut random).check();
    }
}

#[test]
fn s8_dense_layer_of_one_pixel() {
    let mut random = Random(SEED);
    for k in [512, 4096, 25_088] {
        S8Case::random(Shape::conv1x1(1, k), &mut random).check();
    }
}

#[test]
fn s8_extreme_values_at_the_largest_legal_k() {
    let k = ((ACC_LIMIT - 1) / (128 * 127) / 8 * 8) as usize;
    let mut random = Random(SEED);
    for (x, w) in [(-128, 127), (-128, -127), (127, 127), (127, -127)] {
        for n_pixels in [1, 3, 12] {
            let shape = Shape { pixel_stride: 0, ..Shape::conv1x1(n_pixels, k) };
            let mut case = S8Case::random(shape, &mut random);
            case.input.fill(x);
            case.weights.fill(w);
            case.bias = [0; GROUP];
            case.check();
            let word = case.accumulators(kernels::best())[0];
            assert_eq!(i64::from(word as i32), k as i64 * i64::from(x) * i64::from(w));
        }
    }
}

#[test]
fn s8_extreme_values_of_mixed_sign() {
    let mut random = Random(SEED);
    for n_pixels in [1, 2, 8] {
        let mut case = S8Case::random(Shape::conv3x3(n_pixels, 64), &mut random);
        case.input.iter_mut().for_each(|x| *x = if random.next() >> 63 == 0 { -128 } else { 127 });
        case.weights.iter_mut().for_each(|w| *w = if random.next() >> 63 == 0 { -127 } else { 127 });
        case.check();
    }
}

#[test]
fn s8_shift_multiplier_and_zero_point_extremes() {
    let mut random = Random(SEED);
    for shift in [0, 1, 2, 15, 30, 31] {
        for multiplier in [0, 1, 1 << 30, i32::MAX] {
            for zero_point in [-128, -1, 0, 127] {
                let mut case = S8Case::random(Shape::conv1x1(3, 8), &mut random);
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

#[test]
fn s8_channels_keep_their_own_parameters() {
    let mut random = Random(SEED);
    let mut case = S8Case::random(Shape::conv1x1(5, 16), &mut random);
    case.shift = [0, 31, 1, 30, 2, 10, 3, 8];
    case.multiplier = [0, i32::MAX, 1 << 30, 1, 3 << 29, 1_234_567_890, 0, 1 << 30];
    case.check();
}

#[test]
fn f16_every_tail_of_a_tile() {
    let mut random = Random(SEED);
    for n_pixels in 1..=TWO_TILES {
        for relu in [false, true] {
            F16Case::random(Shape { stride: 2, ..Shape::conv3x3(n_pixels, 8) }, relu, &mut random).check();
            F16Case::random(Shape { stride: 2, ..Shape::conv3x3(n_pixels, 4) }, relu, &mut random).check();
        }
    }
}

#[test]
fn f16_every_tail_of_a_run() {
    let mut random = Random(SEED);
    for run_len in [1, 2, 3, 4, 5, 7, 8, 9, 15, 27, 64, 577] {
        for (n_pixels, n_runs) in [(1, 1), (1, 3), (2, 1), (9, 3)] {
            let run_stride = n_pixels * 3 + 1;
            let shape = Shape { n_pixels, pixel_stride: 3, n_runs, run_stride, run_len, stride: 1 };
            F16Case::random(shape, n_runs == 1, &mut random).check();
        }
    }
}

#[test]
fn f16_subnormals_zeros_and_overflow() {
    let mut random = Random(SEED);
    // Bits of the smallest and largest subnormal, smallest normal, zeros, one, largest, and their negatives.
    let f16_bits = [0x0001, 0x03ff, 0x0400, 0x0000, 0x3c00, 0x7bff];
    let f32_bits = [1, 0x007f_ffff, 0x0080_0000, 0, 0x3f80_0000, 0x7f7f_ffff, 0x3380_0000];
    let sign = |r: &mut Random| r.next() >> 63;
    for relu in [false, true] {
        for n_pixels in [1, 6, 13] {
            let mut case = F16Case::random(Shape::conv1x1(n_pixels, 12), relu, &mut random);
            for w in &mut case.weights {
                *w = f16_bits[random.range(0, 5) as usize] | (sign(&mut random) as u16) << 15;
            }
            // Without the largest values first, since they swallow the subnormals.
            for n_values in [4, 5, 7] {
                for x in &mut case.input {
                    let bits = f32_bits[random.range(0, n_values - 1) as usize];
                    *x = f32::from_bits(bits | (sign(&mut random) as u32) << 31);
                }
                case.bias = [0.0, -0.0, 1e-45, -1e-45, 1e-38, -1e-38, 1.0, -3e38];
                case.check();
            }
        }
    }
}

#[test]
fn f16_nan_is_one_nan_and_relu_ends_it() {
    let mut random = Random(SEED);
    for relu in [false, true] {
        let mut case = F16Case::random(Shape::conv1x1(3, 4), relu, &mut random);
        case.bias = [
            f32::NAN,
            -f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            -0.0,
            0.0,
            -1.0,
            f32::from_bits(0x7f80_0001),
        ];
        case.weights.fill(0x8000); // -0
        case.input.fill(1.0);
        case.check();
        let words = case.run(kernels::best());
        let expected = if relu { 0 } else { 0x7fc0_0000_7fc0_0000 };
        assert_eq!(words[0], expected);
        if relu {
            assert_eq!(words[2..4], [0, 0], "-0, 0, -1 and NaN become +0");
        }
    }
}

#[test]
fn short_slices_and_bad_extents_panic() {
    let random = &mut Random(SEED);
    let good = S8Case::random(Shape::conv3x3(4, 8), random);
    let words = canaries(64);
    let requant = Requant { multiplier: &good.multiplier, shift: &good.shift, zero_point: 0 };
    let out = S8Output::Activations { requant, words: &words[..7], stride: 2 };
    let strip = good.strip();
    let (short_input, short_weights) =
        (&strip.input[..strip.input.len() - 1], &strip.weights[..strip.weights.len() - 1]);
    let bad: [(S8Strip<'_>, S8Output<'_>, &str); 11] = [
        (S8Strip { input: short_input, ..strip }, out, "input has"),
        (S8Strip { weights: short_weights, ..strip }, out, "weights have"),
        (S8Strip { n_pixels: 0, ..strip }, out, "empty strip"),
        (S8Strip { n_runs: 0, ..strip }, out, "empty strip"),
        (S8Strip { run_len: 0, ..strip }, out, "empty strip"),
        (S8Strip { run_len: 12, ..strip }, out, "no multiple of 8"),
        (S8Strip { pixel_stride: usize::MAX, ..strip }, out, "input has"),
        (S8Strip { run_stride: usize::MAX / 2, ..strip }, out, "input has"),
        (strip, S8Output::Activations { requant, words: &words[..6], stride: 2 }, "output has 6 words"),
        (
            strip,
            S8Output::Activations { requant, words: &words[..6], stride: usize::MAX },
            "output has 6 words",
        ),
        (strip, S8Output::Accumulators(&words[..15]), "output has 15 words"),
    ];
    for kernel in available() {
        kernel.s8(&strip, out);
        for (strip, out, message) in &bad {
            panics(kernel, message, || kernel.s8(strip, *out));
        }
        for (multiplier, shift, message) in
            [(-1, 0, "multiplier -1"), (1, 32, "shift 32 is outside"), (1, -1, "shift -1 is outside")]
        {
            let (multiplier, shift) = (&[multiplier; GROUP], &[shift; GROUP]);
            let requant = Requant { multiplier, shift, zero_point: 0 };
            let out = S8Output::Activations { requant, words: &words, stride: 1 };
            panics(kernel, message, || kernel.s8(&strip, out));
        }
        let (input, weights) = ([0.0; 8], [0; 64]);
        let strip = F16Strip {
            input: &input,
            n_pixels: 2,
            pixel_stride: 3,
            n_runs: 1,
            run_stride: 0,
            run_len: 5,
            weights: &weights,
            bias: &[0.0; GROUP],
            relu: false,
            words: &words[..9],
            stride: 5,
        };
        kernel.f16(&strip);
        let bad = [
            (F16Strip { input: &input[1..], ..strip }, "input has"),
            (F16Strip { weights: &weights[25..], ..strip }, "weights have"),
            (F16Strip { words: &words[..8], ..strip }, "output has 8 words"),
            (F16Strip { run_len: 0, ..strip }, "empty strip"),
        ];
        for (strip, message) in &bad {
            panics(kernel, message, || kernel.f16(strip));
        }
    }
}

fn panics(kernel: &dyn Kernel, message: &str, run: impl FnOnce()) {
    let name = kernel.name();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).expect_err(name);
    let found = found.downcast_ref::<String>().expect("a formatted message");
    assert!(found.contains(message), "{name}: found {found:?}, expected {message:?}");
}

#[test]
fn kernels_md_describes_these_files() {
    let doc = include_str!("../KERNELS.md");
    let files = [
        ("scalar.rs", include_str!("../src/kernels/scalar.rs")),
        ("neon.rs", include_str!("../src/kernels/neon.rs")),
        ("dotprod.rs", include_str!("../src/kernels/dotprod.rs")),
        ("i8mm.rs", include_str!("../src/kernels/i8mm.rs")),
        ("i8mm_blocks.rs", include_str!("../src/kernels/i8mm_blocks.rs")),
        ("i8mm_winograd8.rs", include_str!("../src/kernels/i8mm_winograd8.rs")),
        ("../blocks.rs", include_str!("../src/blocks.rs")),
        ("avx2.rs", include_str!("../src/kernels/avx2.rs")),
        ("../winograd.rs", include_str!("../src/winograd.rs")),
        ("neon_core.rs", include_str!("../src/kernels/neon_core.rs")),
        ("neon_f16.rs", include_str!("../src/kernels/neon_f16.rs")),
        ("neon_fp16_winograd16.rs", include_str!("../src/kernels/neon_fp16_winograd16.rs")),
        ("neon_winograd.rs", include_str!("../src/kernels/neon_winograd.rs")),
        ("neon_winograd_row.rs", include_str!("../src/kernels/neon_winograd_row.rs")),
        ("neon_winograd_in_order.rs", include_str!("../src/kernels/neon_winograd_in_order.rs")),
        ("neon_winograd_output.rs", include_str!("../src/kernels/neon_winograd_output.rs")),
        ("neon_s4.rs", include_str!("../src/kernels/neon_s4.rs")),
        ("dotprod_s4.rs", include_str!("../src/kernels/dotprod_s4.rs")),
        ("avx2_s4.rs", include_str!("../src/kernels/avx2_s4.rs")),
        ("neon_multiply.rs", include_str!("../src/kernels/neon_multiply.rs")),
        ("../winograd8.rs", include_str!("../src/winograd8.rs")),
        ("scalar_winograd8.rs", include_str!("../src/kernels/scalar_winograd8.rs")),
        ("neon_winograd8.rs", include_str!("../src/kernels/neon_winograd8.rs")),
        ("neon_winograd8_row.rs", include_str!("../src/kernels/neon_winograd8_row.rs")),
        ("neon_winograd8_output.rs", include_str!("../src/kernels/neon_winograd8_output.rs")),
        ("dotprod_winograd8.rs", include_str!("../src/kernels/dotprod_winograd8.rs")),
        ("avx2_winograd.rs", include_str!("../src/kernels/avx2_winograd.rs")),
        ("avx2_winograd8.rs", include_str!("../src/kernels/avx2_winograd8.rs")),
        ("avx512vnni.rs", include_str!("../src/kernels/avx512vnni.rs")),
    ];
    let fnv = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    let rows = files.map(|(name, text)| {
        format!("| `{name}` | `{:016x}` |", text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv))
    });
    for row in &rows {
        assert!(doc.contains(row.as_str()), "KERNELS.md: expected these hashes:\n{}", rows.join("\n"));
    }
    for row in TABLE {
        assert!(doc.contains(row.name), "KERNELS.md does not name {}", row.name);
    }
}
