//! Tiles of a row: widened to f32, padded to whole lanes, with their largest value and magnitude.

use half::slice::HalfFloatSliceExt;

use super::lanes::{LANES, Lanes};
use super::list::List;
use crate::Values;

/// Elements handled at a time. Two tiles of f32 take 8 KiB.
pub(super) const TILE: usize = 1024;
pub(super) type Tile = [f32; TILE];

/// Memory for tiles, reused from row to row. Clearing it would cost as much as a short row.
pub(super) struct Scratch {
    pub student: Tile,
    pub teacher: Tile,
    pub first: Tile,
    pub second: Tile,
    pub third: Tile,
    pub kept: Kept,
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

/// Most tiles of a row whose exponentials are kept: those of student and teacher stay in the first-level cache. Longer rows compute
/// exponentials twice, which is faster than a load from the second-level cache (13 against 22 ms at 1024 x 32000, AVX-512).
const MOST_KEPT: usize = 4;

impl Kept {
    /// Makes room for a row. Returns false if the row is too long.
    pub fn begin(&mut self, classes: usize) -> bool {
        self.maxima.clear();
        let tiles = classes.div_ceil(TILE);
        if tiles > MOST_KEPT {
            return false;
        }
        if self.student.len() < tiles {
            self.student.resize(tiles, [0.0; TILE]);
            self.teacher.resize(tiles, [0.0; TILE]);
        }
        true
    }

    /// Room for the exponentials of the next tile, relative to these maxima.
    #[inline(always)]
    pub fn next(&mut self, maxima: (f32, f32)) -> (&mut Tile, &mut Tile) {
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
    pub fn new() -> Self {
        Self {
            student: [0.0; TILE],
            teacher: [0.0; TILE],
            first: [0.0; TILE],
            second: [0.0; TILE],
            third: [0.0; TILE],
            kept: Kept::default(),
            list: List::default(),
            listed: Vec::new(),
        }
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

/// Values `[start, start + n)` as f32, padded with `-inf` up to a multiple of `LANES` and for classes that the teacher lacks.
#[inline(always)]
fn copied(values: Values<'_>, start: usize, n: usize, scratch: &mut Tile) {
    let have = n.min(values.len().saturating_sub(start));
    scratch[have..n.next_multiple_of(LANES)].fill(f32::NEG_INFINITY);
    if have == 0 {
        return;
    }
    let out = &mut scratch[..have];
    let range = start..start + have;
    match values {
        Values::F32(v) => out.copy_from_slice(&v[range]),
        Values::F16(v) => v[range].convert_to_f32_slice(out),
        Values::Bf16(v) => {
            for (o, x) in out.iter_mut().zip(&v[range]) {
                *o = f32::from_bits(u32::from(x.to_bits()) << 16);
            }
        }
    }
}

/// A tile in whole lanes, without a copy if possible.
#[inline(always)]
pub(super) fn tile<'a>(
    values: Values<'a>,
    start: usize,
    n: usize,
    scratch: &'a mut Tile,
) -> &'a [f32] {
    if let Some(values) = in_place(values, start, n) {
        return values;
    }
    copied(values, start, n, scratch);
    &scratch[..n.next_multiple_of(LANES)]
}

/// A tile in whole lanes with its largest value and magnitude, both without the padding. `left_out` becomes padding, or a masked class
/// if the classes are `counted`.
#[inline(always)]
pub(super) fn measured<'a>(
    values: Values<'a>,
    start: usize,
    n: usize,
    (left_out, counted): (Option<usize>, bool),
    checked_from: u32,
    padding: Option<f32>,
    scratch: &'a mut Tile,
) -> (&'a [f32], f32, u32) {
    match (in_place(values, start, n), left_out) {
        (Some(values), None) => {
            let (max, magnitude) = extremes(values);
            return (values, max, magnitude);
        }
        _ => copied(values, start, n, scratch),
    }
    if let Some(class) = left_out {
        // Another class stands for it in the extremes.
        scratch[class] = match n {
            1 => f32::NEG_INFINITY,
            _ => scratch[(class + 1) % n],
        };
    }
    let (max, mut magnitude) = extremes(&scratch[..n]);
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
        Some(padding) if magnitude < checked_from => scratch[n..padded].fill(padding),
        // The checked path handles padding of `-inf`.
        _ => magnitude = u32::MAX,
    }
    (&scratch[..padded], max, magnitude)
}

/// A tile in whole lanes, with its largest value without some columns and the magnitude of all. Those columns become masked classes.
#[inline(always)]
pub(super) fn measured_without<'a>(
    values: Values<'a>,
    start: usize,
    n: usize,
    left_out: impl Iterator<Item = usize>,
    scratch: &'a mut Tile,
) -> (&'a [f32], f32, u32) {
    copied(values, start, n, scratch);
    let (_, magnitude) = extremes(&scratch[..n]);
    left_out.for_each(|column| scratch[column] = f32::NEG_INFINITY);
    let (max, _) = extremes(&scratch[..n]);
    (&scratch[..n.next_multiple_of(LANES)], max, magnitude)
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

/// The largest value of a tile and the bits of its largest magnitude.
#[inline(always)]
fn extremes(tile: &[f32]) -> (f32, u32) {
    let mut max = [f32::MIN; LANES];
    let mut magnitude = [0u32; LANES];
    for x in chunks(tile) {
        for i in 0..LANES {
            max[i] = if x[i] > max[i] { x[i] } else { max[i] };
            let bits = x[i].to_bits() & 0x7fff_ffff;
            magnitude[i] = if bits > magnitude[i] {
                bits
            } else {
                magnitude[i]
            };
        }
    }
    let mut max = max.into_iter().fold(f32::MIN, f32::max);
    let mut magnitude = magnitude.into_iter().fold(0, u32::max);
    for x in tile.as_chunks::<LANES>().1 {
        max = max.max(*x);
        magnitude = magnitude.max(x.to_bits() & 0x7fff_ffff);
    }
    (max, magnitude)
}
