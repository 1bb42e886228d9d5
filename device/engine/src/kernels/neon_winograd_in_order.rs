//! Winograd's multiplications of the `neon` kernel on in-order cores, `neon_winograd_in_order`: two tiles at a time.
//!
//! ```text
//! x = [tile p: k0 k1 k2 k3 | tile p + 1: k0 k1 k2 k3]      a register
//! smlal  acc[p].lo,     w_k.4h, x.h[k]        smlal2 acc[p].hi,     w_k.8h, x.h[k]
//! smlal  acc[p + 1].lo, w_k.4h, x.h[4 + k]    smlal2 acc[p + 1].hi, w_k.8h, x.h[4 + k]
//! ```
//!
//! A Cortex-A53 has two vector pipes of 64 bits, and a multiplication takes both. A `ldr d` takes one of them, and so does
//! an `ins`: the two issue together. A `ldr x` takes none and issues with a multiplication before it, a `ldr q` holds up
//! everything for two cycles. So of 128 bits the lower half comes by `ldr d`, the upper one by `ldr x`, and its `ins` goes with the next
//! `ldr d`: a cycle for two tiles or a register of weights, 10 cycles to 96 multiplications of 12 tiles.
//!
//! ```text
//! a step of 4 channels     before k0            before k1            before k2            before k3
//!   first two tiles        ins w2 | ldr w3      ins w3 | ldr next
//!   others                 ins x  | ldr next
//!   last two               ins x  | ldr next    ins next | ldr w0    ins w0 | ldr w1      ins w1 | ldr w2
//! ```
//!
//! Four products lie between two sums in the same register, and four between a vector load and what uses it.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};

use super::neon_winograd_row::{COLUMN_0, STEP};
use super::{GROUP, WinogradRow};

/// The sums of `P` tiles in the order of `chain`: all but the last in the same registers, one behind the other, with a
/// copy kept after each; then those of tap 5 alone.
///
/// # Safety
/// As for [`multiply`](super::neon_winograd_row): the row is checked, `P` is its number of tiles, `chain` names its taps;
/// `5 * P * 8` places at `parts`, `P * 8` at `sums`.
#[target_feature(enable = "neon")]
#[inline(never)] // the registers are the batch's own
pub(super) unsafe fn multiply<const P: usize>(
    row: &WinogradRow<'_>,
    chain: &[(usize, usize)],
    parts: *mut i32,
    sums: *mut i32,
) {
    let (steps, n) = (row.channels / STEP, P * GROUP);
    let values = |tap: usize| row.values.as_ptr().wrapping_add(tap * row.tap_stride);
    let weights = |tap: usize| row.weights.as_ptr().wrapping_add(tap * row.channels * GROUP);
    let mut acc = [[neon::vdupq_n_s32(0); 2]; P];
    // SAFETY: the caller's promise. Loads run two tiles, or a step, ahead of multiplications; those behind the last step
    // are the first values and weights again.
    unsafe {
        let first = chain[0].0;
        let mut stream = Stream::new::<P>(values(first), weights(first));
        for (i, &(tap, kept)) in chain.iter().enumerate() {
            let then = chain.get(i + 1).map_or(first, |next| next.0);
            let kept = if kept == COLUMN_0 { sums } else { parts.add(kept * n) };
            // Behind the tiles' first halves of 8 channels come their second halves, from tile 0 on, and then the next 8.
            let ahead = |step: usize| match step + 1 {
                next if next == steps => (values(then), weights(then)),
                next => {
                    let x = values(tap).wrapping_add(next / 2 * n + next % 2 * STEP);
                    (x, weights(tap).wrapping_add(next * STEP * GROUP))
                }
            };
            let is_new = i == 0 || tap == 5;
            if is_new {
                stream.step::<P, true>(&mut acc, ahead(0));
            }
            for step in usize::from(is_new)..steps {
                stream.step::<P, false>(&mut acc, ahead(step));
            }
            for (p, acc) in acc.iter().enumerate() {
                neon::vst1q_s32(kept.add(p * GROUP), acc[0]);
                neon::vst1q_s32(kept.add(p * GROUP + 4), acc[1]);
            }
        }
    }
}

/// What the next step finds in registers.
struct Stream {
    /// Weights of its four channels; of channel 2 the lower half only, of channel 3 nothing.
    w: [neon::int16x8_t; STEP],
    /// Upper halves that wait.
    w_high: [u64; STEP],
    /// All its weights.
    weights: *const i16,
    /// Its first two tiles; later of the next two the lower half.
    x: neon::int16x8_t,
    /// The upper half.
    x_high: u64,
    /// Its first tile.
    values: *const i16,
}

