//! Sixteen f32 in four registers of NEON, which every processor of AArch64 has.
#![cfg(target_arch = "aarch64")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "the SAFETY comment below covers all blocks"
)]

use std::arch::aarch64::*;
use std::arch::asm;

use bytemuck::Pod;
use half::{bf16, f16};

use super::lanes::{LANES, Lanes};
use super::vector::{MAGNITUDE, Vector};

/// Four registers.
#[derive(Clone, Copy)]
pub(super) struct Neon([float32x4_t; 4]);

// SAFETY of all blocks below: the target has NEON. Loads and stores access a whole array behind a reference, at any alignment. The two
// instructions in `asm!` are NEON's and access registers alone.

impl Neon {
    #[inline(always)]
    fn map(self, f: impl Fn(float32x4_t) -> float32x4_t) -> Self {
        Self(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.0, b.0);
        Self([f(a0, b0), f(a1, b1), f(a2, b2), f(a3, b3)])
    }

    #[inline(always)]
    fn bits(self) -> [uint32x4_t; 4] {
        self.0.map(|a| unsafe { vreinterpretq_u32_f32(a) })
    }

    #[inline(always)]
    fn from_bits(bits: [uint32x4_t; 4]) -> Self {
        Self(bits.map(|a| unsafe { vreinterpretq_f32_u32(a) }))
    }
}

/// Sixteen 16-bit numbers in fours.
#[inline(always)]
fn load_halves<T: Pod>(from: &[T; LANES]) -> [uint16x4_t; 4] {
    const { assert!(size_of::<T>() == 2) }
    let at: *const u16 = from.as_ptr().cast();
    [0, 4, 8, 12].map(|i| unsafe { vld1_u16(at.add(i)) })
}

#[inline(always)]
fn store_halves<T: Pod>(from: [uint16x4_t; 4], to: &mut [T; LANES]) {
    const { assert!(size_of::<T>() == 2) }
    let at: *mut u16 = to.as_mut_ptr().cast();
    for (i, four) in from.into_iter().enumerate() {
        unsafe { vst1_u16(at.add(4 * i), four) }
    }
}

/// Four f16 as f32. The library's function is not stable in the oldest compiler that the crate supports.
#[inline(always)]
fn widen(half: uint16x4_t) -> float32x4_t {
    let wide;
    unsafe {
        asm!("fcvtl {wide:v}.4s, {half:v}.4h", wide = out(vreg) wide, half = in(vreg) half,
            options(pure, nomem, nostack, preserves_flags));
    }
    wide
}

/// Four f32 as f16, rounded as the processor rounds: to nearest, ties to even.
#[inline(always)]
fn narrow(value: float32x4_t) -> uint16x4_t {
    let half;
    unsafe {
        asm!("fcvtn {half:v}.4h, {value:v}.4s", half = out(vreg) half, value = in(vreg) value,
            options(pure, nomem, nostack, preserves_flags));
    }
    half
}

/// The two f64 sums of the halves of two registers.
#[inline(always)]
fn wide_sum(a: float32x4_t, b: float32x4_t) -> [float64x2_t; 2] {
    unsafe {
        let low = |x| vcvt_f64_f32(vget_low_f32(x));
        [
            vaddq_f64(low(a), low(b)),
            vaddq_f64(vcvt_high_f64_f32(a), vcvt_high_f64_f32(b)),
        ]
    }
}

