//! The storage types of logits and gradients, and loops over slices of them in vectors.
//!
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use half::{bf16, f16};

use super::lanes::{LANES, Lanes};
use super::vector::Vector;

/// A storage type. Closures instead of this trait would be compiled without the instruction set of their caller.
pub(super) trait Element: Copy {
    fn load<V: Vector>(from: &[Self; LANES]) -> V;

    /// Lanes from a slice of fewer. Its first value fills the others.
    fn load_part<V: Vector>(from: &[Self]) -> V;

    /// Rounds finite numbers to nearest, ties to even.
    fn store<V: Vector>(lanes: V, to: &mut [Self; LANES]);

    /// The first lanes to a slice of fewer.
    fn store_part<V: Vector>(lanes: V, to: &mut [Self]);

    /// Rounds a finite number as `store` does.
    fn rounded(x: f32) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn load<V: Vector>(from: &Lanes) -> V {
        V::load(from)
    }

    #[inline(always)]
    fn load_part<V: Vector>(from: &[Self]) -> V {
        V::load_part(from, from[0])
    }

    #[inline(always)]
    fn store<V: Vector>(lanes: V, to: &mut Lanes) {
        lanes.store(to);
    }

    #[inline(always)]
    fn store_part<V: Vector>(lanes: V, to: &mut [Self]) {
        lanes.store_part(to);
    }

    #[inline(always)]
    fn rounded(x: f32) -> Self {
        x
    }
}

impl Element for f16 {
    #[inline(always)]
    fn load<V: Vector>(from: &[Self; LANES]) -> V {
        V::from_f16(from)
    }

    #[inline(always)]
    fn load_part<V: Vector>(from: &[Self]) -> V {
        let halves = V::load_halves(bytemuck::cast_slice(from));
        V::from_f16(&bytemuck::cast(halves))
    }

    #[inline(always)]
    fn store<V: Vector>(lanes: V, to: &mut [Self; LANES]) {
        lanes.store_f16(to);
    }

    #[inline(always)]
    fn store_part<V: Vector>(lanes: V, to: &mut [Self]) {
        let mut all = [Self::ZERO; LANES];
        lanes.store_f16(&mut all);
        V::store_halves(&bytemuck::cast(all), bytemuck::cast_slice_mut(to));
    }

    #[inline(always)]
    fn rounded(x: f32) -> Self {
        Self::from_f32(x)
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn load<V: Vector>(from: &[Self; LANES]) -> V {
        V::from_bf16(from)
    }

    #[inline(always)]
    fn load_part<V: Vector>(from: &[Self]) -> V {
        let halves = V::load_halves(bytemuck::cast_slice(from));
        V::from_bf16(&bytemuck::cast(halves))
    }

    #[inline(always)]
    fn store<V: Vector>(lanes: V, to: &mut [Self; LANES]) {
        lanes.store_bf16(to);
    }

    #[inline(always)]
    fn store_part<V: Vector>(lanes: V, to: &mut [Self]) {
        let mut all = [Self::ZERO; LANES];
        lanes.store_bf16(&mut all);
        V::store_halves(&bytemuck::cast(all), bytemuck::cast_slice_mut(to));
    }

    #[inline(always)]
    fn rounded(x: f32) -> Self {
        Self::from_f32(x)
    }
}

/// Up to `LANES` numbers. The other lanes have the first of them.
#[inline(always)]
pub(super) fn load_up_to<V: Vector, T: Element>(from: &[T]) -> V {
    match from.first_chunk() {
        Some(lanes) => T::load(lanes),
        None => T::load_part(from),
    }
}

/// As many lanes as a slice of up to `LANES` numbers holds.
#[inline(always)]
pub(super) fn store_up_to<V: Vector, T: Element>(lanes: V, to: &mut [T]) {
    match to.first_chunk_mut() {
        Some(whole) => T::store(lanes, whole),
        None => T::store_part(lanes, to),
    }
}

/// Rounds the first values of a tile.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn narrow<V: Vector, T: Element>(from: &[f32], to: &mut [T]) {
    let from = from.as_chunks::<LANES>().0;
    let (whole, rest) = to.as_chunks_mut::<LANES>();
    for (to, from) in whole.iter_mut().zip(from) {
        T::store(V::load(from), to);
    }
    if !rest.is_empty() {
        T::store_part(V::load(&from[whole.len()]), rest);
    }
}

/// Fills a slice with a function of the lanes of slices of its length, or with `+=` adds it. A closure could be compiled without the
/// instruction set of its caller.
macro_rules! in_vectors {
    ($V:ident, $out:ident = |$($x:ident),+| $value:expr) => {
        for (i, out) in $out.chunks_mut($crate::cpu::lanes::LANES).enumerate() {
            let at = $crate::cpu::lanes::LANES * i;
            $( let $x: $V = $crate::cpu::element::load_up_to(&$x[at..at + out.len()]); )+
            $crate::cpu::element::store_up_to($value, out);
        }
    };
    ($V:ident, $out:ident += |$($x:ident),+| $value:expr) => {
        for (i, out) in $out.chunks_mut($crate::cpu::lanes::LANES).enumerate() {
            let at = $crate::cpu::lanes::LANES * i;
            $( let $x: $V = $crate::cpu::element::load_up_to(&$x[at..at + out.len()]); )+
            let there: $V = $crate::cpu::element::load_up_to(out);
            $crate::cpu::element::store_up_to(there.add($value), out);
        }
    };
}

pub(super) use in_vectors;
