//! Sixteen f32 at a time, as arrays. The compiler turns the loops into vector instructions of the calling function's instruction set.

pub(super) const LANES: usize = 16;
pub(super) type Lanes = [f32; LANES];

/// 1.5 * 2^23 + 127. The low nine bits of a sum with it are the nearest integer, with the bias of an exponent.
pub(super) const ROUND: f32 = 12_583_039.0;

/// Coefficients of 2^f on [-1/2, 1/2], highest power first: those of a polynomial for (2^f - 1) / f, then the constant 1 of 2^f.
/// The fit minimises the relative error of 2^f (2e-9 before rounding).
pub(super) const EXP2_FIRST: f32 = 0.000_153_533_6;
pub(super) const EXP2_COEFFICIENTS: [f32; 6] = [
    0.001_339_887_5,
    0.009_618_437,
    0.055_503_324,
    0.240_226_48,
    std::f32::consts::LN_2,
    1.0,
];

/// The sum of all lanes, in f64 and in a fixed order.
#[inline(always)]
pub(super) fn sum(a: Lanes) -> f64 {
    let mut wide = [0.0f64; LANES];
    for i in 0..LANES {
        wide[i] = f64::from(a[i]);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            wide[i] += wide[i + width];
        }
        width /= 2;
    }
    wide[0]
}
