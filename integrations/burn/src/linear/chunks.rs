//! The size of a chunk of rows, a function of shape and budget alone.

use wgpu_distill::chunk_rows;

use super::batch::{LinearDistillationBatch, LinearTeacher};
use crate::execution_path::ExecutionPath;

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

    /// [`chunk_rows`]
    pub fn chunk_rows(&self, budget: Option<usize>) -> usize {
        let budget = budget.unwrap_or_else(|| self.default_budget());
        chunk_rows(self.rows, self.row_bytes(), budget)
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
}
