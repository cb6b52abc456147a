//! Sixteen f32 as arrays and loops, for every processor. The compiler turns the loops into vector instructions.
#![cfg(not(any(
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
)))]

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::lanes::{self, LANES, Lanes};
use super::vector::{MAGNITUDE, Vector};

/// Sixteen f32.
#[derive(Clone, Copy)]
pub(super) struct Portable(Lanes);

impl Portable {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut lanes = self.0;
        for (a, b) in lanes.iter_mut().zip(b.0) {
            *a = f(*a, b);
        }
        Self(lanes)
    }
}

impl Vector for Portable {
    const FMA: bool = false;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    fn load(from: &Lanes) -> Self {
        Self(*from)
    }
    #[inline(always)]
    fn filled_from(mut self, first: usize, fill: f32) -> Self {
        self.0[first..].fill(fill);
        self
    }
    #[inline(always)]
    fn store(self, to: &mut Lanes) {
        *to = self.0;
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        let mut lanes = self.0;
        for ((a, b), c) in lanes.iter_mut().zip(b.0).zip(c.0) {
            *a = *a * b + c;
        }
        Self(lanes)
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.zip(self, |a, _| a.sqrt())
    }
    #[inline(always)]
    fn from_f16(from: &[f16; LANES]) -> Self {
        let mut lanes = [0.0; LANES];
        from.convert_to_f32_slice(&mut lanes);
        Self(lanes)
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [f16; LANES]) {
        to.convert_from_f32_slice(&self.0);
    }
    #[inline(always)]
    fn max_magnitude(self, b: Self) -> Self {
        self.zip(b, |a, b| {
            let (a, b) = (a.to_bits(), b.to_bits() & MAGNITUDE);
            f32::from_bits(if b > a { b } else { a })
        })
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        self.0.into_iter().fold(f32::MIN, f32::max)
    }
    #[inline(always)]
    fn largest_bits(self) -> u32 {
        self.0.into_iter().map(f32::to_bits).fold(0, u32::max)
    }
    #[inline(always)]
    fn sum(self) -> f64 {
        lanes::sum(self.0)
    }
    #[inline(always)]
    fn interleave(self, b: Self) -> [Self; 2] {
        [0, 2].map(|from| {
            Self(std::array::from_fn(|i| {
                let at = i / 4 * 4 + from + i % 4 / 2;
                if i % 2 == 0 { self.0[at] } else { b.0[at] }
            }))
        })
    }
    #[inline(always)]
    fn interleave_pairs(self, b: Self) -> [Self; 2] {
        [0, 2].map(|from| {
            Self(std::array::from_fn(|i| {
                let at = i / 4 * 4 + from + i % 2;
                if i % 4 < 2 { self.0[at] } else { b.0[at] }
            }))
        })
    }
    #[inline(always)]
    fn split_fours(self, b: Self) -> [Self; 2] {
        [0, 1].map(|from| {
            Self(std::array::from_fn(|i| {
                let at = i / 4 % 2 * 8 + from * 4 + i % 4;
                if i < 8 { self.0[at] } else { b.0[at] }
            }))
        })
    }
    #[inline(always)]
    fn exponent(self) -> Self {
        self.zip(self, |a, _| f32::from_bits(a.to_bits() << 23))
    }
}
