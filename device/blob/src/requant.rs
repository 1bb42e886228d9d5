//! The one rounding rule: how an i32 accumulator becomes an 8-bit activation, everywhere.
//!
//! ```text
//! high    = (acc * multiplier + 2^30) >> 31            rounding doubling high multiply (Arm SQRDMULH)
//! rounded = (high + 2^(shift - 1)) >> shift            rounding right shift, halves up (Arm SRSHL)
//! result  = clamp(rounded + zero_point, -128, 127)
//! ```
//!
//! It stands for `round(acc * scale) + zero_point` with `scale = multiplier * 2^-31 * 2^-shift < 1`. Two
//! instructions a vector on Arm and no float, so no CPU can differ. The first rounding keeps every bit of
//! the accumulator, so the second one decides: the result is off from the real product by at most
//! `0.5 + 2^-shift` steps.
//!
//! ```
//! use vgg_edge_blob::requant::{Fixed, requantize};
//! let f = Fixed::from_scale(0.01).unwrap();
//! assert_eq!(requantize(1000, f.multiplier, f.shift, -128), -118); // 10 steps above real 0
//! ```

/// Accumulators of a legal layer lie in (-ACC_LIMIT, ACC_LIMIT), whatever the order of summation; the
/// writer proves it for each output channel and refuses the layer otherwise.
pub const ACC_LIMIT: i64 = 1 << 30;

/// A scale in [0, 1) as `multiplier * 2^-31 * 2^-shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Q31, in [2^30, 2^31), or 0 for a scale too small to matter.
    pub multiplier: i32,
    /// Right shift, in [0, 31].
    pub shift: i32,
}

impl Fixed {
    /// The nearest fixed-point form of `scale`; `None` unless `0 <= scale < 1`.
    pub fn from_scale(scale: f64) -> Option<Self> {
        if !(0.0..1.0).contains(&scale) {
            return None;
        }
        let (mut mantissa, mut shift) = (scale, 0);
        while mantissa < 0.5 && shift < 32 {
            mantissa *= 2.0;
            shift += 1;
        }
        if mantissa < 0.5 {
            return Some(Self { multiplier: 0, shift: 0 });
        }
        // `+ 0.5` and truncation is rounding; `f64::round` needs std.
        let mut multiplier = (mantissa * (1u64 << 31) as f64 + 0.5) as i64;
        if multiplier == 1 << 31 {
            if shift == 0 {
                multiplier = (1 << 31) - 1;
            } else {
                multiplier = 1 << 30;
                shift -= 1;
            }
        }
        if shift > 31 {
            return Some(Self { multiplier: 0, shift: 0 });
        }
        Some(Self { multiplier: multiplier as i32, shift })
    }
}

/// Requantizes one accumulator. `acc` in (-[`ACC_LIMIT`], [`ACC_LIMIT`]), `multiplier >= 0`, `shift` in
/// [0, 31].
#[inline]
pub fn requantize(acc: i32, multiplier: i32, shift: i32, zero_point: i8) -> i8 {
    let high = (i64::from(acc) * i64::from(multiplier) + (1 << 30)) >> 31;
    let rounded = if shift == 0 { high } else { (high + (1 << (shift - 1))) >> shift };
    (rounded + i64::from(zero_point)).clamp(-128, 127) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_is_within_half_a_unit_of_the_last_place() {
        for scale in [0.0, 1e-12, 3e-5, 0.1, 0.25, 0.499_999_999_99, 0.5, 0.75, 0.999_999_999_9] {
            let f = Fixed::from_scale(scale).unwrap();
            let back = f64::from(f.multiplier) / f64::from(1u32 << 31) / (1u64 << f.shift) as f64;
            assert!((back - scale).abs() <= scale * 2f64.powi(-30) + 2f64.powi(-33), "{scale} {f:?} {back}");
        }
    }

    #[test]
    fn scales_outside_zero_to_one_are_refused() {
        for scale in [-0.1, 1.0, 2.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Fixed::from_scale(scale), None);
        }
    }

    #[test]
    fn halves_round_up_and_results_clamp() {
        let half = Fixed::from_scale(0.5).unwrap();
        let r = |acc, zp| requantize(acc, half.multiplier, half.shift, zp);
        assert_eq!((r(1, 0), r(-1, 0), r(3, 0), r(-3, 0)), (1, 0, 2, -1));
        assert_eq!((r(1000, -128), r(-1000, 127), r((1 << 30) - 1, 0)), (127, -128, 127));
    }

    #[test]
    fn equals_the_real_product_within_its_bound() {
        for (i, scale) in [0.9, 0.3, 0.011, 0.000_37].into_iter().enumerate() {
            let f = Fixed::from_scale(scale).unwrap();
            for acc in (-30_000..30_000).step_by(37 + i) {
                let real = f64::from(acc) * scale;
                if real.abs() < 127.0 {
                    let got = f64::from(requantize(acc, f.multiplier, f.shift, 0));
                    assert!((got - real).abs() <= 0.5 + 1.0 / (1u64 << f.shift) as f64 + 1e-6);
                }
            }
        }
    }
}
