//! Small random warps of a digit (shift, rotation, scale, slant) that do not change its class.

use crate::data::{PIXELS, SIDE};
use crate::random::Random;

/// Largest shift in each direction, in pixels.
const SHIFT: f32 = 2.0;
/// Largest rotation, in radians (about 11 degrees).
const TURN: f32 = 0.2;
/// Largest change of size, as a fraction.
const SCALE: f32 = 0.12;
/// Largest slant, in horizontal pixels per pixel upwards.
const SLANT: f32 = 0.15;

/// Writes a randomly warped `image` to `out`. Both are `[SIDE, SIDE]`, 0 for paper and 1 for ink.
pub fn warp(image: &[u8], random: &mut Random, out: &mut [f32]) {
    let (sin, cos) = random.around_zero(TURN).sin_cos();
    let scale_x = 1.0 + random.around_zero(SCALE);
    let scale_y = 1.0 + random.around_zero(SCALE);
    let slant = random.around_zero(SLANT);
    let shift_x = random.around_zero(SHIFT);
    let shift_y = random.around_zero(SHIFT);

    // A frame of paper around the image, so that every pixel has neighbours.
    const FRAMED: usize = SIDE + 2;
    let mut framed = [0f32; FRAMED * FRAMED];
    for (row, pixels) in image.chunks_exact(SIDE).enumerate() {
        let line = &mut framed[(row + 1) * FRAMED + 1..][..SIDE];
        for (to, &from) in line.iter_mut().zip(pixels) {
            *to = from as f32 / 255.0;
        }
    }

    // Maps each pixel of the result to its source, so that no pixel stays empty.
    let centre = (SIDE as f32 - 1.0) / 2.0;
    let limit = (FRAMED - 2) as f32 + 0.999;
    for (row, line) in out[..PIXELS].chunks_exact_mut(SIDE).enumerate() {
        let y = row as f32 - centre;
        for (column, to) in line.iter_mut().enumerate() {
            let x = column as f32 - centre;
            let slanted = x + slant * y;
            let from_x = (cos * slanted - sin * y) * scale_x + centre + shift_x + 1.0;
            let from_y = (sin * slanted + cos * y) * scale_y + centre + shift_y + 1.0;
            let (from_x, from_y) = (from_x.clamp(0.0, limit), from_y.clamp(0.0, limit));
            let (left, top) = (from_x as usize, from_y as usize);
            let (right, bottom) = (from_x - left as f32, from_y - top as f32);
            let at = top * FRAMED + left;
            let upper = framed[at] * (1.0 - right) + framed[at + 1] * right;
            let lower = framed[at + FRAMED] * (1.0 - right) + framed[at + FRAMED + 1] * right;
            *to = upper * (1.0 - bottom) + lower * bottom;
        }
    }
}

/// Writes `image` to `out` unchanged, 0 for paper and 1 for ink.
pub fn copy(image: &[u8], out: &mut [f32]) {
    for (to, &from) in out.iter_mut().zip(image) {
        *to = from as f32 / 255.0;
    }
}
