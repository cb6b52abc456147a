//! The size of a chunk of rows, a function of shape and budget alone.

use super::batch::LinearBatch;
use super::products::Segments;
use crate::{RowMetrics, RowResult, chunk_rows};

/// The least default budget, in bytes.
pub(super) const MEMORY_BUDGET: usize = 64 << 20;

/// Rows of a chunk that the default budget has room for, however long they are.
const LEAST_ROWS: usize = 256;

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

    /// The budget if the caller gives none. Each chunk reads the heads and adds to the gradient of the weights, which takes as long as the
    /// products of a few dozen rows.
    fn default_budget(&self) -> usize {
        let rows = self.row_bytes().saturating_mul(LEAST_ROWS);
        MEMORY_BUDGET.max(rows)
    }

    /// [`chunk_rows`]
    pub fn chunk_rows(&self, budget: Option<usize>) -> usize {
        let budget = budget.unwrap_or_else(|| self.default_budget());
        chunk_rows(self.rows, self.row_bytes(), budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_default_budget_has_room_for_256_rows_of_many_classes() {
        let few = shape(9000, 32_000, 256);
        assert_eq!(few.chunk_rows(None), few.chunk_rows(Some(MEMORY_BUDGET)));
        assert!(few.chunk_rows(None) > LEAST_ROWS);
        let many = shape(2048, 128_256, 2048);
        assert_eq!(many.chunk_rows(None), LEAST_ROWS);
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
}
