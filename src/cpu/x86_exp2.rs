//! `2^x` for `x <= 0` in the registers of x86-64: `2^(n / N) 2^f` with a table of N powers that one instruction permutes, and a polynomial of
//! lower degree than that of [`Vector::exp2`](super::vector::Vector::exp2). Results below 2^-126 are 0, as there.
#![cfg(target_arch = "x86_64")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "the SAFETY comment below covers all blocks"
)]

use std::arch::x86_64::*;
use std::f32::consts::LN_2;

/// The bits of `2^(i / N)` less `i` in the upper bits of the mantissa: a shift brings exponent and `i` of the rounded logarithm to their
/// places at once, and so adds `i` there.
const fn powers<const N: usize>(bits: [u32; N]) -> [u32; N] {
    let mut out = bits;
    let mut i = 0;
    while i < N {
        out[i] = bits[i].wrapping_sub((i as u32) << (23 - N.ilog2()));
        i += 1;
    }
    out
}

/// 1.5 * 2^23. The low bits of a sum with it are the nearest integer.
const ROUND: f32 = 12_582_912.0;

/// Coefficients of (2^f - 1) / f, highest power first, on [-1/32, 1/32] (relative error of 2^f 2e-9) and on [-1/16, 1/16] (3e-8).
const SIXTEENTH_COEFFICIENTS: [f32; 3] = [0.055_502_135, 0.240_234_29, LN_2];
const EIGHTH_COEFFICIENTS: [f32; 3] = [0.055_496_223, 0.240_257_64, 0.693_147_24];

/// `2^(i / 16)`, rounded to f32.
const SIXTEENTHS: [u32; 16] = powers([
    0x3f80_0000,
    0x3f85_aac3,
    0x3f8b_95c2,
    0x3f91_c3d3,
    0x3f98_37f0,
    0x3f9e_f532,
    0x3fa5_fed7,
    0x3fad_583f,
    0x3fb5_04f3,
    0x3fbd_08a4,
    0x3fc5_672a,
    0x3fce_248c,
    0x3fd7_44fd,
    0x3fe0_ccdf,
    0x3fea_c0c7,
    0x3ff5_257d,
]);
/// `2^(i / 8)`, rounded to f32.
const EIGHTHS: [u32; 8] = powers([
    0x3f80_0000,
    0x3f8b_95c2,
    0x3f98_37f0,
    0x3fa5_fed7,
    0x3fb5_04f3,
    0x3fc5_672a,
    0x3fd7_44fd,
    0x3fea_c0c7,
]);

// SAFETY of all blocks below: `isa.rs` checks that the processor has these instruction sets before it enters a function that calls these.
// Loads read whole constants.

/// `2^x` of sixteen numbers.
#[inline(always)]
pub(super) fn exp2_of_sixteen(x: __m512) -> __m512 {
    unsafe {
        let round = _mm512_set1_ps(ROUND / 16.0);
        let rounded = _mm512_add_ps(x, round);
        let f = _mm512_sub_ps(x, _mm512_sub_ps(rounded, round));
        let bits = _mm512_castps_si512(rounded);
        let table = _mm512_loadu_si512(SIXTEENTHS.as_ptr().cast());
        let power = _mm512_castsi512_ps(_mm512_add_epi32(
            _mm512_permutexvar_epi32(bits, table),
            _mm512_slli_epi32::<19>(bits),
        ));
        let [c0, c1, c2] = SIXTEENTH_COEFFICIENTS;
        let p = _mm512_fmadd_ps(_mm512_set1_ps(c0), f, _mm512_set1_ps(c1));
        let p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c2));
        let normal = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_set1_ps(-126.0));
        _mm512_maskz_fmadd_ps(normal, _mm512_mul_ps(power, f), p, power)
    }
}

/// `2^x` of eight numbers.
#[inline(always)]
pub(super) fn exp2_of_eight(x: __m256) -> __m256 {
    unsafe {
        let round = _mm256_set1_ps(ROUND / 8.0);
        let rounded = _mm256_add_ps(x, round);
        let f = _mm256_sub_ps(x, _mm256_sub_ps(rounded, round));
        let bits = _mm256_castps_si256(rounded);
        let table = _mm256_loadu_si256(EIGHTHS.as_ptr().cast());
        let power = _mm256_castsi256_ps(_mm256_add_epi32(
            _mm256_permutevar8x32_epi32(table, bits),
            _mm256_slli_epi32::<20>(bits),
        ));
        let [c0, c1, c2] = EIGHTH_COEFFICIENTS;
        let p = _mm256_fmadd_ps(_mm256_set1_ps(c0), f, _mm256_set1_ps(c1));
        let p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(c2));
        let normal = _mm256_cmp_ps::<_CMP_GE_OQ>(x, _mm256_set1_ps(-126.0));
        _mm256_and_ps(normal, _mm256_fmadd_ps(_mm256_mul_ps(power, f), p, power))
    }
}
