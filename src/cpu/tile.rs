//! Tiles of a row: widened to f32, padded to whole lanes, with their largest value and magnitude.

use std::ops::{Deref, DerefMut};

use super::element::Element;
use super::lanes::{LANES, Lanes};
use super::list::List;
use super::vector::Vector;
use crate::{Values, ValuesMut};

/// Elements handled at a time. Two tiles of f32 take 8 KiB.
pub(super) const TILE: usize = 1024;

/// A tile at the start of a cache line. A vector of AVX-512 that crosses a line takes twice as long to load or to store.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct Tile([f32; TILE]);

impl Tile {
    pub const ZERO: Self = Self([0.0; TILE]);
}

impl Deref for Tile {
    type Target = [f32];

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Tile {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// Memory for tiles, reused from row to row. Clearing it would cost as much as a short row.
pub(super) struct Scratch {
    pub student: Tile,
    pub teacher: Tile,
    pub first: Tile,
    pub second: Tile,
    pub third: Tile,
    pub kept: Kept,
    /// A row of student and teacher with their masks joined.
    pub joined: Vec<f32>,
    pub list: List,
    pub listed: Vec<(u32, f32)>,
}

/// The exponentials of the last observed row, for `apply`. Those of a tile are relative to the row's maxima up to that tile.
#[derive(Default)]
pub(super) struct Kept {
    student: Vec<Tile>,
    teacher: Vec<Tile>,
    /// Maxima of student and teacher.
    maxima: Vec<(f32, f32)>,
}

/// Most tiles of a row whose exponentials are kept: those of student and teacher take 1 MiB, which second-level caches of servers hold. Longer
/// rows take them twice, because they would share the last-level cache with the rows of other threads. (1024 x 32000, AVX-512: 13 ms kept and
/// 19 taken twice in bf16, 17 and 19 in f32.)
const MOST_KEPT: usize = 128;

/// Returns true if the exponentials of a row are kept, and not taken again for its gradient.
pub(super) fn is_kept(classes: usize) -> bool {
    classes.div_ceil(TILE) <= MOST_KEPT
}

impl Kept {
    /// Makes room for a row whose exponentials are `wanted`. Returns false if they are not kept.
    pub fn begin(&mut self, classes: usize, wanted: bool) -> bool {
        self.maxima.clear();
        if !wanted || !is_kept(classes) {
            return false;
        }
        let tiles = classes.div_ceil(TILE);
        if self.student.len() < tiles {
            self.student.resize(tiles, Tile::ZERO);
            self.teacher.resize(tiles, Tile::ZERO);
        }
        true
    }

    /// Room for the exponentials of the next tile, relative to these maxima: here with `keep`, else in `other`.
    #[inline(always)]
    pub fn room<'a>(
        &'a mut self,
        keep: bool,
        other: (&'a mut Tile, &'a mut Tile),
        maxima: (f32, f32),
    ) -> (&'a mut Tile, &'a mut Tile) {
        if !keep {
            return other;
        }
        let at = self.maxima.len();
        self.maxima.push(maxima);
        (&mut self.student[at], &mut self.teacher[at])
    }

    /// Tile `at` with its maxima, if the row was kept.
    #[inline(always)]
    pub fn tile(&self, at: usize) -> Option<(&Tile, &Tile, (f32, f32))> {
        let maxima = *self.maxima.get(at)?;
        Some((&self.student[at], &self.teacher[at], maxima))
    }
}

impl Scratch {
    pub fn boxed() -> Box<Self> {
        Box::new(Self {
            student: Tile::ZERO,
            teacher: Tile::ZERO,
            first: Tile::ZERO,
            second: Tile::ZERO,
            third: Tile::ZERO,
            kept: Kept::default(),
            joined: Vec::new(),
            list: List::default(),
            listed: Vec::new(),
        })
    }
}

/// Values `[start, start + n)` without a copy, if they are f32 and fill whole lanes.
#[inline(always)]
fn in_place<'a>(values: Values<'a>, start: usize, n: usize) -> Option<&'a [f32]> {
    match values {
        Values::F32(v) if n.is_multiple_of(LANES) => v.get(start..start + n),
        _ => None,
    }
}

/// Memory that is read or written after a tile. Its lines are asked for one at a time, between the arithmetic of the tile: all at once they
/// are more than a core can wait for.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    from: *const u8,
    /// Bytes of a vector.
    step: usize,
}

impl Ahead {
    /// The values of the next tile or row.
    #[inline(always)]
    pub fn behind(values: Values<'_>, end: usize) -> Self {
        let size = values.storage().bytes();
        Self {
            from: values.as_bytes().as_ptr().wrapping_add(end * size),
            step: LANES * size,
        }
    }

