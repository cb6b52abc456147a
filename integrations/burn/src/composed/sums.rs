//! Sums of rows and of columns.

use burn::tensor::Tensor;

/// Terms of a partial sum.
const PARTIAL_SUM: usize = 512;

/// The sum of a column `[rows, 1]`, as `[1]`. It has two levels, which bound the rounding error on backends that add one by one.
pub(super) fn over_rows(column: Tensor<2>) -> Tensor<1> {
    let [rows, _] = column.dims();
    let column = column.reshape([rows]);
    let partial_sums = rows / PARTIAL_SUM;
    if partial_sums < 2 {
        return column.sum();
    }
    let even = partial_sums * PARTIAL_SUM;
    let groups = column.clone().slice(0..even);
    let sums = groups.reshape([partial_sums, PARTIAL_SUM]).sum_dim(1);
    // `slice` refuses an empty range.
    match even == rows {
        true => sums.sum(),
        false => sums.sum() + column.slice(even..rows).sum(),
    }
}

/// The widest row that is summed in one reduction. Its rounding error is that of Burn's softmax.
const WIDEST: usize = 32_768;

/// The sum of each row of `[rows, classes]`, as `[rows, 1]`.
///
/// Wider rows are summed in two levels, for their rounding error, and because Burn 0.22 with fusion computes wrong numbers from class 65,535
/// on where it fuses a matrix with its reduction.
pub(super) fn over_classes(matrix: Tensor<2>) -> Tensor<2> {
    let [rows, classes] = matrix.dims();
    if classes <= WIDEST {
        return matrix.sum_dim(1);
    }
    let sum_of_groups = |groups: Tensor<2>, group: usize| {
        let count = groups.dims()[1] / group;
        let groups = groups.reshape([rows * count, group]);
        groups.sum_dim(1).reshape([rows, count]).sum_dim(1)
    };
    // A number of groups without a rest needs no copy of the matrix.
    let divides = |group: &usize| classes.is_multiple_of(*group);
    if let Some(group) = (PARTIAL_SUM..=WIDEST / 2).rev().find(divides) {
        return sum_of_groups(matrix, group);
    }
    let even = classes / PARTIAL_SUM * PARTIAL_SUM;
    let sum = sum_of_groups(matrix.clone().slice([0..rows, 0..even]), PARTIAL_SUM);
    sum + matrix.slice([0..rows, even..classes]).sum_dim(1)
}
