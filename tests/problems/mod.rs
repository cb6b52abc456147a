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
    Problem {
        rows,
        classes,
        teacher_classes: classes,
        student: matrix,
        teacher: matrix,
        gradient: Some(matrix),
        shared_buffers: false,
        in_place: false,
        soft_labels: None,
        row_weights: false,
        class_weights: false,
        teacher_list: false,
        metrics: false,
    }
}
