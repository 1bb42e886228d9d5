//! Dense layers in 4 bits on x86-64: the `avx2_s4` part of the `avx2` kernel.
//!
//! ```text
//! two steps: 8 inputs, 8 outputs, 32 bytes   b  = |o0 k0..3|o1|o2|o3|o0 k4..7|o1|o2|o3|    low halves; o4..7 in the high ones
//! weights by table (vpshufb)                 lo = table[b & 15]         hi = table[(b >> 4) & 15]
//! inputs                                     x  = |k0..3|k0..3|k0..3|k0..3|k4..7|k4..7|k4..7|k4..7|
//! vpmaddubsw t, |x|, lo * sign(x)            pairs of products, i16: nothing saturates, |t| <= 2 * 8 * 128
//! ```
//!
//! Eight of them fit i16 (2^14), so sums widen once a block: `vpmaddwd` by 1, then `vpmulld` by the scales.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::x86_64 as avx;

use vgg_edge_blob::int4::{INPUTS, S4Block};

use super::avx2::{PREFETCH_BYTES, finish, load_i32};
use super::{S4Strip, S8Output};

/// The int4 strip.
///
/// # Safety
/// The CPU has AVX2; the strip is checked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn s4(strip: &S4Strip<'_>, out: &S8Output<'_>) {
    let mut acc = load_i32(strip.bias);
    for (block, x) in strip.blocks.iter().zip(strip.input.as_chunks::<INPUTS>().0) {
        // SAFETY: 8 scales.
        let scales = unsafe { avx::_mm_loadl_epi64(block.scales.as_ptr().cast()) };
        let scales = avx::_mm256_cvtepu8_epi32(scales);
        acc = avx::_mm256_add_epi32(acc, avx::_mm256_mullo_epi32(block_sums(block, x), scales));
    }
    finish(acc, 0, out);
}

/// Sums of 64 inputs for 8 outputs.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn block_sums(block: &S4Block, x: &[i8; INPUTS]) -> avx::__m256i {
    let table = avx::_mm256_broadcastsi128_si256(avx::_mm_setr_epi8(
        0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1,
    ));
    let half = avx::_mm256_set1_epi8(15);
    let lanes = avx::_mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    let mut sums = [avx::_mm256_setzero_si256(); 2];
    for steps in 0..INPUTS / 8 {
        // SAFETY: 8 pairs of steps of 32 bytes of weights and 8 inputs.
        let (packed, x) = unsafe {
            let w = block.weights.as_ptr().add(32 * steps);
            if steps % 2 == 0 {
                avx::_mm_prefetch::<{ avx::_MM_HINT_T0 }>(w.wrapping_add(PREFETCH_BYTES).cast());
            }
            let x = avx::_mm_loadl_epi64(x.as_ptr().add(8 * steps).cast());
            (avx::_mm256_loadu_si256(w.cast()), avx::_mm256_castsi128_si256(x))
        };
        let x = avx::_mm256_permutevar8x32_epi32(x, lanes);
        let low = avx::_mm256_shuffle_epi8(table, avx::_mm256_and_si256(packed, half));
        let packed = avx::_mm256_srli_epi16::<4>(packed);
        let high = avx::_mm256_shuffle_epi8(table, avx::_mm256_and_si256(packed, half));
        // |-128| is 128 as u8.
        let magnitude = avx::_mm256_abs_epi8(x);
        for (sum, w) in sums.iter_mut().zip([low, high]) {
            let pairs = avx::_mm256_maddubs_epi16(magnitude, avx::_mm256_sign_epi8(w, x));
            *sum = avx::_mm256_add_epi16(*sum, pairs);
        }
    }
    let one = avx::_mm256_set1_epi16(1);
    let [low, high] = sums.map(|sum| avx::_mm256_madd_epi16(sum, one));
    // Even steps are in the lower halves, odd ones in the upper.
    avx::_mm256_add_epi32(
        avx::_mm256_permute2x128_si256::<0x20>(low, high),
        avx::_mm256_permute2x128_si256::<0x31>(low, high),
    )
}
