//! The products of the `neon` kernel, `neon_multiply`: 8 values of a pixel, or of a tile's tap, times 8 channels.
//!
//! Registers are those of the drawing in `neon`.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};

/// 8 values, k0..3 in all four lanes of one register and k4..7 of another (`ld1r`), with post-increment.
/// In assembly, since the compiler, once it knows that the halves of a register are equal, trades `smull2`
/// for `ext` and `smull`.
///
/// # Safety
/// 8 values at `x`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn load_8_post(x: &mut *const i8) -> [neon::int8x16_t; 2] {
    let (x0, x1);
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ld1r {{{x0:v}.4s}}, [{x}], #4", "ld1r {{{x1:v}.4s}}, [{x}], #4", x0 = out(vreg) x0,
            x1 = out(vreg) x1, x = inout(reg) *x, options(pure, readonly, nostack, preserves_flags));
    }
    [x0, x1]
}

/// 8 values times 8 channels: weights of k0..3 for channels 0..4 and 4..8, then of k4..7. In one block of
/// assembly, since the compiler moves all multiplications to the front, and its temporaries to the stack.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn multiply(acc: &mut [neon::int32x4_t; 4], w: &[neon::int8x16_t; 4], x: [neon::int8x16_t; 2]) {
    let [acc0, acc1, acc2, acc3] = acc;
    // SAFETY: registers only.
    unsafe {
        asm!(
            "smull  {t0:v}.8h, {wa0:v}.8b,  {x0:v}.8b",
            "smull2 {t1:v}.8h, {wa0:v}.16b, {x0:v}.16b",
            "smull  {t2:v}.8h, {wb0:v}.8b,  {x0:v}.8b",
            "smull2 {t3:v}.8h, {wb0:v}.16b, {x0:v}.16b",
            "smlal  {t0:v}.8h, {wa1:v}.8b,  {x1:v}.8b",
            "smlal2 {t1:v}.8h, {wa1:v}.16b, {x1:v}.16b",
            "smlal  {t2:v}.8h, {wb1:v}.8b,  {x1:v}.8b",
            "smlal2 {t3:v}.8h, {wb1:v}.16b, {x1:v}.16b",
            "sadalp {acc0:v}.4s, {t0:v}.8h",
            "sadalp {acc1:v}.4s, {t1:v}.8h",
            "sadalp {acc2:v}.4s, {t2:v}.8h",
            "sadalp {acc3:v}.4s, {t3:v}.8h",
            acc0 = inout(vreg) *acc0, acc1 = inout(vreg) *acc1, acc2 = inout(vreg) *acc2,
            acc3 = inout(vreg) *acc3, wa0 = in(vreg) w[0], wb0 = in(vreg) w[1], wa1 = in(vreg) w[2],
            wb1 = in(vreg) w[3], x0 = in(vreg) x[0], x1 = in(vreg) x[1], t0 = out(vreg) _, t1 = out(vreg) _,
            t2 = out(vreg) _, t3 = out(vreg) _, options(pure, nomem, nostack, preserves_flags)
        );
    }
}