impl Stream {
    /// # Safety
    /// The values and weights of a step of `P` tiles.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn new<const P: usize>(values: *const i16, weights: *const i16) -> Self {
        let second = values.wrapping_add(if P > 1 { GROUP } else { 0 });
        let [w0, w1, w2, _] = [0, 1, 2, 3].map(|k| weights.wrapping_add(k * GROUP));
        // SAFETY: the caller's promise.
        unsafe {
            let w2 = load::<0>(w2);
            let w = [neon::vld1q_s16(w0), neon::vld1q_s16(w1), w2, w2];
            let w_high = [0, 0, load_bits::<8, 2>(weights), load_bits::<8, 3>(weights)];
            let x = neon::vcombine_s16(neon::vld1_s16(values), neon::vld1_s16(second));
            Self { w, w_high, weights, x, x_high: 0, values }
        }
    }

    /// Four channels of `P` tiles times 8 outputs; `NEW` sums begin with the first. Then the stream is that of the step
    /// with `next`, values and weights.
    ///
    /// # Safety
    /// The values and weights of both steps.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn step<const P: usize, const NEW: bool>(
        &mut self,
        acc: &mut [[neon::int32x4_t; 2]; P],
        next: (*const i16, *const i16),
    ) {
        // SAFETY: the caller's promise. A loop over so much assembly does not unroll.
        unsafe {
            self.two_tiles::<P, NEW, 0>(acc, next);
            self.two_tiles::<P, NEW, 2>(acc, next);
            self.two_tiles::<P, NEW, 4>(acc, next);
            self.two_tiles::<P, NEW, 6>(acc, next);
            self.two_tiles::<P, NEW, 8>(acc, next);
            self.two_tiles::<P, NEW, 10>(acc, next);
        }
        (self.values, self.weights) = next;
    }

    /// The same for tiles `FIRST` and `FIRST + 1`, where there are any.
    ///
    /// # Safety
    /// As for [`Stream::step`], and so for what it is made of.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn two_tiles<const P: usize, const NEW: bool, const FIRST: usize>(
        &mut self,
        acc: &mut [[neon::int32x4_t; 2]; P],
        next: (*const i16, *const i16),
    ) {
        if FIRST >= P {
            return;
        }
        let mut sums = [acc[FIRST], acc[(FIRST + 1).min(P - 1)]];
        let mut x = self.x;
        // SAFETY: the caller's promise.
        unsafe {
            self.load::<P, FIRST, 0>(&mut x, next);
            self.channel::<P, FIRST, 0, 4, NEW>(&mut sums, x, next);
            self.load::<P, FIRST, 1>(&mut x, next);
            self.channel::<P, FIRST, 1, 5, false>(&mut sums, x, next);
            self.load::<P, FIRST, 2>(&mut x, next);
            self.channel::<P, FIRST, 2, 6, false>(&mut sums, x, next);
            self.load::<P, FIRST, 3>(&mut x, next);
            self.channel::<P, FIRST, 3, 7, false>(&mut sums, x, next);
            self.load::<P, FIRST, 4>(&mut x, next);
        }
        if FIRST + 1 < P {
            acc[FIRST + 1] = sums[1];
        }
        acc[FIRST] = sums[0];
    }

    /// What takes a cycle of the vector pipes before channel `K`, 4 is behind the last.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn load<const P: usize, const FIRST: usize, const K: usize>(
        &mut self,
        x: &mut neon::int16x8_t,
        (values, weights): (*const i16, *const i16),
    ) {
        let (is_first, is_last) = (FIRST == 0, FIRST + 2 >= P);
        let (place, [w0_high, w1_high, w2_high, w3_high]) = (self.values, self.w_high);
        // SAFETY: the caller's promise.
        unsafe {
            let next = |register: &mut neon::int16x8_t, high: u64| match is_last {
                true => set_high_and_load::<0, 0>(register, high, values),
                false => set_high_and_load::<32, FIRST>(register, high, place),
            };
            match K {
                0 if is_first => self.w[3] = set_high_and_load::<0, 3>(&mut self.w[2], w2_high, self.weights),
                // A tile alone.
                0 if FIRST + 1 == P => self.x = load::<0>(values),
                0 => self.x = next(x, self.x_high),
                1 if is_first => self.x = next(&mut self.w[3], w3_high),
                _ if !is_last => {}
                // Two tiles that are first and last have each a channel later.
                _ => match K - usize::from(is_first) {
                    1 if P > 1 => self.w[0] = set_high_and_load::<0, 0>(&mut self.x, self.x_high, weights),
                    1 => self.w[0] = load::<0>(weights),
                    2 => self.w[1] = set_high_and_load::<0, 1>(&mut self.w[0], w0_high, weights),
                    3 => self.w[2] = set_high_and_load::<0, 2>(&mut self.w[1], w1_high, weights),
                    _ => {}
                },
            }
        }
    }

    /// Channel `K`, in lane `K` of the first tile and lane `K4` of the second, and the loads to integer registers.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn channel<
        const P: usize,
        const FIRST: usize,
        const K: usize,
        const K4: usize,
        const NEW: bool,
    >(
        &mut self,
        sums: &mut [[neon::int32x4_t; 2]; 2],
        x: neon::int16x8_t,
        (values, weights): (*const i16, *const i16),
    ) {
        let is_last = FIRST + 2 >= P;
        // Whether the next two tiles are two.
        let is_pair = if is_last { P > 1 } else { FIRST + 3 < P };
        products::<K, NEW>(&mut sums[0], self.w[K], x);
        // SAFETY: the caller's promise; a second tile is loaded where there is one.
        unsafe {
            // In the registers of the first two tiles there is room a channel later.
            if is_pair && K == usize::from(FIRST == 0) {
                self.x_high = match is_last {
                    true => load_bits::<16, 0>(values),
                    false => load_bits::<48, FIRST>(self.values),
                };
            }
            if FIRST + 1 < P {
                products::<K4, NEW>(&mut sums[1], self.w[K], x);
            }
            if is_last {
                self.w_high[K] = load_bits::<8, K>(weights);
            }
        }
    }
}

