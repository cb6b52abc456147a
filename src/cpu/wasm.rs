//! Sixteen f32 in four registers of WebAssembly with `simd128`.
#![cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "the SAFETY comment below covers all blocks"
)]

use core::arch::wasm32::*;

use bytemuck::Pod;
use half::{bf16, f16};

use super::lanes::{EXP2_COEFFICIENTS, EXP2_FIRST, LANES, Lanes, ROUND};
use super::vector::{MAGNITUDE, Vector};

/// Four registers. The module that has this type is compiled for the instruction set as a whole, and for size: no loop of four or sixteen
/// steps stands here, because the compiler would keep it.
#[derive(Clone, Copy)]
pub(super) struct Simd128([v128; 4]);

// SAFETY of all blocks below: loads and stores access a whole array behind a reference, at any alignment.

impl Simd128 {
    #[inline(always)]
    fn map(self, f: impl Fn(v128) -> v128) -> Self {
        let [a, b, c, d] = self.0;
        Self([f(a), f(b), f(c), f(d)])
    }

    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(v128, v128) -> v128) -> Self {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.0, b.0);
        Self([f(a0, b0), f(a1, b1), f(a2, b2), f(a3, b3)])
    }

    /// The pairs of results of every register, in two vectors.
    #[inline(always)]
    fn both(self, b: Self, f: [fn(v128, v128) -> v128; 2]) -> [Self; 2] {
        [self.zip(b, f[0]), self.zip(b, f[1])]
    }
}

/// The first four numbers, or those that are there and `fill` in the other lanes. The library's copy of a length that is not constant is
/// a call.
#[inline(never)]
fn load_few(from: &[f32], fill: f32) -> v128 {
    match *from {
        [] => f32x4_splat(fill),
        [a] => f32x4(a, fill, fill, fill),
        [a, b] => f32x4(a, b, fill, fill),
        [a, b, c] => f32x4(a, b, c, fill),
        [a, b, c, d, ..] => f32x4(a, b, c, d),
    }
}

/// The first lanes to a slice that may have fewer.
#[inline(never)]
fn store_few(four: v128, to: &mut [f32]) {
    let lanes = [
        f32x4_extract_lane::<0>(four),
        f32x4_extract_lane::<1>(four),
        f32x4_extract_lane::<2>(four),
        f32x4_extract_lane::<3>(four),
    ];
    match to {
        [] => {}
        [a] => *a = lanes[0],
        [a, b] => [*a, *b] = [lanes[0], lanes[1]],
        [a, b, c] => [*a, *b, *c] = [lanes[0], lanes[1], lanes[2]],
        [a, b, c, d, ..] => [*a, *b, *c, *d] = lanes,
    }
}

/// Sixteen 16-bit numbers, each in the low half of a lane.
#[inline(always)]
fn load_halves<T: Pod>(from: &[T; LANES]) -> Simd128 {
    const { assert!(size_of::<T>() == 2) }
    let at: *const v128 = from.as_ptr().cast();
    let [low, high] = unsafe { [v128_load(at), v128_load(at.add(1))] };
    Simd128([
        u32x4_extend_low_u16x8(low),
        u32x4_extend_high_u16x8(low),
        u32x4_extend_low_u16x8(high),
        u32x4_extend_high_u16x8(high),
    ])
}

/// Stores the low halves of lanes whose high halves are 0.
#[inline(always)]
fn store_halves<T: Pod>(from: Simd128, to: &mut [T; LANES]) {
    const { assert!(size_of::<T>() == 2) }
    let at: *mut v128 = to.as_mut_ptr().cast();
    let [a, b, c, d] = from.0;
    unsafe {
        v128_store(at, u16x8_narrow_i32x4(a, b));
        v128_store(at.add(1), u16x8_narrow_i32x4(c, d));
    }
}

/// Four f16, each in the low half of a lane, as f32. Both types have subnormals, so that the product is exact.
#[inline(always)]
fn widen(half: v128) -> v128 {
    const INFINITY: u32 = 0x7c00;
    let magnitude = v128_and(half, u32x4_splat(0x7fff));
    let sign = u32x4_shl(v128_and(half, u32x4_splat(0x8000)), 16);
    // The exponents differ by 112.
    let value = f32x4_mul(u32x4_shl(magnitude, 13), u32x4_splat((127 + 112) << 23));
    let not_finite = u32x4_ge(magnitude, u32x4_splat(INFINITY));
    let exponent = v128_and(not_finite, u32x4_splat(f32::INFINITY.to_bits()));
    v128_or(v128_or(value, exponent), sign)
}

