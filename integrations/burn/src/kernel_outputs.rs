//! The results of the kernels and their layout in memory.

use burn::backend::Backend;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor};
use wgpu_distill::{RowMetrics, RowReport, RowResult, Summary};

/// Words of a [`RowResult`].
pub(crate) const RESULT_WORDS: usize = size_of::<RowResult>() / 4;
/// Words of a [`RowMetrics`].
pub(crate) const METRIC_WORDS: usize = size_of::<RowMetrics>() / 4;
/// Words of a [`Summary`].
pub(crate) const SUMMARY_WORDS: usize = size_of::<Summary>() / 4;

/// Words of a row: its result, and its metrics if they are requested.
pub(crate) const fn row_words(row_metrics: bool) -> usize {
    match row_metrics {
        true => size_of::<RowReport>() / 4,
        false => RESULT_WORDS,
    }
}

/// The word in which a field of a record lies.
macro_rules! word {
    ($record:ty, $field:ident) => {
        std::mem::offset_of!($record, $field) / 4
    };
}
pub(crate) use word;

/// Words of a row's results.
pub(crate) mod row_word {
    use super::*;

    pub(crate) const LOSS: usize = word!(RowResult, loss);
    pub(crate) const KDR: usize = word!(RowResult, kdr);
    pub(crate) const TSSR: usize = word!(RowResult, tssr);
    pub(crate) const METRICS: usize = word!(RowReport, metrics);
}

/// Words of a summary.
pub(crate) mod summary_word {
    use super::*;

    pub(crate) const LOSS: usize = word!(Summary, loss);
    pub(crate) const KDR: usize = word!(Summary, kdr);
    pub(crate) const TSSR: usize = word!(Summary, tssr);
    pub(crate) const VALID_ROWS: usize = word!(Summary, valid_rows);
    pub(crate) const IGNORED_ROWS: usize = word!(Summary, ignored_rows);
    pub(crate) const INVALID_LABELS: usize = word!(Summary, invalid_labels);
    pub(crate) const NON_FINITE_ROWS: usize = word!(Summary, non_finite_rows);
    pub(crate) const METRICS: usize = word!(Summary, metrics);
}

/// The results of the kernels, as a backend's tensors.
pub(crate) struct KernelOutputs<B: Backend> {
    /// `f32 [rows, row_words(..)]`
    pub rows: FloatTensor<B>,
    /// `f32 [SUMMARY_WORDS]`
    pub summary: FloatTensor<B>,
    /// The words of `summary` as `i32 [SUMMARY_WORDS]`.
    pub counts: IntTensor<B>,
    /// `[rows, classes]` in the type of [`LossCall::gradient_type`](crate::loss_call::LossCall::gradient_type).
    pub gradient: Option<FloatTensor<B>>,
}

/// The results of any path, as Burn's public tensors. Shapes as in [`KernelOutputs`].
pub(crate) struct LossTensors {
    pub rows: Tensor<2>,
    pub summary: Tensor<1>,
    pub counts: Tensor<1, Int>,
    pub gradient: Option<Tensor<2>>,
}
