//! Terms of the mixture `m = a q + b p` of two probabilities. The compiler turns loops over them into vector instructions.

use super::scalar::mul_add;
use super::vector::Vector;

/// `m / p` as `1 + v` and `v`, each with its full precision. The numbers have no meaning for a `p` below the smallest normal number.
#[inline(always)]
fn ratio(p: f32, q: f32, a: f32, b: f32) -> (f32, f32) {
    let inverse = 1.0 / p;
    (a * q * inverse + b, a * ((q - p) * inverse))
}

/// Coefficients of a polynomial for `(w - ln(1 + w)) / w^2` with `1 + w` between the roots of 1/2 and 2, highest power first. The fit
/// minimises the relative error (7e-8).
const FIRST: f32 = 0.077_780_35;
const COEFFICIENTS: [f32; 8] = [
    -0.127_773_33,
    0.131_140_38,
    -0.141_961_46,
    0.166_270_94,
    -0.200_016_36,
    0.250_007_78,
    -0.333_333_25,
    0.499_999_97,
];

/// `ln(1 + v) = k ln 2 + w - rest`, with `1 + w` between the roots of 1/2 and 2, and with the same `v` if `k` is 0.
struct Logarithm {
    k_ln2: f32,
    w: f32,
    rest: f32,
}

impl Logarithm {
    #[inline(always)]
    fn of<V: Vector>(one_plus_v: f32, v: f32) -> Self {
        const SQRT_HALF: u32 = 0x3f35_04f3;
        let bits = one_plus_v.to_bits().wrapping_sub(SQRT_HALF);
        let k = (bits as i32) >> 23;
        let mantissa = f32::from_bits((bits & 0x007f_ffff).wrapping_add(SQRT_HALF));
        let w = if k == 0 { v } else { mantissa - 1.0 };
        // Without a loop, which compilers keep for size.
        let [c0, c1, c2, c3, c4, c5, c6, c7] = COEFFICIENTS;
        let series = mul_add::<V>(mul_add::<V>(FIRST, w, c0), w, c1);
        let series = mul_add::<V>(mul_add::<V>(series, w, c2), w, c3);
        let series = mul_add::<V>(mul_add::<V>(series, w, c4), w, c5);
        let series = mul_add::<V>(mul_add::<V>(series, w, c6), w, c7);
        Self {
            k_ln2: k as f32 * std::f32::consts::LN_2,
            w,
            rest: w * w * series,
        }
    }
}

/// A class's term of `KL(p, m)`: `p (v - ln(1 + v))` with `v = (m - p) / p`, which is at least 0. The terms `p v` of a row add up to 0.
/// The sum of `p ln(p / m)` would lose small divergences to rounding.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn divergence<V: Vector>(p: f32, q: f32, a: f32, b: f32) -> f32 {
    let (one_plus_v, v) = ratio(p, q, a, b);
    let ln = Logarithm::of::<V>(one_plus_v, v);
    let excess = (v - ln.w - ln.k_ln2) + ln.rest;
    if p >= f32::MIN_POSITIVE {
        p * excess
    } else {
        a * q
    }
}

/// `p ln(p / m)`
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn log_ratio<V: Vector>(p: f32, q: f32, a: f32, b: f32) -> f32 {
    let (one_plus_v, v) = ratio(p, q, a, b);
    let ln = Logarithm::of::<V>(one_plus_v, v);
    let log = ln.k_ln2 + (ln.w - ln.rest);
    if p >= f32::MIN_POSITIVE {
        -p * log
    } else {
        0.0
    }
}

/// `p q / m`
#[inline(always)]
pub(super) fn product(p: f32, q: f32, a: f32, b: f32) -> f32 {
    let m = a * q + b * p;
    if m >= f32::MIN_POSITIVE {
        p * (q / m)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::Baseline;

    /// Normal probabilities, with ratios from 1e-30 to 1e30, close to 1 too.
    fn pairs() -> impl Iterator<Item = (f32, f32)> {
        let ratios = [
            1e-30, 1e-6, 0.01, 0.3, 0.69, 0.708, 0.9, 0.999, 0.999_999, 1.0, 1.000_001, 1.04, 1.41,
            1.42, 2.5, 300.0, 1e8, 1e30f32,
        ];
        let p = (0..300).map(|i| 10f32.powf(-0.1 * i as f32));
        p.flat_map(move |p| ratios.map(|r| (p, p * r)))
            .filter(|(_, q)| (f32::MIN_POSITIVE..=1.0).contains(q))
    }

    fn shares() -> [(f32, f32); 6] {
        [0.5, 0.1, 0.9, 1e-6, 0.999, 1e-30f32].map(|a| (a, 1.0 - a))
    }

    #[test]
    fn terms_are_close_to_f64() {
        for (a, b) in shares().into_iter().chain(shares().map(|(a, b)| (b, a))) {
            for (p, q) in pairs() {
                let [x, y, c, d] = [p, q, a, b].map(f64::from);
                // As given, a and b may not add up to 1.
                let (ratio, v) = (d + c * y / x, c * (y - x) / x);
                let near = v > 0.5f64.sqrt() - 1.0 && v < 2f64.sqrt() - 1.0;
                let log = if near { v.ln_1p() } else { ratio.ln() };
                let want = if v.abs() < 1e-3 {
                    x * v * v * (0.5 - v / 3.0 + v * v / 4.0)
                } else {
                    x * (v - log)
                };
                let got = f64::from(divergence::<Baseline>(p, q, a, b));
                assert!(got >= 0.0);
                let bound = 4e-6 * want + 1e-38;
                assert!(
                    (got - want).abs() < bound,
                    "KL({p}, {q}; {a}): {got}, want {want}"
                );
                let got = f64::from(log_ratio::<Baseline>(p, q, a, b));
                let want = -x * log;
                let bound = 1e-6 * want.abs() + 1e-38;
                assert!(
                    (got - want).abs() < bound,
                    "log({p}, {q}; {a}): {got}, want {want}"
                );
                let got = f64::from(product(p, q, a, b));
                let want = x * y / (c * y + d * x);
                assert!(
                    (got - want).abs() < 1e-6 * want + 1e-38,
                    "pq({p}, {q}; {a})"
                );
            }
        }
    }

    #[test]
    fn a_probability_may_be_0() {
        let (a, b) = (0.25, 0.75);
        assert_eq!(divergence::<Baseline>(0.0, 0.5, a, b), 0.125);
        assert_eq!(divergence::<Baseline>(0.0, 0.0, a, b), 0.0);
        assert_eq!(log_ratio::<Baseline>(0.0, 0.5, a, b), 0.0);
        assert_eq!(product(0.0, 0.5, a, b), 0.0);
        assert_eq!(product(0.0, 0.0, a, b), 0.0);
        let want = 0.5 * (-0.75f64.ln() - 0.25);
        assert!((f64::from(divergence::<Baseline>(0.5, 0.0, a, b)) - want).abs() < 1e-7);
    }
}
