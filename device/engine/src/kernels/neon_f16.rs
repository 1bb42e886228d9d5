//! The strip with f16 weights of the `neon` kernel and of every Arm row above it, `neon_f16`.
//!
//! Weights widen to f32 (`fcvtl`), activations multiply by lane (`fmla`): 12 pixels times 8 channels.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::neon::prefetch;
use super::{F16Strip, GROUP, tiles};

/// Pixels of the widest f16 tile: 2 accumulators each.
const F16_PIXELS: usize = 12;

/// The f16 strip of every Arm row: f16 weights widen to f32 (`fcvtl`), activations multiply by lane (`fmla`).
pub(super) fn f16(strip: &F16Strip<'_>) {
    strip.check();
    // SAFETY: this file is compiled for targets that have NEON; the strip's extents are checked.
    unsafe { f16_strip(strip) };
}

/// # Safety
/// The strip is checked.
#[target_feature(enable = "neon")]
unsafe fn f16_strip(strip: &F16Strip<'_>) {
    for (first, width) in tiles(strip.n_pixels, F16_PIXELS) {
        // SAFETY: the strip is checked, and the tile's pixels are the strip's.
        unsafe {
            match width {
                1 => f16_tile::<1>(strip, first),
                2 => f16_tile::<2>(strip, first),
                3 => f16_tile::<3>(strip, first),
                4 => f16_tile::<4>(strip, first),
                5 => f16_tile::<5>(strip, first),
                6 => f16_tile::<6>(strip, first),
                7 => f16_tile::<7>(strip, first),
                8 => f16_tile::<8>(strip, first),
                9 => f16_tile::<9>(strip, first),
                10 => f16_tile::<10>(strip, first),
                11 => f16_tile::<11>(strip, first),
                _ => f16_tile::<F16_PIXELS>(strip, first),
            }
        }
    }
}

/// One tile of `P` pixels.
///
/// # Safety
/// The strip is checked; `first + P <= n_pixels`.
#[target_feature(enable = "neon")]
#[inline(never)] // the registers are the tile's own
unsafe fn f16_tile<const P: usize>(strip: &F16Strip<'_>, first: usize) {
    // SAFETY: 8 values, 4 a load.
    let bias = unsafe { [neon::vld1q_f32(strip.bias.as_ptr()), neon::vld1q_f32(strip.bias.as_ptr().add(4))] };
    let mut acc = [bias; P];
    let mut w = strip.weights.as_ptr();
    for r in 0..strip.n_runs {
        let run = strip.input.as_ptr().wrapping_add(first * strip.pixel_stride + r * strip.run_stride);
        let mut x: [_; P] = core::array::from_fn(|p| run.wrapping_add(p * strip.pixel_stride));
        for _ in 0..strip.run_len {
            // SAFETY: `check` found run_len values behind every pixel's start and 8 * run_len weights a run.
            unsafe {
                if P == 1 {
                    prefetch(w);
                }
                let half = neon::vreinterpretq_f16_u16(neon::vld1q_u16(w));
                let w0 = neon::vcvt_f32_f16(neon::vget_low_f16(half));
                let w1 = neon::vcvt_high_f32_f16(half);
                w = w.add(GROUP);
                for (acc, x) in acc.iter_mut().zip(&mut x) {
                    let x = load_f32_post(x);
                    acc[0] = neon::vfmaq_laneq_f32::<0>(acc[0], w0, x);
                    acc[1] = neon::vfmaq_laneq_f32::<0>(acc[1], w1, x);
                }
            }
        }
    }
    for (p, [low, high]) in acc.into_iter().enumerate() {
        let words = &strip.words[(first + p) * strip.stride..][..4];
        store_floats(&words[..2], low, strip.relu);
        store_floats(&words[2..], high, strip.relu);
    }
}

/// Stores 4 channels, clamped at 0 or with one NaN for all CPUs.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn store_floats(words: &[AtomicU64], acc: neon::float32x4_t, relu: bool) {
    let bits = neon::vreinterpretq_u32_f32(acc);
    let stored = if relu {
        neon::vandq_u32(bits, neon::vcgtq_f32(acc, neon::vdupq_n_f32(0.0)))
    } else {
        neon::vbslq_u32(neon::vceqq_f32(acc, acc), bits, neon::vdupq_n_u32(0x7fc0_0000))
    };
    let stored = neon::vreinterpretq_u64_u32(stored);
    words[0].store(neon::vgetq_lane_u64::<0>(stored), Relaxed);
    words[1].store(neon::vgetq_lane_u64::<1>(stored), Relaxed);
}

/// One value into lane 0, with post-increment. In assembly: the compiler would copy it into all lanes, by an operation.
///
/// # Safety
/// A value at `x`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_f32_post(x: &mut *const f32) -> neon::float32x4_t {
    let value;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ldr {v:s}, [{x}], #4", v = out(vreg) value, x = inout(reg) *x,
            options(pure, readonly, nostack, preserves_flags));
    }
    value
}