/// Four f32 as f16 in the low halves of lanes, rounded to nearest, ties to even. NaN becomes the NaN with the first bit of the mantissa.
#[inline(always)]
fn narrow(value: v128) -> v128 {
    const INFINITY: u32 = 0x7c00;
    const NAN: u32 = 0x7e00;
    let magnitude = v128_and(value, u32x4_splat(MAGNITUDE));
    let sign = u32x4_shr(v128_andnot(value, u32x4_splat(MAGNITUDE)), 16);
    // 13 bits are dropped, the exponents differ by 112. A carry out of the mantissa is right, up to infinity.
    let odd = v128_and(u32x4_shr(magnitude, 13), u32x4_splat(1));
    let up = u32x4_sub(u32x4_splat(0xfff), u32x4_splat(112 << 23));
    let normal = u32x4_shr(u32x4_add(u32x4_add(magnitude, up), odd), 13);
    // In a sum with 1/2 the last bit of the mantissa has the value of the smallest f16.
    let half = f32x4_splat(0.5);
    let small = u32x4_sub(f32x4_add(magnitude, half), half);
    let is_small = u32x4_lt(magnitude, u32x4_splat((127 - 14) << 23));
    let finite = v128_bitselect(small, normal, is_small);
    let is_nan = u32x4_gt(magnitude, u32x4_splat(f32::INFINITY.to_bits()));
    let large = v128_bitselect(u32x4_splat(NAN), u32x4_splat(INFINITY), is_nan);
    let is_large = u32x4_ge(magnitude, u32x4_splat((127 + 16) << 23));
    v128_or(v128_bitselect(large, finite, is_large), sign)
}

/// 2^x for x <= 0, as [`Vector::exp2`]. A function of its own: it is large, and stands in many loops.
#[inline(never)]
fn exp2(x: v128) -> v128 {
    let round = f32x4_splat(ROUND);
    let x = f32x4_pmax(f32x4_splat(-127.0), x);
    let rounded = f32x4_add(x, round);
    let f = f32x4_sub(x, f32x4_sub(rounded, round));
    let [a, b, c, d, e, one] = EXP2_COEFFICIENTS;
    let mut p = f32x4_splat(EXP2_FIRST);
    p = f32x4_add(f32x4_mul(p, f), f32x4_splat(a));
    p = f32x4_add(f32x4_mul(p, f), f32x4_splat(b));
    p = f32x4_add(f32x4_mul(p, f), f32x4_splat(c));
    p = f32x4_add(f32x4_mul(p, f), f32x4_splat(d));
    p = f32x4_add(f32x4_mul(p, f), f32x4_splat(e));
    p = f32x4_add(f32x4_mul(p, f), f32x4_splat(one));
    f32x4_mul(p, u32x4_shl(rounded, 23))
}

/// The sum of the f64 of two registers' lanes.
#[inline(always)]
fn wide_sum(a: v128, b: v128) -> [v128; 2] {
    let high = |x| f64x2_promote_low_f32x4(i64x2_shuffle::<1, 1>(x, x));
    [
        f64x2_add(f64x2_promote_low_f32x4(a), f64x2_promote_low_f32x4(b)),
        f64x2_add(high(a), high(b)),
    ]
}

