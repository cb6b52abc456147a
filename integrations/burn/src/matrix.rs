//! Matrices of logits as the kernels address them.

use burn::tensor::DType;
use wgpu_distill::Storage;
use wgpu_distill::plan::{Matrix, Problem};

/// The kernels' storage type of a tensor; `None` if they do not read it.
pub(crate) fn storage(dtype: DType) -> Option<Storage> {
    match dtype {
        // Flex32 is f32 in memory.
        DType::F32 | DType::Flex32 => Some(Storage::F32),
        DType::F16 => Some(Storage::F16),
        DType::BF16 => Some(Storage::Bf16),
        _ => None,
    }
}

/// Elements from one row of `[rows, classes]` to the next.
///
/// `None` if the kernels cannot read the rows without a copy: the classes of a row are not contiguous, or rows overlap or are in reverse order.
pub(crate) fn row_stride(
    [rows, classes]: [usize; 2],
    [row_stride, class_stride]: [isize; 2],
) -> Option<usize> {
    let contiguous = class_stride == 1 || classes == 1;
    // The stride of a single row is arbitrary.
    let row_stride = if rows < 2 {
        Some(classes)
    } else {
        row_stride.try_into().ok()
    };
    row_stride.filter(|&stride| contiguous && stride >= classes)
}

/// The planner's problem for tensors of Burn. Burn's allocator may put several tensors into one buffer.
pub(crate) fn problem(
    rows: usize,
    [classes, teacher_classes]: [usize; 2],
    student: Matrix,
    teacher: Matrix,
    gradient: Option<Matrix>,
) -> Problem {
    Problem {
        shared_buffers: true,
        ..Problem::new(
            rows,
            (student, classes),
            (teacher, teacher_classes),
            gradient,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::row_stride;

    #[test]
    fn rows_that_can_be_read_in_place() {
        assert_eq!(row_stride([4, 5], [5, 1]), Some(5));
        assert_eq!(row_stride([4, 5], [8, 1]), Some(8));
        // One class: only the row stride matters.
        assert_eq!(row_stride([4, 1], [3, 7]), Some(3));
        // One row or none: only the class stride matters.
        assert_eq!(row_stride([1, 5], [0, 1]), Some(5));
        assert_eq!(row_stride([1, 5], [99, 1]), Some(5));
        assert_eq!(row_stride([0, 5], [-5, 1]), Some(5));
    }

    #[test]
    fn rows_that_must_be_copied() {
        // Transposed, every second class (twice), repeated, overlapping, reversed.
        assert_eq!(row_stride([4, 5], [1, 4]), None);
        assert_eq!(row_stride([4, 5], [10, 2]), None);
        assert_eq!(row_stride([1, 5], [10, 2]), None);
        assert_eq!(row_stride([4, 5], [0, 1]), None);
        assert_eq!(row_stride([4, 5], [4, 1]), None);
        assert_eq!(row_stride([4, 5], [-5, 1]), None);
    }
}
