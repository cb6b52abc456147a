//! Powers of the alpha-beta divergence by square roots.

use super::vector::Vector;

/// The exponents `u`, `v` and `u + v` in halves, if each is a multiple of a half up to 2. Powers then come from square roots instead of an
/// exponential each. Where `p` or `q` underflows, its power is at most e^-43 of the largest: too small for a sum, but not for the quotient of
/// two sums that are both small.
pub(super) fn halves(u: f32, v: f32) -> Option<[u32; 3]> {
    let halves = [u, v, u + v].map(|x| 2.0 * x);
    let fits = halves
        .iter()
        .all(|x| x.fract() == 0.0 && (1.0..=4.0).contains(x));
    fits.then(|| halves.map(|x| x as u32))
}

/// `x^(n / 2)`
#[inline(always)]
pub(super) fn half_power<V: Vector>(x: V, n: u32) -> V {
    match n {
        1 => x.sqrt(),
        2 => x,
        3 => x.mul(x.sqrt()),
        _ => x.mul(x),
    }
}