    /// A row of the gradient.
    pub fn gradient(row: &ValuesMut<'_>) -> Self {
        let step = LANES * row.storage().bytes();
        let from = match row {
            ValuesMut::F32(v) => v.as_ptr().cast(),
            ValuesMut::F16(v) => v.as_ptr().cast(),
            ValuesMut::Bf16(v) => v.as_ptr().cast(),
        };
        Self { from, step }
    }

    /// No memory but that of the row itself.
    #[inline(always)]
    pub fn nothing(row: Values<'_>) -> Self {
        let from = row.as_bytes().as_ptr();
        Self { from, step: 0 }
    }

    /// The memory of a row from element `start` on, the first of a tile.
    #[inline(always)]
    pub fn from(self, start: usize) -> Self {
        let from = self.from.wrapping_add(start / LANES * self.step);
        Self { from, ..self }
    }

    /// Asks for the line of vector `at`.
    #[inline(always)]
    pub fn ask<V: Vector>(self, at: usize) {
        V::prefetch(self.from.wrapping_add(at * self.step));
    }
}

/// The largest value of some lanes and the largest magnitude.
#[derive(Clone, Copy)]
pub(super) struct Extremes<V> {
    pub max: V,
    pub magnitude: V,
}

impl<V: Vector> Extremes<V> {
    #[inline(always)]
    fn empty() -> Self {
        Self {
            max: V::splat(f32::MIN),
            magnitude: V::splat(0.0),
        }
    }

    #[inline(always)]
    fn add(&mut self, x: V) {
        // NaN is no maximum.
        self.max = x.max(self.max);
        self.magnitude = self.magnitude.max_magnitude(x);
    }

    /// The largest value, and the bits of the largest magnitude.
    #[inline(always)]
    pub fn finish(self) -> (f32, u32) {
        (self.max.largest(), self.magnitude.largest_bits())
    }

    #[inline(always)]
    fn of(tile: &[f32]) -> (f32, u32) {
        let mut extremes = Self::empty();
        for x in chunks(tile) {
            extremes.add(V::load(x));
        }
        extremes.finish()
    }
}

/// The extremes of the values of a row.
#[inline(always)]
pub(super) fn extremes<V: Vector>(values: Values<'_>) -> Extremes<V> {
    match values {
        Values::F32(v) => extremes_of(v),
        Values::F16(v) => extremes_of(v),
        Values::Bf16(v) => extremes_of(v),
    }
}

#[inline(always)]
fn extremes_of<V: Vector, T: Element>(values: &[T]) -> Extremes<V> {
    let mut extremes = Extremes::empty();
    let (whole, rest) = values.as_chunks::<LANES>();
    for vector in whole {
        extremes.add(T::load(vector));
    }
    if !rest.is_empty() {
        extremes.add(T::load_part(rest));
    }
    extremes
}

/// The values of a row as f32 in whole lanes, without a copy if possible. `padding` fills the last lanes.
#[inline(always)]
pub(super) fn padded<'a, V: Vector>(
    values: Values<'a>,
    padding: f32,
    to: &'a mut [f32],
) -> &'a [f32] {
    let n = values.len();
    if let Some(values) = in_place(values, 0, n) {
        return values;
    }
    match values {
        Values::F32(v) => copy_padded::<V, _>(v, padding, to),
        Values::F16(v) => copy_padded::<V, _>(v, padding, to),
        Values::Bf16(v) => copy_padded::<V, _>(v, padding, to),
    }
    &to[..n.next_multiple_of(LANES)]
}

#[inline(always)]
fn copy_padded<V: Vector, T: Element>(from: &[T], padding: f32, to: &mut [f32]) {
    let (whole, rest) = from.as_chunks::<LANES>();
    let to = to.as_chunks_mut::<LANES>().0;
    for (vector, to) in whole.iter().zip(&mut *to) {
        T::load::<V>(vector).store(to);
    }
    if !rest.is_empty() {
        let last = T::load_part::<V>(rest).filled_from(rest.len(), padding);
        last.store(&mut to[whole.len()]);
    }
}

/// Widens values to f32. The first one also fills the last lanes.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn widen<V: Vector, T: Element>(from: &[T], to: &mut [f32]) -> Extremes<V> {
    let mut extremes = Extremes::empty();
    let (whole, rest) = from.as_chunks::<LANES>();
    let to = to.as_chunks_mut::<LANES>().0;
    for (vector, to) in whole.iter().zip(&mut *to) {
        let x: V = T::load(vector);
        extremes.add(x);
        x.store(to);
    }
    if !rest.is_empty() {
        let x: V = T::load_part(rest);
        extremes.add(x);
        x.store(&mut to[whole.len()]);
    }
    extremes
}

