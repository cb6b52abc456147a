//! Functions of one f32. The compiler turns loops over them into vector instructions. `V` states the instruction set.

use super::element::in_vectors;
use super::lanes::{EXP2_COEFFICIENTS, EXP2_FIRST, ROUND};
use super::tile::{TILE, Tile, chunks};
use super::vector::Vector;

/// `a * b + c`, fused if the instruction set has such an instruction (a call of the library's `fmaf` would be slow).
#[inline(always)]
pub(super) fn mul_add<V: Vector>(a: f32, b: f32, c: f32) -> f32 {
    if V::FMA { a.mul_add(b, c) } else { a * b + c }
}

/// 2^x for x <= 0, with an error of about one unit in the last place. Results below 2^-126 are 0, as is the result for `-inf`.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn exp2<V: Vector>(x: f32) -> f32 {
    let x = if x > -127.0 { x } else { -127.0 };
    let rounded = x + ROUND;
    let f = x - (rounded - ROUND);
    // Without a loop, which compilers keep for size.
    let [c0, c1, c2, c3, c4, c5] = EXP2_COEFFICIENTS;
    let p = mul_add::<V>(mul_add::<V>(EXP2_FIRST, f, c0), f, c1);
    let p = mul_add::<V>(mul_add::<V>(p, f, c2), f, c3);
    let p = mul_add::<V>(mul_add::<V>(p, f, c4), f, c5);
    p * f32::from_bits(rounded.to_bits() << 23)
}

/// `2^((x - max) k)` of every value.
#[inline(always)]
pub(super) fn exp_tile<V: Vector>(x: &[f32], max: f32, k: f32, out: &mut [f32]) {
    let (max, k) = (V::splat(max), V::splat(k));
    in_vectors!(V, out = |x| x.sub(max).mul(k).exp2());
}

/// Takes the exponentials of `tiles` tiles, which stay in the first-level cache. Returns a sum of some of them.
#[inline(always)]
pub(super) fn exponentials<V: Vector>(tiles: usize) -> f64 {
    let [mut x, mut out] = [const { Tile::ZERO }; 2];
    for (i, x) in x.iter_mut().enumerate() {
        *x = i as f32 / -64.0;
    }
    let mut total = 0.0;
    for tile in 0..tiles {
        let k = V::splat(1.0 / (tile + 1) as f32);
        for (out, x) in out.as_chunks_mut().0.iter_mut().zip(chunks(&x)) {
            V::load(x).mul(k).exp2().store(out);
        }
        total += f64::from(out[tile % TILE]);
    }
    total
}
