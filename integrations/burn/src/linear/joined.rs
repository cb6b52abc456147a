//! The outputs of all rows from those of one chunk after another.

use std::ops::Range;

use burn::tensor::{DType, Device, FloatDType, Int, Tensor};

use crate::kernel_outputs::{LossTensors, SUMMARY_WORDS, row_words, summary_word};

// `finish` concatenates the words of its results in this order.
const _: () = {
    assert!(summary_word::LOSS == 0 && summary_word::KDR == 1 && summary_word::TSSR == 2);
    assert!(summary_word::VALID_ROWS == 3 && summary_word::NON_FINITE_ROWS == 6);
};

/// Outputs of the chunks so far, in tensors of their final size: tensors of each chunk that stay would hold pages of the allocator, which
/// may be as large as a chunk.
pub(super) struct Joined {
    /// `f32 [rows, row_words(..)]`
    rows: Tensor<2>,
    /// `f32 [chunks, SUMMARY_WORDS]`
    summaries: Tensor<2>,
    /// Rows in the means of each summary, `f32 [chunks, 1]`.
    averaged: Tensor<2>,
    /// The words of the summaries as `i32 [chunks, SUMMARY_WORDS]`.
    counts: Tensor<2, Int>,
}

impl Joined {
    /// Room for so many rows and chunks.
    pub fn new(rows: usize, chunks: usize, row_metrics: bool, device: &Device) -> Self {
        let zeros = |shape: [usize; 2]| Tensor::zeros(shape, (device, DType::F32));
        Self {
            rows: zeros([rows, row_words(row_metrics)]),
            summaries: zeros([chunks, SUMMARY_WORDS]),
            averaged: zeros([chunks, 1]),
            counts: Tensor::zeros([chunks, SUMMARY_WORDS], (device, DType::I32)),
        }
    }

    /// Adds the outputs of a chunk and its rows.
    pub fn with(self, chunk: usize, rows: Range<usize>, outputs: LossTensors) -> Self {
        let averaged = outputs.averaged_rows().float().cast(FloatDType::F32);
        let [_, words] = self.rows.dims();
        let summary = [chunk..chunk + 1, 0..SUMMARY_WORDS];
        let counts = outputs.counts.reshape([1, SUMMARY_WORDS]);
        let own = outputs.summary.reshape([1, SUMMARY_WORDS]);
        Self {
            rows: self.rows.slice_assign([rows, 0..words], outputs.rows),
            averaged: self
                .averaged
                .slice_assign([chunk..chunk + 1, 0..1], averaged.reshape([1, 1])),
            summaries: self.summaries.slice_assign(summary.clone(), own),
            counts: self.counts.slice_assign(summary, counts),
        }
    }

    /// The outputs of all rows: the losses of the chunks are added up, and each mean is one over all rows.
    pub fn finish(self) -> LossTensors {
        let [n, _] = self.summaries.dims();
        let losses = self.summaries.clone().slice([0..n, 0..1]).sum_dim(0);
        let means = self.summaries.slice([0..n, 1..SUMMARY_WORDS]) * self.averaged.clone();
        let means = means.sum_dim(0) / self.averaged.sum_dim(0).clamp_min(1.0);
        // The words before and after the counts are no integers.
        let (first, end) = (summary_word::VALID_ROWS, summary_word::NON_FINITE_ROWS + 1);
        let zeros = |n: usize| {
            let options = (&self.counts.device(), self.counts.dtype());
            Tensor::<1, Int>::zeros([n], options)
        };
        let (before, after) = (zeros(first), zeros(SUMMARY_WORDS - end));
        let counts = self.counts.slice([0..n, first..end]).sum_dim(0);
        let counts = vec![before, counts.reshape([end - first]), after];
        LossTensors {
            rows: self.rows,
            summary: Tensor::cat(vec![losses, means], 1).reshape([SUMMARY_WORDS]),
            counts: Tensor::cat(counts, 0),
            gradient: None,
        }
    }
}
