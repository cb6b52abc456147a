//! Sixteen f32 as vector registers, by explicit instructions. From loops over arrays, compilers left some of the many sums of
//! `observe` scalar.

use super::lanes::{EXP2_COEFFICIENTS, EXP2_FIRST, LANES, Lanes, ROUND};

/// Sixteen f32 of one instruction set.
///
/// Every method is `inline(always)`: it becomes part of a function that `isa.rs` compiles for that instruction set, and runs only there.
pub(super) trait Vector: Copy {
    /// True if `a * b + c` is one instruction.
    const FMA: bool;
    fn splat(x: f32) -> Self;
    fn load(from: &Lanes) -> Self;
    fn store(self, to: &mut Lanes);
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    /// `self * b + c`
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// The larger, for numbers.
    fn max(self, b: Self) -> Self;
    fn sqrt(self) -> Self;
    /// `2^n`, if the bits of `self` are `bias + (n + 127)`. Shifts the integer `n + 127` into the exponent.
    fn exponent(self, bias: u32) -> Self;

    /// 2^x for x <= 0: `scalar::exp2` in all lanes.
    #[inline(always)]
    fn exp2(self) -> Self {
        let round = Self::splat(ROUND);
        let x = self.max(Self::splat(-127.0));
        let rounded = x.add(round);
        let f = x.sub(rounded.sub(round));
        let mut p = Self::splat(EXP2_FIRST);
        for c in EXP2_COEFFICIENTS {
            p = p.mul_add(f, Self::splat(c));
        }
        p.mul(rounded.exponent(ROUND.to_bits().wrapping_sub(127)))
    }
}

/// Arrays and loops, for every processor.
#[derive(Clone, Copy)]
pub(super) struct Portable(Lanes);

impl Portable {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

impl Vector for Portable {
    const FMA: bool = cfg!(target_arch = "aarch64");
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    fn load(from: &Lanes) -> Self {
        Self(*from)
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
        let sum = |i: usize| match Self::FMA {
            true => self.0[i].mul_add(b.0[i], c.0[i]),
            false => self.0[i] * b.0[i] + c.0[i],
        };
        Self(std::array::from_fn(sum))
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
    fn exponent(self, bias: u32) -> Self {
        self.zip(self, |a, _| {
            f32::from_bits(a.to_bits().wrapping_sub(bias) << 23)
        })
    }
}

/// One register of AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512(std::arch::x86_64::__m512);

/// Two registers of AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2([std::arch::x86_64::__m256; 2]);

// SAFETY of all blocks below: `isa.rs` checks that the processor has these instruction sets before it enters a function with these
// types. Loads and stores access whole arrays behind references.
#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "the SAFETY comment above covers all blocks"
)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Avx2, Avx512, Lanes, Vector};

    impl Vector for Avx512 {
        const FMA: bool = true;
        #[inline(always)]
        fn splat(x: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(x) })
        }
        #[inline(always)]
        fn load(from: &Lanes) -> Self {
            Self(unsafe { _mm512_loadu_ps(from.as_ptr()) })
        }
        #[inline(always)]
        fn store(self, to: &mut Lanes) {
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn add(self, b: Self) -> Self {
            Self(unsafe { _mm512_add_ps(self.0, b.0) })
        }
        #[inline(always)]
        fn sub(self, b: Self) -> Self {
            Self(unsafe { _mm512_sub_ps(self.0, b.0) })
        }
        #[inline(always)]
        fn mul(self, b: Self) -> Self {
            Self(unsafe { _mm512_mul_ps(self.0, b.0) })
        }
        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }
        #[inline(always)]
        fn max(self, b: Self) -> Self {
            Self(unsafe { _mm512_max_ps(self.0, b.0) })
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            Self(unsafe { _mm512_sqrt_ps(self.0) })
        }
        #[inline(always)]
        fn exponent(self, bias: u32) -> Self {
            Self(unsafe {
                let n =
                    _mm512_sub_epi32(_mm512_castps_si512(self.0), _mm512_set1_epi32(bias as i32));
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n))
            })
        }
    }

    impl Avx2 {
        #[inline(always)]
        fn zip(self, b: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
            Self([f(self.0[0], b.0[0]), f(self.0[1], b.0[1])])
        }
    }

    impl Vector for Avx2 {
        const FMA: bool = true;
        #[inline(always)]
        fn splat(x: f32) -> Self {
            Self([unsafe { _mm256_set1_ps(x) }; 2])
        }
        #[inline(always)]
        fn load(from: &Lanes) -> Self {
            let (low, high) = from.split_at(8);
            Self(unsafe {
                [
                    _mm256_loadu_ps(low.as_ptr()),
                    _mm256_loadu_ps(high.as_ptr()),
                ]
            })
        }
        #[inline(always)]
        fn store(self, to: &mut Lanes) {
            let (low, high) = to.split_at_mut(8);
            unsafe {
                _mm256_storeu_ps(low.as_mut_ptr(), self.0[0]);
                _mm256_storeu_ps(high.as_mut_ptr(), self.0[1]);
            }
        }
        #[inline(always)]
        fn add(self, b: Self) -> Self {
            self.zip(b, |a, b| unsafe { _mm256_add_ps(a, b) })
        }
        #[inline(always)]
        fn sub(self, b: Self) -> Self {
            self.zip(b, |a, b| unsafe { _mm256_sub_ps(a, b) })
        }
        #[inline(always)]
        fn mul(self, b: Self) -> Self {
            self.zip(b, |a, b| unsafe { _mm256_mul_ps(a, b) })
        }
        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            let fma = |i: usize| unsafe { _mm256_fmadd_ps(self.0[i], b.0[i], c.0[i]) };
            Self([fma(0), fma(1)])
        }
        #[inline(always)]
        fn max(self, b: Self) -> Self {
            self.zip(b, |a, b| unsafe { _mm256_max_ps(a, b) })
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            self.zip(self, |a, _| unsafe { _mm256_sqrt_ps(a) })
        }
        #[inline(always)]
        fn exponent(self, bias: u32) -> Self {
            self.zip(self, |a, _| unsafe {
                let n = _mm256_sub_epi32(_mm256_castps_si256(a), _mm256_set1_epi32(bias as i32));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
            })
        }
    }
}
