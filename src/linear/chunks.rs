//! The size of a chunk of rows, a function of shape and budget alone.

use super::batch::LinearBatch;
use super::products::Segments;
use crate::{RowMetrics, RowResult};

/// Rows of a chunk are a multiple of this where they may: the products compute such blocks of rows.
const BLOCK: usize = 16;

/// The sizes that determine a chunk. Formula and default are those of [`FusedLinear::with_memory_budget`](super::FusedLinear::with_memory_budget).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub rows: usize,
    pub classes: usize,
    pub hidden: usize,
    /// Classes of the teacher that products give; 0 if it is no head.
    pub teacher_columns: usize,
    /// 0 if the teacher is no head.
    pub teacher_hidden: usize,
}

impl Shape {
    pub fn of(batch: &LinearBatch<'_>) -> Self {
        Self {
            rows: batch.rows(),
            classes: batch.student.classes,
            hidden: batch.student.hidden,
            teacher_columns: batch.teacher_columns(),
            teacher_hidden: batch.teacher_head().map_or(0, |teacher| teacher.hidden),
        }
    }

    /// Bytes of a chunk for each of its rows.
    pub fn row_bytes(&self) -> usize {
        let segments = Segments::of(self.classes, self.hidden).count;
        let elements = self.classes
            + self.teacher_columns
            + self.hidden * (1 + segments)
            + self.teacher_hidden;
        elements * size_of::<f32>() + size_of::<RowResult>() + size_of::<RowMetrics>()
    }

    /// Rows of a chunk, at least 1 where there are rows. All chunks but the last have as many.
    pub fn chunk_rows(&self, budget: usize) -> usize {
        let most = (budget / self.row_bytes()).clamp(1, self.rows.max(1));
        let even = self.rows.max(1).div_ceil(self.rows.max(1).div_ceil(most));
        even.next_multiple_of(BLOCK).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn shape(rows: usize, classes: usize, hidden: usize) -> Shape {
        Shape {
            rows,
            classes,
            hidden,
            teacher_columns: 0,
            teacher_hidden: 0,
        }
    }

    #[test]
    fn a_row_has_the_bytes_of_the_documented_formula() {
        // 16 segments of 2,000 classes.
        let student = shape(1024, 32_000, 256);
        assert_eq!(student.row_bytes(), 4 * (32_000 + 256 * 17) + 64);
        let both = Shape {
            teacher_columns: 31_000,
            teacher_hidden: 512,
            ..student
        };
        let teacher = 4 * (31_000 + 512);
        assert_eq!(both.row_bytes(), student.row_bytes() + teacher);
        // Few classes have one segment.
        assert_eq!(shape(1, 10, 3).row_bytes(), 4 * (10 + 3 * 2) + 64);
    }

    #[test]
    fn chunks_are_even_and_within_the_budget() {
        for rows in [1, 2, 15, 16, 17, 100, 1000, 1024, 4097, 100_003] {
            for classes in [1, 10, 1000, 32_000, 262_144] {
                for hidden in [1, 64, 4096] {
                    for budget in [0, 1, 1000, MIB, 16 * MIB, 64 * MIB, usize::MAX] {
                        let shape = shape(rows, classes, hidden);
                        let chunk = shape.chunk_rows(budget);
                        let about = format!("{shape:?}, {budget}: {chunk}");
                        assert!((1..=rows).contains(&chunk), "{about}");
                        let fits = chunk * shape.row_bytes() <= budget;
                        assert!(fits || chunk == 1, "{about}");
                        // No other size within the budget needs fewer chunks.
                        let most = (budget / shape.row_bytes()).clamp(1, rows);
                        assert_eq!(rows.div_ceil(chunk), rows.div_ceil(most), "{about}");
                    }
                }
            }
        }
        assert_eq!(shape(0, 10, 3).chunk_rows(MIB), 1);
    }
}
