//! What travels with the tensors to a backend.

use burn::tensor::DType;
use wgpu_distill::{Config, Progress, Storage};

use crate::Path;

/// One call's choices.
#[derive(Clone, Debug)]
pub struct Task {
    pub(crate) config: Config,
    pub(crate) progress: Progress,
    pub(crate) path: Path,
}

/// How the kernels read and write a type of tensor.
pub(crate) fn storage(dtype: DType) -> Option<Storage> {
    match dtype {
        // Burn's flex32 is f32 in memory.
        DType::F32 | DType::Flex32 => Some(Storage::F32),
        DType::F16 => Some(Storage::F16),
        DType::BF16 => Some(Storage::Bf16),
        _ => None,
    }
}

/// Elements from row to row of `[rows, classes]`, where each row lies close together and after the one before.
pub(crate) fn row_stride([rows, classes]: [usize; 2], [down, across]: [isize; 2]) -> Option<usize> {
    let close = across == 1 || classes == 1;
    // The stride of a single row means nothing.
    let down = if rows < 2 {
        Some(classes)
    } else {
        down.try_into().ok()
    };
    down.filter(|&stride| close && stride >= classes)
}

#[cfg(test)]
mod tests {
    use super::row_stride;

    #[test]
    fn rows_that_can_be_read_in_place() {
        assert_eq!(row_stride([4, 5], [5, 1]), Some(5));
        assert_eq!(row_stride([4, 5], [8, 1]), Some(8));
        // One class: only the way to the next row matters.
        assert_eq!(row_stride([4, 1], [3, 7]), Some(3));
        // One row or none: only the way to the next class matters.
        assert_eq!(row_stride([1, 5], [0, 1]), Some(5));
        assert_eq!(row_stride([1, 5], [99, 1]), Some(5));
        assert_eq!(row_stride([0, 5], [-5, 1]), Some(5));
    }

    #[test]
    fn rows_that_must_be_copied() {
        // Transposed, every second class, repeated, overlapping, upside down.
        assert_eq!(row_stride([4, 5], [1, 4]), None);
        assert_eq!(row_stride([4, 5], [10, 2]), None);
        assert_eq!(row_stride([1, 5], [10, 2]), None);
        assert_eq!(row_stride([4, 5], [0, 1]), None);
        assert_eq!(row_stride([4, 5], [4, 1]), None);
        assert_eq!(row_stride([4, 5], [-5, 1]), None);
    }
}