/// Values `[start, start + n)` as f32 with their extremes, padded with `-inf` up to a multiple of `LANES` and for classes that the teacher
/// lacks.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn copied<V: Vector>(values: Values<'_>, start: usize, n: usize, to: &mut Tile) -> Extremes<V> {
    let have = n.min(values.len().saturating_sub(start));
    let range = start..start + have;
    let mut extremes = match values {
        _ if have == 0 => Extremes::empty(),
        Values::F32(v) => widen(&v[range], to),
        Values::F16(v) => widen(&v[range], to),
        Values::Bf16(v) => widen(&v[range], to),
    };
    if have < n {
        to[have..n.next_multiple_of(LANES)].fill(f32::NEG_INFINITY);
        extremes.add(V::splat(f32::NEG_INFINITY));
    } else {
        pad::<V>(to, n, f32::NEG_INFINITY);
    }
    extremes
}

/// Fills the lanes behind the first `n` values. Whole vectors are stored, since a load of one waits for several smaller stores.
#[inline(always)]
fn pad<V: Vector>(tile: &mut Tile, n: usize, padding: f32) {
    let rest = n % LANES;
    if rest > 0 {
        let last = &mut tile.as_chunks_mut::<LANES>().0[n / LANES];
        V::load(last).filled_from(rest, padding).store(last);
    }
}

/// A tile in whole lanes, without a copy if possible.
#[inline(always)]
pub(super) fn tile<'a, V: Vector>(
    values: Values<'a>,
    start: usize,
    n: usize,
    scratch: &'a mut Tile,
) -> &'a [f32] {
    if let Some(values) = in_place(values, start, n) {
        return values;
    }
    copied::<V>(values, start, n, scratch);
    &scratch[..n.next_multiple_of(LANES)]
}

/// A tile in whole lanes with its largest value and magnitude, both without the padding. `left_out` becomes padding, or a masked class
/// if the classes are `counted`.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn measured<'a, V: Vector>(
    values: Values<'a>,
    start: usize,
    n: usize,
    (left_out, counted): (Option<usize>, bool),
    checked_from: u32,
    padding: Option<f32>,
    scratch: &'a mut Tile,
) -> (&'a [f32], f32, u32) {
    let (max, mut magnitude) = match (in_place(values, start, n), left_out) {
        (Some(values), None) => {
            let (max, magnitude) = Extremes::<V>::of(values);
            return (values, max, magnitude);
        }
        (_, None) => copied::<V>(values, start, n, scratch).finish(),
        (_, Some(class)) => {
            copied::<V>(values, start, n, scratch);
            // Another class stands for it in the extremes, and for the padding.
            scratch[class] = match n {
                1 => f32::NEG_INFINITY,
                _ => scratch[(class + 1) % n],
            };
            let other = scratch[class];
            pad::<V>(scratch, n, other);
            Extremes::<V>::of(&scratch[..n.next_multiple_of(LANES)])
        }
    };
    if let Some(class) = left_out {
        scratch[class] = match padding {
            Some(padding) if magnitude < checked_from && !counted => padding,
            _ => {
                magnitude = u32::MAX;
                f32::NEG_INFINITY
            }
        };
    }
    let padded = n.next_multiple_of(LANES);
    match padding {
        Some(padding) if magnitude < checked_from => pad::<V>(scratch, n, padding),
        // The checked path handles padding of `-inf`.
        _ => {
            pad::<V>(scratch, n, f32::NEG_INFINITY);
            magnitude = u32::MAX;
        }
    }
    (&scratch[..padded], max, magnitude)
}

/// A tile in whole lanes, with its largest value without some columns and the magnitude of all. Those columns become masked classes.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub(super) fn measured_without<'a, V: Vector>(
    values: Values<'a>,
    start: usize,
    n: usize,
    left_out: impl Iterator<Item = usize>,
    scratch: &'a mut Tile,
) -> (&'a [f32], f32, u32) {
    let (_, magnitude) = copied::<V>(values, start, n, scratch).finish();
    left_out.for_each(|column| scratch[column] = f32::NEG_INFINITY);
    let padded = &scratch[..n.next_multiple_of(LANES)];
    let (max, _) = Extremes::<V>::of(padded);
    (padded, max, magnitude)
}

/// A finite padding value for the fast path. Its exponential is 0, and its distance to any value of the fast path, over the
/// temperature, cannot overflow. `None` at extreme temperatures: tiles with padding then take the checked path.
pub(super) fn padding(checked_from: u32, k: f32) -> Option<f32> {
    let bound = f32::from_bits(checked_from);
    (3.0 * bound * k > 200.0).then_some(-4.0 * bound)
}

/// The lanes of a tile.
#[inline(always)]
pub(super) fn chunks(tile: &[f32]) -> std::slice::Iter<'_, Lanes> {
    tile.as_chunks().0.iter()
}
