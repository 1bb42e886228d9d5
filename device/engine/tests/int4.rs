//! Dense layers in 4 bits: each kernel that this CPU has gives the bytes of `scalar`, and `scalar` those of plain sums.
//!
//! Output words start as a canary and are compared whole.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vgg_edge_blob::int4::S4Block;
use vgg_edge_blob::requant::requantize;
use vgg_edge_engine::kernels::{GROUP, Kernel, Requant, S4Strip, S8Output, available, by_name};

const SEED: u64 = 0x5eed_2026_1124_0004;
const CANARY: u64 = 0xdead_beef_0bad_cafe;

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }
}

struct Case {
    input: Vec<i8>,
    blocks: Vec<S4Block>,
    bias: [i32; GROUP],
    multiplier: [i32; GROUP],
    shift: [i32; GROUP],
    zero_point: i8,
}

impl Case {
    fn random(n_blocks: usize, most: u8, r: &mut Random) -> Self {
        // Sums have a spread of 74 * 4.6 * 0.58 * most * sqrt(64 n); 2^6 steps of output for it.
        let spread = 74.0 * 4.6 * 0.58 * f64::from(most) * (64.0 * n_blocks as f64).sqrt();
        let shift = (spread / 64.0).log2().max(1.0) as i32;
        Self {
            input: (0..64 * n_blocks).map(|_| r.byte() as i8).collect(),
            blocks: (0..n_blocks)
                .map(|_| S4Block {
                    scales: core::array::from_fn(|_| (u16::from(r.byte()) * u16::from(most) / 255) as u8),
                    weights: core::array::from_fn(|_| r.byte()),
                })
                .collect(),
            bias: core::array::from_fn(|_| r.next() as i32 >> 14),
            multiplier: core::array::from_fn(|_| (1 << 30) + (r.next() >> 34) as i32),
            shift: core::array::from_fn(|_| shift + (r.byte() % 3) as i32 - 1),
            zero_point: r.byte() as i8,
        }
    }

    /// Every input, weight and scale the same.
    fn constant(n_blocks: usize, input: i8, weight: i8, scale: u8) -> Self {
        let weights = [(weight & 15) as u8 * 17; 256];
        Self {
            input: vec![input; 64 * n_blocks],
            blocks: vec![S4Block { scales: [scale; GROUP], weights }; n_blocks],
            bias: [7; GROUP],
            multiplier: [i32::MAX; GROUP],
            shift: [20; GROUP],
            zero_point: -3,
        }
    }

    fn strip(&self) -> S4Strip<'_> {
        S4Strip { input: &self.input, blocks: &self.blocks, bias: &self.bias }
    }

    /// Activations, then accumulators, with the words behind.
    fn run(&self, kernel: &dyn Kernel) -> (Vec<u64>, Vec<u64>) {
        let words = |n| -> Vec<AtomicU64> { (0..n).map(|_| AtomicU64::new(CANARY)).collect() };
        let (activations, accumulators) = (words(2), words(5));
        let requant =
            Requant { multiplier: &self.multiplier, shift: &self.shift, zero_point: self.zero_point };
        kernel.s4(&self.strip(), S8Output::Activations { requant, words: &activations, stride: 1 });
        kernel.s4(&self.strip(), S8Output::Accumulators(&accumulators));
        let values = |words: &[AtomicU64]| words.iter().map(|word| word.load(Relaxed)).collect();
        (values(&activations), values(&accumulators))
    }

    /// The same, in plain sums over the index equation of the format.
    fn expected(&self) -> (Vec<u64>, Vec<u64>) {
        let acc: [i32; GROUP] = core::array::from_fn(|o| {
            let mut acc = i64::from(self.bias[o]);
            for (k, &x) in self.input.iter().enumerate() {
                let block = &self.blocks[k / 64];
                let byte = block.weights[16 * (k % 64 / 4) + 4 * (o % 4) + k % 4];
                let half = i64::from(if o < 4 { byte & 15 } else { byte >> 4 });
                let weight = if half > 7 { half - 16 } else { half };
                acc += i64::from(block.scales[o]) * weight * i64::from(x);
            }
            i32::try_from(acc).expect("a legal case")
        });
        let pixel = core::array::from_fn(|o| {
            requantize(acc[o], self.multiplier[o], self.shift[o], self.zero_point) as u8
        });
        let pairs = acc.chunks_exact(2).map(|p| u64::from(p[0] as u32) | u64::from(p[1] as u32) << 32);
        (vec![u64::from_le_bytes(pixel), CANARY], pairs.chain([CANARY]).collect())
    }

    fn check(&self, what: &str) {
        let expected = self.expected();
        for kernel in available() {
            assert_eq!(self.run(kernel), expected, "{}: {what}", kernel.name());
        }
    }
}

#[test]
fn random_blocks() {
    let r = &mut Random(SEED);
    let names: Vec<&str> = available().map(Kernel::name).collect();
    println!("kernels: {} (seed {SEED:#x})", names.join(" "));
    // 392 blocks are VGG16's first dense layer, 72 are 4608 inputs. Larger scales leave room for fewer.
    for (n_blocks, most) in
        [(1, 255), (2, 255), (3, 1), (7, 255), (8, 31), (64, 100), (72, 255), (392, 31), (392, 60)]
    {
        for _ in 0..8 {
            Case::random(n_blocks, most, r).check(&format!("{n_blocks} blocks, scales to {most}"));
        }
    }
}

/// Both ends of inputs, weights and scales: the largest sums of products and of blocks that may be.
#[test]
fn extremes() {
    for input in [-128, -127, -1, 0, 1, 127] {
        for weight in -8..=7 {
            for (n_blocks, scale) in [(1, 255), (2, 0), (16, 255), (64, 255), (72, 1), (392, 41)] {
                Case::constant(n_blocks, input, weight, scale)
                    .check(&format!("{n_blocks} blocks, {input} * {weight} * {scale}"));
            }
        }
    }
}

/// One input, one weight: every place of a block.
#[test]
fn every_place_of_a_block() {
    for k in 0..64 {
        for o in 0..GROUP {
            let mut case = Case::constant(2, 0, 0, 3);
            case.input[64 + k] = -77;
            case.blocks[1].weights[16 * (k / 4) + 4 * (o % 4) + k % 4] = if o < 4 { 0x05 } else { 0xb0 };
            case.check(&format!("input {k}, output {o}"));
        }
    }
}

#[test]
fn strips_that_do_not_fit_panic() {
    let case = Case::constant(2, 1, 1, 1);
    let word = [const { AtomicU64::new(0) }; 4];
    let blocks_of = |n: usize| &case.blocks[..n];
    for kernel in available().chain([by_name("scalar").unwrap()]) {
        for (input, n_blocks, n_words, message) in [
            (127, 2, 4, "input has 127 values, 2 blocks of 64"),
            (128, 0, 4, "input has 128 values, 0 blocks of 64"),
            (128, 2, 3, "output has 3 words, too few"),
        ] {
            let strip =
                S4Strip { input: &case.input[..input], blocks: blocks_of(n_blocks), bias: &case.bias };
            let run = || kernel.s4(&strip, S8Output::Accumulators(&word[..n_words]));
            let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).expect_err(kernel.name());
            let found = found.downcast_ref::<String>().expect("a formatted message");
            assert!(found.contains(message), "{}: {found:?}, expected {message:?}", kernel.name());
        }
    }
}
