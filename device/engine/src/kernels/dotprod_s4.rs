//! Dense layers in 4 bits with FEAT_DotProd: the `dotprod_s4` part of the `dotprod` and `i8mm` kernels.
//!
//! ```text
//! a step: 4 inputs, 8 outputs, 16 bytes    b   = |o0 k0..3|o1 k0..3|o2 k0..3|o3 k0..3|    low halves; o4..7 in the high ones
//! 16 times the weights, i8                 lo  = b << 4               hi  = b & 0xf0       no sign to extend
//! 8 inputs, half a register                x   = |k0..3|k4..7|
//! sdot acc.4s, lo.16b, x.4b[l]             acc[o] += 16 * w[o] . x
//! ```
//!
//! A block's sums are 16 times too large, at most 2^20, and multiples of 16: one shift a block, then `mla` by the scales.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::aarch64 as neon;

use vgg_edge_blob::int4::{INPUTS, S4Block};

use super::dotprod::vdotq_lane_s32;
use super::neon::{Finish, prefetch};
use super::neon_s4::scales;
use super::{S4Strip, S8Output};

/// The int4 strip of both rows.
///
/// # Safety
/// The CPU has FEAT_DotProd; the strip is checked.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn s4(strip: &S4Strip<'_>, out: S8Output<'_>) {
    let mut acc = [neon::vdupq_n_s32(0); 2];
    for (block, x) in strip.blocks.iter().zip(strip.input.as_chunks::<INPUTS>().0) {
        let sums = block_sums(block, x);
        let scales = scales(block);
        acc = [neon::vmlaq_s32(acc[0], sums[0], scales[0]), neon::vmlaq_s32(acc[1], sums[1], scales[1])];
    }
    Finish::with_bias(strip.bias, out).pixel(0, acc);
}

/// Sums of 64 inputs for 8 outputs.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn block_sums(block: &S4Block, x: &[i8; INPUTS]) -> [neon::int32x4_t; 2] {
    // Two chains an output, so that no product waits for the one before.
    let (mut even, mut odd) = ([neon::vdupq_n_s32(0); 2], [neon::vdupq_n_s32(0); 2]);
    let high = neon::vdupq_n_s8(-16);
    for step in (0..INPUTS / 4).step_by(2) {
        // SAFETY: 16 steps of 16 bytes of weights and 4 inputs, two at a time.
        let (w, x) = unsafe {
            let w = block.weights.as_ptr().cast::<i8>().add(16 * step);
            if step % 4 == 0 {
                prefetch(w);
            }
            ([neon::vld1q_s8(w), neon::vld1q_s8(w.add(16))], neon::vld1_s8(x.as_ptr().add(4 * step)))
        };
        even[0] = vdotq_lane_s32::<0>(even[0], neon::vshlq_n_s8::<4>(w[0]), x);
        even[1] = vdotq_lane_s32::<0>(even[1], neon::vandq_s8(w[0], high), x);
        odd[0] = vdotq_lane_s32::<1>(odd[0], neon::vshlq_n_s8::<4>(w[1]), x);
        odd[1] = vdotq_lane_s32::<1>(odd[1], neon::vandq_s8(w[1], high), x);
    }
    [0, 1].map(|i| neon::vshrq_n_s32::<4>(neon::vaddq_s32(even[i], odd[i])))
}