// Assembly that is not `pure` stays in its order.

/// A channel of one tile times 8 outputs, `NEW` sums or more of the same.
#[target_feature(enable = "neon")]
#[inline]
fn products<const LANE: usize, const NEW: bool>(
    acc: &mut [neon::int32x4_t; 2],
    w: neon::int16x8_t,
    x: neon::int16x8_t,
) {
    let [low, high] = acc;
    // SAFETY: arithmetic.
    unsafe {
        if NEW {
            asm!(
                "smull  {a:v}.4s, {w:v}.4h, {x:v}.h[{lane}]",
                "smull2 {b:v}.4s, {w:v}.8h, {x:v}.h[{lane}]",
                a = out(vreg) *low, b = lateout(vreg) *high, w = in(vreg) w, x = in(vreg_low16) x,
                lane = const LANE, options(nomem, nostack, preserves_flags)
            );
        } else {
            asm!(
                "smlal  {a:v}.4s, {w:v}.4h, {x:v}.h[{lane}]",
                "smlal2 {b:v}.4s, {w:v}.8h, {x:v}.h[{lane}]",
                a = inout(vreg) *low, b = inout(vreg) *high, w = in(vreg) w, x = in(vreg_low16) x,
                lane = const LANE, options(nomem, nostack, preserves_flags)
            );
        }
    }
}

/// 4 values, `OFFSET` bytes from `base` on, in the lower half of a register.
///
/// # Safety
/// 4 values there.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load<const OFFSET: usize>(base: *const i16) -> neon::int16x8_t {
    let low;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ldr {low:d}, [{base}, #{offset}]", low = out(vreg) low, base = in(reg) base, offset = const OFFSET,
            options(readonly, nostack, preserves_flags));
    }
    low
}

/// The same; first, and at the same time, `bits` become the upper half of `register`.
///
/// # Safety
/// As for [`load`].
#[target_feature(enable = "neon")]
#[inline]
unsafe fn set_high_and_load<const OFFSET: usize, const TILE: usize>(
    register: &mut neon::int16x8_t,
    bits: u64,
    base: *const i16,
) -> neon::int16x8_t {
    let low;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "ins    {register:v}.d[1], {bits}",
            "ldr    {low:d}, [{base}, #{offset}]",
            register = inout(vreg) *register, bits = in(reg) bits, low = out(vreg) low, base = in(reg) base,
            offset = const OFFSET + 16 * TILE, options(readonly, nostack, preserves_flags)
        );
    }
    low
}

/// The 4 values in an integer register.
///
/// # Safety
/// As for [`load`].
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_bits<const OFFSET: usize, const TILE: usize>(base: *const i16) -> u64 {
    let bits;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ldr {bits}, [{base}, #{offset}]", bits = out(reg) bits, base = in(reg) base, offset = const OFFSET + 16 * TILE,
            options(readonly, nostack, preserves_flags));
    }
    bits
}
