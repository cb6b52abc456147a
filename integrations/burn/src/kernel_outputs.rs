//! The results of the kernels and their layout in memory.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch};
use burn::tensor::{Int, IntDType, Tensor};
use wgpu_distill::{Reduction, RowMetrics, RowReport, RowResult, Summary};

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

impl LossTensors {
    /// The results of an operation of Burn's dispatch: rows, summary, counts and gradient.
    pub(crate) fn from_dispatch(
        (rows, summary, counts): (
            FloatTensor<Dispatch>,
            FloatTensor<Dispatch>,
            IntTensor<Dispatch>,
        ),
        gradient: Option<FloatTensor<Dispatch>>,
    ) -> Self {
        Self {
            rows: Tensor::from_dispatch(rows),
            summary: Tensor::from_dispatch(summary),
            counts: Tensor::from_dispatch(counts),
            gradient: gradient.map(Tensor::from_dispatch),
        }
    }

    /// The loss of a reduction: `[1]`, or `[rows]` for `None`.
    pub(crate) fn loss(&self, reduction: Reduction) -> Tensor<1> {
        match reduction {
            Reduction::None => column(&self.rows, row_word::LOSS),
            _ => {
                let word = summary_word::LOSS;
                self.summary.clone().slice(word..word + 1)
            }
        }
    }

    /// Rows whose label is a class, `i32 [1]`.
    pub(crate) fn valid_rows(&self) -> Tensor<1, Int> {
        let word = summary_word::VALID_ROWS;
        self.counts.clone().slice(word..word + 1)
    }

    /// Rows in the means of the summary, `i32 [1]`.
    pub(crate) fn averaged_rows(&self) -> Tensor<1, Int> {
        let [loss, kdr] = [row_word::LOSS, row_word::KDR].map(|word| column(&self.rows, word));
        let unusable = [summary_word::NON_FINITE_ROWS, summary_word::IGNORED_ROWS];
        let unusable = unusable.map(|word| self.counts.clone().slice(word..word + 1));
        averaged_rows(&loss, &kdr, unusable)
    }
}

/// Rows whose label is a class and whose logits are finite, `i32 [1]`, from the results of rows and the counts of non-finite and ignored rows.
pub(crate) fn averaged_rows(
    row_loss: &Tensor<1>,
    row_kdr: &Tensor<1>,
    [non_finite, ignored]: [Tensor<1, Int>; 2],
) -> Tensor<1, Int> {
    let [rows] = row_loss.dims();
    let nan = |x: &Tensor<1>| x.clone().is_nan().int().cast(IntDType::I32).sum();
    // Rows without a finite result. Their KDR is NaN unless they are left out.
    let left_out = non_finite - nan(row_kdr);
    (nan(row_loss) + left_out + ignored).neg() + rows as i64
}

/// One word of each record.
pub(crate) fn column(records: &Tensor<2>, word: usize) -> Tensor<1> {
    let [n, _] = records.dims();
    records.clone().slice([0..n, word..word + 1]).reshape([n])
}
