//! Dense layers in 4 bits on Armv8.0: the `neon_s4` part of the `neon` kernel.
//!
//! ```text
//! a step: 4 inputs, 8 outputs, 16 bytes    b   = |o0 k0..3|o1 k0..3|o2 k0..3|o3 k0..3|    low halves; o4..7 in the high ones
//! weights, i8, as the other layouts have   lo  = (b << 4) >> 4        hi  = b >> 4         arithmetic shifts
//! 4 inputs in all four lanes (ld1r)        x   = |k0..3|k0..3|k0..3|k0..3|
//!
//! smlal  t0, lo.8b, x.8b     smlal2 t1, lo, x     smlal t2, hi.8b, x.8b     smlal2 t3, hi, x
//! ```
//!
//! A lane of `t` adds up 16 products of at most 8 * 128 over the 64 inputs of a block: 2^14 fits i16, so sums widen once a block:
//! `saddlp`, `addp`, then `mla` by the scales.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};

use vgg_edge_blob::int4::{INPUTS, S4Block};

use super::neon::{Finish, prefetch};
use super::{S4Strip, S8Output};

/// The int4 strip of the Armv8.0 row.
pub(super) fn s4(strip: &S4Strip<'_>, out: S8Output<'_>) {
    strip.check(&out);
    // SAFETY: this file is compiled for targets that have NEON; the strip's extents are checked.
    unsafe { s4_strip(strip, out) };
}

/// # Safety
/// The strip is checked.
#[target_feature(enable = "neon")]
unsafe fn s4_strip(strip: &S4Strip<'_>, out: S8Output<'_>) {
    let mut acc = [neon::vdupq_n_s32(0); 2];
    for (block, x) in strip.blocks.iter().zip(strip.input.as_chunks::<INPUTS>().0) {
        let sums = block_sums(block, x);
        let scales = scales(block);
        acc = [neon::vmlaq_s32(acc[0], sums[0], scales[0]), neon::vmlaq_s32(acc[1], sums[1], scales[1])];
    }
    Finish::with_bias(strip.bias, out).pixel(0, acc);
}

/// A block's scales, widened.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn scales(block: &S4Block) -> [neon::int32x4_t; 2] {
    // SAFETY: 8 scales.
    let scales = neon::vmovl_u8(unsafe { neon::vld1_u8(block.scales.as_ptr()) });
    let low = neon::vmovl_u16(neon::vget_low_u16(scales));
    [low, neon::vmovl_high_u16(scales)].map(|s| neon::vreinterpretq_s32_u32(s))
}

/// Sums of 64 inputs for 8 outputs.
#[target_feature(enable = "neon")]
#[inline]
fn block_sums(block: &S4Block, x: &[i8; INPUTS]) -> [neon::int32x4_t; 2] {
    let mut sums = [neon::vdupq_n_s16(0); 4];
    let mut x = x.as_ptr();
    // A cache line, four steps, at a time.
    for line in block.weights.as_chunks::<64>().0 {
        let w = line.as_ptr().cast::<i8>();
        prefetch(w);
        // SAFETY: 4 lines of 4 steps of 16 bytes of weights and 4 inputs.
        unsafe {
            for packed in [0, 16, 32, 48].map(|i| neon::vld1q_s8(w.add(i))) {
                let values = load_4_post(&mut x);
                let low = neon::vshrq_n_s8::<4>(neon::vshlq_n_s8::<4>(packed));
                multiply(&mut sums, [low, neon::vshrq_n_s8::<4>(packed)], values);
            }
        }
    }
    let [a, b, c, d] = sums.map(|sum| neon::vpaddlq_s16(sum));
    [neon::vpaddq_s32(a, b), neon::vpaddq_s32(c, d)]
}

/// 4 values in all four lanes of a register (`ld1r`), with post-increment: see `neon`.
///
/// # Safety
/// 4 values at `x`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_4_post(x: &mut *const i8) -> neon::int8x16_t {
    let values;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ld1r {{{v:v}.4s}}, [{x}], #4", v = out(vreg) values, x = inout(reg) *x,
            options(pure, readonly, nostack, preserves_flags));
    }
    values
}

/// 4 inputs times 8 outputs: weights of outputs 0 to 3 and 4 to 7.
#[target_feature(enable = "neon")]
#[inline]
fn multiply(sums: &mut [neon::int16x8_t; 4], w: [neon::int8x16_t; 2], x: neon::int8x16_t) {
    let [t0, t1, t2, t3] = sums;
    // SAFETY: registers only.
    unsafe {
        asm!(
            "smlal  {t0:v}.8h, {lo:v}.8b,  {x:v}.8b",
            "smlal2 {t1:v}.8h, {lo:v}.16b, {x:v}.16b",
            "smlal  {t2:v}.8h, {hi:v}.8b,  {x:v}.8b",
            "smlal2 {t3:v}.8h, {hi:v}.16b, {x:v}.16b",
            t0 = inout(vreg) *t0, t1 = inout(vreg) *t1, t2 = inout(vreg) *t2, t3 = inout(vreg) *t3,
            lo = in(vreg) w[0], hi = in(vreg) w[1], x = in(vreg) x, options(pure, nomem, nostack, preserves_flags)
        );
    }
}
