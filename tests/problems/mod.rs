//! Problems for plans, without buffers: contiguous rows at the start of a buffer that is just large enough.

use wgpu_distill::Storage;
use wgpu_distill::plan::{Matrix, Problem};

/// A problem with student, teacher and gradient in one storage type.
pub fn problem(rows: usize, classes: usize, storage: Storage) -> Problem {
    let mut matrix = Matrix {
        storage,
        row_stride: classes,
        offset: 0,
        buffer_bytes: 0,
    };
    matrix.buffer_bytes = matrix.end(rows, classes).next_multiple_of(16);
    Problem::new(rows, (matrix, classes), (matrix, classes), Some(matrix))
}
