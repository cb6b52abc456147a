//! Sums in two levels, which bound the rounding error on backends that add one by one.

use burn::tensor::Tensor;

/// Terms of a partial sum.
const PARTIAL_SUM: usize = 512;

/// The sum of a column `[rows, 1]`, as `[1]`.
pub(super) fn over_rows(column: Tensor<2>) -> Tensor<1> {
    over_classes(column.reshape([1, -1])).reshape([1])
}

/// The sum of each row of `[rows, classes]`, as `[rows, 1]`.
pub(super) fn over_classes(matrix: Tensor<2>) -> Tensor<2> {
    let [rows, classes] = matrix.dims();
    let partial_sums = classes / PARTIAL_SUM;
    if partial_sums < 2 {
        return matrix.sum_dim(1);
    }
    let even = partial_sums * PARTIAL_SUM;
    let sum_of_groups = |groups: Tensor<2>| {
        let groups = groups.reshape([rows * partial_sums, PARTIAL_SUM]);
        groups.sum_dim(1).reshape([rows, partial_sums]).sum_dim(1)
    };
    if even == classes {
        return sum_of_groups(matrix);
    }
    let sum = sum_of_groups(matrix.clone().slice([0..rows, 0..even]));
    sum + matrix.slice([0..rows, even..classes]).sum_dim(1)
}