impl Vector for Simd128 {
    const FMA: bool = false;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([f32x4_splat(x); 4])
    }
    #[inline(always)]
    fn load(from: &Lanes) -> Self {
        let at: *const v128 = from.as_ptr().cast();
        Self(unsafe {
            [
                v128_load(at),
                v128_load(at.add(1)),
                v128_load(at.add(2)),
                v128_load(at.add(3)),
            ]
        })
    }
    #[inline(never)]
    fn load_part(from: &[f32], fill: f32) -> Self {
        let from_at = |at| load_few(from.get(at..).unwrap_or_default(), fill);
        Self([from_at(0), from_at(4), from_at(8), from_at(12)])
    }
    #[inline(always)]
    fn filled_from(self, first: usize, fill: f32) -> Self {
        let (first, fill) = (u32x4_splat(first as u32), f32x4_splat(fill));
        let select = |own: v128, at: v128| v128_bitselect(own, fill, u32x4_lt(at, first));
        Self([
            select(self.0[0], u32x4(0, 1, 2, 3)),
            select(self.0[1], u32x4(4, 5, 6, 7)),
            select(self.0[2], u32x4(8, 9, 10, 11)),
            select(self.0[3], u32x4(12, 13, 14, 15)),
        ])
    }
    #[inline(always)]
    fn store(self, to: &mut Lanes) {
        let at: *mut v128 = to.as_mut_ptr().cast();
        let [a, b, c, d] = self.0;
        unsafe {
            v128_store(at, a);
            v128_store(at.add(1), b);
            v128_store(at.add(2), c);
            v128_store(at.add(3), d);
        }
    }
    #[inline(never)]
    fn store_part(self, to: &mut [f32]) {
        let [a, b, c, d] = self.0;
        store_few(a, to);
        store_few(b, to.get_mut(4..).unwrap_or_default());
        store_few(c, to.get_mut(8..).unwrap_or_default());
        store_few(d, to.get_mut(12..).unwrap_or_default());
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| f32x4_add(a, b))
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| f32x4_sub(a, b))
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| f32x4_mul(a, b))
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.mul(b).add(c)
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // `b` where `self` is NaN.
        self.zip(b, |a, b| f32x4_pmax(b, a))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.map(|a| f32x4_sqrt(a))
    }
    #[inline(always)]
    fn from_f16(from: &[f16; LANES]) -> Self {
        load_halves(from).map(widen)
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [f16; LANES]) {
        store_halves(self.map(narrow), to);
    }
    #[inline(always)]
    fn from_bf16(from: &[bf16; LANES]) -> Self {
        load_halves(from).map(|half| u32x4_shl(half, 16))
    }
    #[inline(always)]
    fn store_bf16(self, to: &mut [bf16; LANES]) {
        let (one, below_half) = (u32x4_splat(1), u32x4_splat(0x7fff));
        let rounded = self.map(|bits| {
            let odd = v128_and(u32x4_shr(bits, 16), one);
            u32x4_shr(u32x4_add(u32x4_add(bits, below_half), odd), 16)
        });
        store_halves(rounded, to);
    }
    #[inline(always)]
    fn max_magnitude(self, b: Self) -> Self {
        let magnitude = u32x4_splat(MAGNITUDE);
        self.zip(b, |a, b| u32x4_max(a, v128_and(b, magnitude)))
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        let [a, b, c, d] = self.0;
        let four = f32x4_pmax(f32x4_pmax(a, b), f32x4_pmax(c, d));
        let two = f32x4_pmax(four, i64x2_shuffle::<1, 1>(four, four));
        f32x4_extract_lane::<0>(f32x4_pmax(two, i32x4_shuffle::<1, 1, 1, 1>(two, two)))
    }
    #[inline(always)]
    fn largest_bits(self) -> u32 {
        let [a, b, c, d] = self.0;
        let four = u32x4_max(u32x4_max(a, b), u32x4_max(c, d));
        let two = u32x4_max(four, i64x2_shuffle::<1, 1>(four, four));
        u32x4_extract_lane::<0>(u32x4_max(two, i32x4_shuffle::<1, 1, 1, 1>(two, two)))
    }
    #[inline(always)]
    fn sum(self) -> f64 {
        let [a, b, c, d] = self.0;
        let ([a0, a1], [b0, b1]) = (wide_sum(a, c), wide_sum(b, d));
        let two = f64x2_add(f64x2_add(a0, b0), f64x2_add(a1, b1));
        f64x2_extract_lane::<0>(two) + f64x2_extract_lane::<1>(two)
    }
    #[inline(always)]
    fn interleave(self, b: Self) -> [Self; 2] {
        self.both(
            b,
            [i32x4_shuffle::<0, 4, 1, 5>, i32x4_shuffle::<2, 6, 3, 7>],
        )
    }
    #[inline(always)]
    fn interleave_pairs(self, b: Self) -> [Self; 2] {
        self.both(b, [i64x2_shuffle::<0, 2>, i64x2_shuffle::<1, 3>])
    }
    #[inline(always)]
    fn split_fours(self, b: Self) -> [Self; 2] {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.0, b.0);
        [Self([a0, a2, b0, b2]), Self([a1, a3, b1, b3])]
    }
    #[inline(always)]
    fn exp2(self) -> Self {
        self.map(exp2)
    }
    #[inline(always)]
    fn exponent(self) -> Self {
        self.map(|a| u32x4_shl(a, 23))
    }
}
