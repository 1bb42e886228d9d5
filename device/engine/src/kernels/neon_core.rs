//! What core the kernels of the `neon` family run on, `neon_core`: in order or out of order, and its cache.
//!
//! ```text
//! MIDR_EL1   | implementer 31:24 | variant | architecture | part 15:4 | revision |      0x41, 0xd03: Cortex-A53
//! ```
//!
//! It chooses between instructions that give the same bytes: on an in-order core a vector multiplication takes no longer
//! than an addition, elsewhere multiplications wait for one pipe.

#![allow(unsafe_code)] // the register, and the kernel's word that it may be read

use core::arch::{aarch64 as neon, asm};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Arm's in-order cores with 64 bits: A35, A53, A55, A510, A520, A34.
const IN_ORDER: [u16; 6] = [0xd04, 0xd03, 0xd05, 0xd46, 0xd80, 0xd02];
/// Arm's own cores.
const ARM: u8 = 0x41;

/// Bytes of the second level cache next to the core, where its maker leaves no choice, or boards agree: on a Cortex-A72 1 MiB
/// for its cluster.
pub(crate) fn l2_bytes() -> Option<usize> {
    midr().and_then(l2_bytes_of)
}

fn l2_bytes_of(midr: u64) -> Option<usize> {
    match ((midr >> 24) as u8, (midr >> 4) as u16 & 0xfff) {
        (ARM, 0xd03) => Some(512 << 10),
        (ARM, 0xd08) => Some(1 << 20),
        _ => None,
    }
}

/// Whether the core that first asked is an in-order one. No where nobody can tell.
pub(super) fn is_in_order() -> bool {
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    match KNOWN.load(Relaxed) {
        0 => {
            let answer = midr().is_some_and(is_in_order_part);
            KNOWN.store(1 + u8::from(answer), Relaxed);
            answer
        }
        known => known == 2,
    }
}

/// A factor in all lanes that the compiler does not know: it would trade a multiplication for a shift and an addition, of
/// which each takes as long on an in-order core.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn factor_s32(factor: i32) -> neon::int32x4_t {
    opaque_s32(neon::vdupq_n_s32(factor))
}

/// Lanes that the compiler knows nothing of: it computes them as they are, and what follows from them alone.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn opaque_s32(mut lanes: neon::int32x4_t) -> neon::int32x4_t {
    // SAFETY: no instruction at all.
    unsafe {
        asm!("/* {lanes:v} */", lanes = inout(vreg) lanes, options(pure, nomem, nostack, preserves_flags))
    };
    lanes
}

/// The same in 16 bits.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn factor_s16(factor: i16) -> neon::int16x8_t {
    let mut lanes = neon::vdupq_n_s16(factor);
    // SAFETY: no instruction at all.
    unsafe {
        asm!("/* {lanes:v} */", lanes = inout(vreg) lanes, options(pure, nomem, nostack, preserves_flags))
    };
    lanes
}

/// Four lanes that the compiler knows nothing of.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn opaque_s16(mut lanes: neon::int16x4_t) -> neon::int16x4_t {
    // SAFETY: no instruction at all.
    unsafe {
        asm!("/* {lanes:v} */", lanes = inout(vreg) lanes, options(pure, nomem, nostack, preserves_flags))
    };
    lanes
}

fn is_in_order_part(midr: u64) -> bool {
    (midr >> 24) as u8 == ARM && IN_ORDER.contains(&((midr >> 4) as u16 & 0xfff))
}

/// The main ID register, which Linux lets programs read.
#[cfg(all(feature = "std", target_os = "linux"))]
fn midr() -> Option<u64> {
    use core::ffi::c_ulong;
    const AT_HWCAP: c_ulong = 16;
    const HWCAP_CPUID: c_ulong = 1 << 11;
    unsafe extern "C" {
        safe fn getauxval(kind: c_ulong) -> c_ulong;
    }
    if getauxval(AT_HWCAP) & HWCAP_CPUID == 0 {
        return None;
    }
    let midr;
    // SAFETY: with this bit the system answers reads of ID registers; there is nothing else to it.
    unsafe {
        asm!("mrs {midr}, midr_el1", midr = out(reg) midr, options(pure, nomem, nostack, preserves_flags));
    }
    Some(midr)
}

#[cfg(not(all(feature = "std", target_os = "linux")))]
fn midr() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_from_their_registers() {
        // Cortex-A53 r0p4, A55 r1p0, A72 r0p3, A76 r4p1; another maker's core with A53's number.
        let parts = [0x410f_d034, 0x411f_d050, 0x410f_d083, 0x414f_d0b1, 0x510f_d034];
        assert_eq!(parts.map(is_in_order_part), [true, true, false, false, false]);
        let caches = [Some(512 << 10), None, Some(1 << 20), None, None];
        assert_eq!(parts.map(l2_bytes_of), caches);
    }

    #[test]
    fn the_answer_stays() {
        let first = is_in_order();
        println!("in order: {first}, {:x?}", midr());
        assert_eq!(is_in_order(), first);
    }
}
