//! The size of a chunk of rows, a function of shape and budget alone.

use super::batch::{LinearDistillationBatch, LinearTeacher};
use crate::execution_path::ExecutionPath;

/// Rows of a chunk are a multiple of this where they may: matrix products compute such blocks of rows.
const BLOCK: usize = 16;

/// The least default budget, in bytes.
pub(super) const LEAST_BUDGET: usize = 64 << 20;

/// The default budget has room for student, teacher and gradient of so many rows. Each chunk reads the heads and adds to the gradient of the
/// weights, which fewer rows would not pay for.
const LEAST_ROWS: usize = 256;

/// The sizes that determine a chunk. Formula and default budget are those of
/// [`with_memory_budget`](super::LinearDistillationLoss::with_memory_budget).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub rows: usize,
    pub classes: usize,
    pub hidden: usize,
    /// Classes of the teacher that exist for a chunk alone.
    pub teacher_columns: usize,
    /// Matrices of the student's shape that a chunk has at the same time, besides the teacher's.
    pub matrices: usize,
}

impl Shape {
    pub fn of<const D: usize, const L: usize>(
        batch: &LinearDistillationBatch<'_, D, L>,
        path: ExecutionPath,
    ) -> Self {
        let student = &batch.student;
        let dims = student.hidden_states.dims();
        let [classes, hidden] = student.weights.dims();
        Self {
            rows: dims[..D - 1].iter().product(),
            classes,
            hidden,
            teacher_columns: match &batch.teacher {
                LinearTeacher::Linear(teacher) => teacher.weights.dims()[0].min(classes),
                LinearTeacher::Chunks(_) => classes,
                LinearTeacher::Logits(_) | LinearTeacher::TopK { .. } => 0,
            },
            matrices: match path {
                // Logits and gradient.
                ExecutionPath::SharedDevice
                | ExecutionPath::SourceKernels
                | ExecutionPath::Host => 2,
                // And the operands of the operations, of the loss that has the most.
                ExecutionPath::Composed => 10,
            },
        }
    }

    /// Bytes of a chunk for each of its rows.
    pub fn row_bytes(&self) -> usize {
        let elements = self.matrices * self.classes + self.teacher_columns + 2 * self.hidden;
        elements * size_of::<f32>()
    }

    /// The budget if the caller gives none.
    pub fn default_budget(&self) -> usize {
        let rows = LEAST_ROWS * 3 * self.classes * size_of::<f32>();
        rows.max(LEAST_BUDGET)
    }

    /// Rows of a chunk, at least 1. All chunks but the last have as many.
    pub fn chunk_rows(&self, budget: Option<usize>) -> usize {
        let budget = budget.unwrap_or_else(|| self.default_budget());
        let rows = self.rows.max(1);
        let most = (budget / self.row_bytes().max(1)).clamp(1, rows);
        let even = rows.div_ceil(rows.div_ceil(most));
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
            teacher_columns: classes,
            matrices: 2,
        }
    }

    #[test]
    fn the_default_budget_is_for_256_rows_of_many_classes() {
        assert_eq!(shape(9, 1000, 64).default_budget(), 64 * MIB);
        let large = shape(1 << 20, 128_256, 4096);
        assert_eq!(large.default_budget(), 3072 * 128_256);
        let rows = large.chunk_rows(None);
        assert!((240..=256).contains(&rows), "{rows}");
    }

    #[test]
    fn chunks_are_even_and_within_the_budget() {
        for rows in [1, 2, 15, 16, 17, 100, 1000, 1024, 4097, 100_003] {
            for classes in [1, 10, 1000, 32_000, 262_144] {
                for hidden in [1, 64, 4096] {
                    for budget in [0, 1, 1000, MIB, 16 * MIB, 64 * MIB, usize::MAX] {
                        let shape = shape(rows, classes, hidden);
                        let chunk = shape.chunk_rows(Some(budget));
                        let about = format!("{shape:?}, {budget}: {chunk}");
                        assert!((1..=rows).contains(&chunk), "{about}");
                        let fits = chunk.checked_mul(shape.row_bytes());
                        assert!(fits.is_some_and(|b| b <= budget) || chunk == 1, "{about}");
                        // No other size within the budget needs fewer chunks.
                        let most = (budget / shape.row_bytes()).clamp(1, rows);
                        assert_eq!(rows.div_ceil(chunk), rows.div_ceil(most), "{about}");
                    }
                }
            }
        }
        assert_eq!(shape(0, 10, 3).chunk_rows(None), 1);
    }
}