impl Vector for Neon {
    const FMA: bool = true;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([unsafe { vdupq_n_f32(x) }; 4])
    }
    #[inline(always)]
    fn load(from: &Lanes) -> Self {
        let at = from.as_ptr();
        Self([0, 4, 8, 12].map(|i| unsafe { vld1q_f32(at.add(i)) }))
    }
    #[inline(always)]
    fn filled_from(self, first: usize, fill: f32) -> Self {
        const INDICES: [u32; 4] = [0, 1, 2, 3];
        let Self([a, b, c, d]) = self;
        unsafe {
            let (fill, indices) = (vdupq_n_f32(fill), vld1q_u32(INDICES.as_ptr()));
            let select = |own, from: u32| {
                let first = vdupq_n_u32((first as u32).saturating_sub(from));
                vbslq_f32(vcltq_u32(indices, first), own, fill)
            };
            Self([select(a, 0), select(b, 4), select(c, 8), select(d, 12)])
        }
    }
    #[inline(always)]
    fn store(self, to: &mut Lanes) {
        let at = to.as_mut_ptr();
        for (i, four) in self.0.into_iter().enumerate() {
            unsafe { vst1q_f32(at.add(4 * i), four) }
        }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3]) = (self.0, b.0, c.0);
        unsafe {
            Self([
                vfmaq_f32(c0, a0, b0),
                vfmaq_f32(c1, a1, b1),
                vfmaq_f32(c2, a2, b2),
                vfmaq_f32(c3, a3, b3),
            ])
        }
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // The number where one of the two is NaN.
        self.zip(b, |a, b| unsafe { vmaxnmq_f32(a, b) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.map(|a| unsafe { vsqrtq_f32(a) })
    }
    #[inline(always)]
    fn from_f16(from: &[f16; LANES]) -> Self {
        Self(load_halves(from).map(widen))
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [f16; LANES]) {
        store_halves(self.0.map(narrow), to);
    }
    #[inline(always)]
    fn from_bf16(from: &[bf16; LANES]) -> Self {
        Self::from_bits(load_halves(from).map(|half| unsafe { vshll_n_u16::<16>(half) }))
    }
    #[inline(always)]
    fn store_bf16(self, to: &mut [bf16; LANES]) {
        let rounded = self.bits().map(|bits| unsafe {
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            vaddhn_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)))
        });
        store_halves(rounded, to);
    }
    #[inline(always)]
    fn max_magnitude(self, b: Self) -> Self {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.bits(), b.bits());
        let larger = |a, b| unsafe { vmaxq_u32(a, vandq_u32(b, vdupq_n_u32(MAGNITUDE))) };
        Self::from_bits([
            larger(a0, b0),
            larger(a1, b1),
            larger(a2, b2),
            larger(a3, b3),
        ])
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        let [a, b, c, d] = self.0;
        unsafe { vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(a, b), vmaxnmq_f32(c, d))) }
    }
    #[inline(always)]
    fn largest_bits(self) -> u32 {
        let [a, b, c, d] = self.bits();
        unsafe { vmaxvq_u32(vmaxq_u32(vmaxq_u32(a, b), vmaxq_u32(c, d))) }
    }
    #[inline(always)]
    fn sum(self) -> f64 {
        let [a, b, c, d] = self.0;
        let ([a0, a1], [b0, b1]) = (wide_sum(a, c), wide_sum(b, d));
        unsafe { vaddvq_f64(vaddq_f64(vaddq_f64(a0, b0), vaddq_f64(a1, b1))) }
    }
    #[inline(always)]
    fn interleave(self, b: Self) -> [Self; 2] {
        [
            self.zip(b, |a, b| unsafe { vzip1q_f32(a, b) }),
            self.zip(b, |a, b| unsafe { vzip2q_f32(a, b) }),
        ]
    }
    #[inline(always)]
    fn interleave_pairs(self, b: Self) -> [Self; 2] {
        let pairs = |x| unsafe { vreinterpretq_f64_f32(x) };
        let fours = |x| unsafe { vreinterpretq_f32_f64(x) };
        unsafe {
            [
                self.zip(b, |a, b| fours(vzip1q_f64(pairs(a), pairs(b)))),
                self.zip(b, |a, b| fours(vzip2q_f64(pairs(a), pairs(b)))),
            ]
        }
    }
    #[inline(always)]
    fn split_fours(self, b: Self) -> [Self; 2] {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.0, b.0);
        [Self([a0, a2, b0, b2]), Self([a1, a3, b1, b3])]
    }
    #[inline(always)]
    fn exponent(self) -> Self {
        Self::from_bits(self.bits().map(|a| unsafe { vshlq_n_u32::<23>(a) }))
    }
}
