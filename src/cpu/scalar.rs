//! Functions of one f32. The compiler turns loops over them into vector instructions. `V` states the instruction set.

use super::lanes::{EXP2_COEFFICIENTS, EXP2_FIRST, ROUND};
use super::vector::Vector;

/// `a * b + c`, fused if the instruction set has such an instruction (a call of the library's `fmaf` would be slow).
#[inline(always)]
pub(super) fn mul_add<V: Vector>(a: f32, b: f32, c: f32) -> f32 {
    if V::FMA { a.mul_add(b, c) } else { a * b + c }
}

/// 2^x for x <= 0, with an error of about one unit in the last place. Results below 2^-126 are 0, as is the result for `-inf`.
#[inline(always)]
pub(super) fn exp2<V: Vector>(x: f32) -> f32 {
    let x = if x > -127.0 { x } else { -127.0 };
    let rounded = x + ROUND;
    let f = x - (rounded - ROUND);
    let mut p = EXP2_FIRST;
    for c in EXP2_COEFFICIENTS {
        p = mul_add::<V>(p, f, c);
    }
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    p * f32::from_bits(n.wrapping_add(127) << 23)
}

/// log2(x) for normal x > 0. Near 1 the absolute error is below 2e-7.
#[inline(always)]
pub(super) fn log2<V: Vector>(x: f32) -> f32 {
    // Splits x into 2^k m with m in [sqrt(1/2), sqrt(2)), then log2 m = 2/ln 2 * atanh((m - 1) / (m + 1)).
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(SQRT_HALF);
    let k = (bits as i32) >> 23;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(SQRT_HALF));
    let z = (m - 1.0) / (m + 1.0);
    let zz = z * z;
    let scale = 2.0 * std::f32::consts::LOG2_E;
    let mut p = scale / 9.0;
    for c in [scale / 7.0, scale / 5.0, scale / 3.0, scale] {
        p = mul_add::<V>(p, zz, c);
    }
    mul_add::<V>(p, z, k as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::vector::Portable;

    #[test]
    fn exp2_is_within_two_units_of_f64() {
        let mut worst = 0.0f64;
        for i in 0..400_000 {
            let x = -(i as f32) * 126.0 / 400_000.0;
            let exact = f64::from(x).exp2();
            worst = worst.max((f64::from(exp2::<Portable>(x)) - exact).abs() / exact);
        }
        assert!(worst < 2.4e-7, "{worst}");
        assert_eq!(exp2::<Portable>(0.0), 1.0);
        assert_eq!(exp2::<Portable>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp2::<Portable>(-1e30), 0.0);
    }

    #[test]
    fn log2_is_close_to_f64() {
        for i in 1..400_000 {
            let x = i as f32 / 200_000.0;
            let error = (f64::from(log2::<Portable>(x)) - f64::from(x).log2()).abs();
            let bound = 3e-7 * f64::from(x).log2().abs().max(0.5);
            assert!(error < bound, "log2({x}) is off by {error}");
        }
        assert_eq!(log2::<Portable>(1.0), 0.0);
    }
}
