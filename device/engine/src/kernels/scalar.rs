//! The `scalar` kernel, `generic-s8-scalar`: the specification, in safe and portable code.
//!
//! ```text
//! acc[p][o] = bias[o] + sum over r, k of input[p * pixel_stride + r * run_stride + k] * w(r, k, o)
//! w(r, k, o) = weights[r * run_len * 8 + (k / 4) * 32 + o * 4 + k % 4]     int8
//! w(r, k, o) = weights[(r * run_len + k) * 8 + o]                          f16
//! ```

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use half::f16;
use vgg_edge_blob::requant::requantize;

use super::{F16Strip, GROUP, Kernel, S8Output, S8Strip};

pub(super) const NAME: &str = "generic-s8-scalar";
pub(super) const KERNEL: &dyn Kernel = &Scalar;

pub(super) fn detect() -> Option<&'static dyn Kernel> {
    Some(KERNEL)
}

#[derive(Debug)]
struct Scalar;

impl Kernel for Scalar {
    fn name(&self) -> &'static str {
        NAME
    }

    fn s8(&self, strip: &S8Strip<'_>, out: S8Output<'_>) {
        strip.check(&out);
        for p in 0..strip.n_pixels {
            let mut acc = *strip.bias;
            for r in 0..strip.n_runs {
                let x = &strip.input[p * strip.pixel_stride + r * strip.run_stride..][..strip.run_len];
                let w = &strip.weights[r * strip.run_len * GROUP..][..strip.run_len * GROUP];
                add_run(&mut acc, x, w);
            }
            match out {
                S8Output::Activations { requant, words, stride } => {
                    let channel = |o: usize| {
                        requantize(acc[o], requant.multiplier[o], requant.shift[o], requant.zero_point) as u8
                    };
                    words[p * stride].store(u64::from_le_bytes(core::array::from_fn(channel)), Relaxed);
                }
                S8Output::Accumulators(words) => store_pairs(&words[p * 4..], acc.map(|a| a as u32)),
            }
        }
    }

    fn f16(&self, strip: &F16Strip<'_>) {
        strip.check();
        for p in 0..strip.n_pixels {
            let mut acc = *strip.bias;
            for r in 0..strip.n_runs {
                let x = &strip.input[p * strip.pixel_stride + r * strip.run_stride..][..strip.run_len];
                let w = &strip.weights[r * strip.run_len * GROUP..][..strip.run_len * GROUP];
                for (&x, w) in x.iter().zip(w.as_chunks::<GROUP>().0) {
                    for (acc, &w) in acc.iter_mut().zip(w) {
                        *acc = fma(x, f16::from_bits(w).to_f32(), *acc);
                    }
                }
            }
            store_pairs(&strip.words[p * strip.stride..], acc.map(|a| finish(a, strip.relu)));
        }
    }
}

/// Adds a run's products: 4 values times 8 channels a step.
fn add_run(acc: &mut [i32; GROUP], x: &[i8], w: &[i8]) {
    for (x, w) in x.as_chunks::<4>().0.iter().zip(w.as_chunks::<32>().0) {
        for (acc, w) in acc.iter_mut().zip(w.as_chunks::<4>().0) {
            let product = |k: usize| i32::from(x[k]) * i32::from(w[k]);
            *acc = acc.wrapping_add((product(0) + product(1)) + (product(2) + product(3)));
        }
    }
}

/// `x * w + acc` with one rounding.
#[cfg(feature = "std")]
fn fma(x: f32, w: f32, acc: f32) -> f32 {
    x.mul_add(w, acc)
}

/// `x * w + acc` with one rounding.
#[cfg(not(feature = "std"))]
fn fma(x: f32, w: f32, acc: f32) -> f32 {
    libm::fmaf(x, w, acc)
}

/// The bits that are stored: after the clamp, and with one NaN for all CPUs.
fn finish(acc: f32, relu: bool) -> u32 {
    if relu {
        if acc > 0.0 { acc.to_bits() } else { 0 }
    } else if acc.is_nan() {
        0x7fc0_0000
    } else {
        acc.to_bits()
    }
}

/// Two channels a word, the first in the lower half.
fn store_pairs(words: &[AtomicU64], values: [u32; GROUP]) {
    for (word, pair) in words.iter().zip(values.as_chunks::<2>().0) {
        word.store(u64::from(pair[0]) | u64::from(pair[1]) << 32, Relaxed);
    }
}
