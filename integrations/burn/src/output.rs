//! The public outputs of a call.

use burn::tensor::{Int, IntDType, Tensor};

use crate::execution_path::ExecutionPath;
use crate::kernel_outputs::averaged_rows;
use crate::row_metrics::RowMetrics;

/// A loss with its metrics. All tensors are on the device of the logits; nothing is read back.
///
/// Only `loss` is differentiable.
#[derive(Clone, Debug)]
pub struct DistillationOutput {
    /// `f32 [1]`, or `f32 [rows]` with `Reduction::None`. In nats.
    pub loss: Tensor<1>,
    /// Each row's loss with its weight, before reduction, `f32 [rows]`; 0 for rows that are ignored or left out.
    pub row_loss: Tensor<1>,
    /// The similarity of teacher and student in each row (KDR), in `[0, 1]`, `f32 [rows]`; 0 for rows that are ignored or left out.
    pub row_kdr: Tensor<1>,
    /// The share of the true label in each row's target (TSSR), in `[0, 1]`, `f32 [rows]`; 0 for rows that are ignored or left out.
    pub row_tssr: Tensor<1>,
    /// The mean KDR of the rows that are valid and finite, `f32 [1]`.
    pub kdr: Tensor<1>,
    /// The mean TSSR of the same rows, `f32 [1]`.
    pub tssr: Tensor<1>,
    /// Rows whose label is a class, `i32 [1]`.
    pub valid_rows: Tensor<1, Int>,
    /// Rows whose label is `ignore_index`, `i32 [1]`.
    pub ignored_rows: Tensor<1, Int>,
    /// Rows whose label is neither a class nor `ignore_index`, `i32 [1]`; their loss and gradient are NaN.
    pub invalid_labels: Tensor<1, Int>,
    /// Rows with NaN or `+inf` among their logits, or only `-inf`, `i32 [1]`; all their results are NaN. With `NonFinite::Skip` also rows
    /// whose divergence is infinite and has no derivative; all results of such rows are 0.
    pub non_finite_rows: Tensor<1, Int>,
    /// Metrics of each row, each `f32 [rows]`, if [`with_row_metrics`](crate::DistillationLoss::with_row_metrics) requests them.
    pub row_metrics: Option<RowMetrics>,
    /// Their means over the rows that `kdr` averages, each `f32 [1]`; 0 if there are none.
    pub mean_metrics: Option<RowMetrics>,
    /// The label of each row, `i32 [rows]`; `ignore_index` for padding, whichever of label, pad token and mask says so.
    pub labels: Tensor<1, Int>,
    /// The label of rows that are left out.
    pub ignore_index: i32,
    /// The path that computed the loss.
    pub path: ExecutionPath,
}

impl DistillationOutput {
    /// The number of rows with an infinite loss, `i32 [1]`, such as those in which the student alone masks a class that the teacher does not:
    /// their gradient is defined, and no other count has them.
    pub fn infinite_rows(&self) -> Tensor<1, Int> {
        let infinite = self.row_loss.clone().is_inf();
        infinite.int().cast(IntDType::I32).sum()
    }

    /// The number of rows in the means [`kdr`](Self::kdr) and [`tssr`](Self::tssr), `i32 [1]`: their label is a class and their logits are finite.
    ///
    /// It is not `valid_rows - non_finite_rows`: a row may have both NaN and a label out of range.
    pub fn averaged_rows(&self) -> Tensor<1, Int> {
        let unusable = [&self.non_finite_rows, &self.ignored_rows].map(Tensor::clone);
        averaged_rows(&self.row_loss, &self.row_kdr, unusable)
    }
}
