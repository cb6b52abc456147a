//! The standard deviation of a row's logits, in f64: one sweep before those of `observe`.
//!
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use super::lanes::LANES;
use super::row::Row;
use super::tile::{Scratch, TILE, Tile, chunks, tile};
use super::vector::Vector;
use crate::{RowStats, Values};

/// Distances from a logit of the row saturate, as in the kernels.
const FARTHEST: f64 = 1e14;

/// Mean and standard deviation of the classes of one side that are not masked.
#[derive(Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    deviation: f64,
}

impl Spread {
    #[inline(always)]
    fn of<V: Vector>(logits: Values<'_>, scratch: &mut Tile) -> Self {
        let classes = logits.len();
        // Distances from a logit of the row, so that a common offset costs no digit.
        let values = (0..classes).map(|i| logits.get(i));
        let Some(origin) = values.into_iter().find(|x| x.is_finite()) else {
            return Self::default();
        };
        let origin = f64::from(origin);
        let [mut count, mut sum, mut squares] = [[0.0f64; LANES]; 3];
        for start in (0..classes).step_by(TILE) {
            let n = TILE.min(classes - start);
            for x in chunks(tile::<V>(logits, start, n, scratch)) {
                for i in 0..LANES {
                    // Padding is masked.
                    let live = x[i].is_finite();
                    let distance = (f64::from(x[i]) - origin).clamp(-FARTHEST, FARTHEST);
                    let distance = if live { distance } else { 0.0 };
                    count[i] += if live { 1.0 } else { 0.0 };
                    sum[i] += distance;
                    squares[i] += distance * distance;
                }
            }
        }
        let [count, sum, squares] = [count, sum, squares].map(|lanes| lanes.iter().sum::<f64>());
        let variance = (squares - sum * sum / count) / (count - 1.0).max(1.0);
        Self {
            count,
            mean: origin + sum / count,
            deviation: variance.max(0.0).sqrt(),
        }
    }
}

/// The spreads of student and teacher.
#[derive(Clone, Copy)]
pub(super) struct Spreads {
    student: Spread,
    teacher: Spread,
}

impl Spreads {
    #[inline(always)]
    pub fn of<V: Vector>(row: &Row<'_>, scratch: &mut Scratch) -> Self {
        Self {
            student: Spread::of::<V>(row.student, &mut scratch.student),
            teacher: Spread::of::<V>(row.teacher, &mut scratch.teacher),
        }
    }

    /// The standard deviations as `RowStats` has them.
    pub fn deviations(&self) -> [f32; 2] {
        [self.student, self.teacher].map(|side| side.deviation as f32)
    }

    /// Writes them to the statistics of a row, whose student has this temperature.
    pub fn write(&self, temperature: f64, stats: &mut RowStats) {
        [stats.student_deviation, stats.teacher_deviation] = self.deviations();
        stats.student_count = self.student.count as f32;
        let mean = (self.student.mean - f64::from(stats.student_max)) / temperature;
        stats.student_offset = (self.student.count * mean) as f32;
    }
}
