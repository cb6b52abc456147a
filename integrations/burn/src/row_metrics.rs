//! Metrics of rows as tensors.

use burn::tensor::Tensor;

use crate::kernel_outputs::{column, word};

/// Metrics of the rows, or their means: see [`wgpu_distill::RowMetrics`]. Each is a slice of one tensor, taken when it is asked for.
///
/// A row that is ignored or left out has 0; one with a label out of range or without a finite result has NaN. Entropies, divergences and
/// parts of the loss are in nats. No metric is differentiable.
#[derive(Clone, Debug)]
pub struct RowMetrics {
    /// `[n, words]`: records with metrics.
    pub(crate) records: Tensor<2>,
    /// The word of a record at which its metrics begin.
    pub(crate) first: usize,
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $name:ident)*) => {
        impl RowMetrics {
            $($(#[doc = $doc])*
            pub fn $name(&self) -> Tensor<1> {
                column(&self.records, self.first + word!(wgpu_distill::RowMetrics, $name))
            })*
        }
    };
}

metrics! {
    /// `KL(q, p) = sum q ln(q / p)`, whichever divergence the loss has; infinite if the student masks a class that the teacher does not.
    forward_kl
    /// The teacher's entropy `- sum q ln q`; NaN if the student masks a class that the teacher does not.
    teacher_entropy
    /// The student's entropy `- sum p ln p`.
    student_entropy
    /// The hard part: the cross-entropy with the label, before weights, shares and temperature scaling.
    hard
    /// The soft part: the divergence, before weights, shares and temperature scaling.
    soft
    /// The log-sum-exp of the student's logits over its temperature.
    student_lse
    /// The log-sum-exp of the teacher's logits over its temperature.
    teacher_lse
    /// 1 if the largest logits of student and teacher have a class in common, else 0.
    agreement
    /// 1 if no logit of the student is above that of the label, else 0.
    student_accuracy
    /// 1 if no logit of the teacher is above that of the label, else 0.
    teacher_accuracy
}
