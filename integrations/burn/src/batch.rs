//! The tensors of a call.

use burn::tensor::{Bool, Int, Tensor};

use crate::denominator::Denominator;

/// A batch: logits of student and teacher, a label for each row, and optional tensors: the classes of a teacher that is a list, soft labels, weights of rows, weights of classes, a mask of padding, a denominator.
///
/// [`forward`](crate::DistillationLoss::forward) has the shapes of logits and labels.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DistillationBatch<const D: usize, const L: usize> {
    /// `[rows, classes]` or `[batch, sequence, classes]`
    pub student_logits: Tensor<D>,
    /// As the student's logits. With `teacher_ids` `[rows, k]` or `[batch, sequence, k]`: the log-probabilities of the listed classes.
    pub teacher_logits: Tensor<D>,
    /// `[rows, k]` or `[batch, sequence, k]`, any integer type: the teacher is a list of its `k` likeliest classes. Each entry is a class of
    /// the student, at most once in a row, or -1 for an empty place. [`TeacherTail`](crate::TeacherTail) says where the rest of the
    /// teacher's probability belongs. An entry that is no class is an error on
    /// [`ExecutionPath::Host`](crate::ExecutionPath::Host); on the other paths its row counts as a row with NaN among its logits, and of a class
    /// that a row has twice the first entry counts. [`ExecutionPath::Composed`](crate::ExecutionPath::Composed) refuses lists.
    pub teacher_ids: Option<Tensor<D, Int>>,
    /// `[rows]` or `[batch, sequence]`
    pub labels: Tensor<L, Int>,
    /// `[rows]` or `[batch, sequence]`, numbers of any float type and any sign: importance weights, advantages. Each multiplies loss and
    /// gradient of its row, but neither KDR nor TSSR. The denominator of a reduction does not depend on them:
    /// [`Reduction::Mean`](crate::CoreReduction::Mean) divides by the number of valid rows. A row of weight 0 has loss 0 and gradient 0, even
    /// where its loss is infinite. Weights get no gradient. Without weights each row counts as it is.
    pub row_weights: Option<Tensor<L>>,
    /// As the student's logits, f32, f16 or bf16, numbers from 0 to 1e6: a row of probabilities in place of the label, as mixup, CutMix and
    /// annotators give them. The hard part of a row is then `- sum y_i ln h_i` with the row's `y`. A row need not sum to 1, and nothing
    /// normalises it. Label smoothing makes it `(1 - e) y_i + e / classes`. Soft labels get no gradient.
    ///
    /// `labels` still says which rows count: `ignore_index` leaves a row out, with its soft label. Any class lets it count, 0 if the row has
    /// no class of its own; only the accuracies of the metrics use that class. Class weights, standardised logits and choices that need one
    /// label are refused beside soft labels.
    pub soft_labels: Option<Tensor<D>>,
    /// `[classes]` of the student, numbers of any float type from 0 to 1e6: the weights of the classes in the parts of the loss that
    /// [`class_weighting`](crate::DistillationLossConfig::with_class_weighting) selects, against an imbalance of classes. They change
    /// neither KDR nor TSSR. The denominator of a reduction does not depend on them: PyTorch's weighted mean is
    /// [`Reduction::SumOver`](crate::CoreReduction::SumOver) with the sum of the weights of the labels. A class of weight 0 contributes 0, even
    /// where its term is infinite. Weights get no gradient. Without weights each class counts as it is.
    pub class_weights: Option<Tensor<1>>,
    /// `[rows]` or `[batch, sequence]`: true leaves the row out, as a label of `ignore_index` does, whatever its label is. Burn's attention takes
    /// the same mask under this name. Without a mask the label alone decides.
    pub mask_pad: Option<Tensor<L, Bool>>,
    /// The number by which the sum of the losses is divided, in place of the configured reduction's.
    pub denominator: Option<Denominator>,
}

impl<const D: usize, const L: usize> DistillationBatch<D, L> {
    /// A batch without soft labels and weights.
    pub fn new(
        student_logits: Tensor<D>,
        teacher_logits: Tensor<D>,
        labels: Tensor<L, Int>,
    ) -> Self {
        Self {
            student_logits,
            teacher_logits,
            teacher_ids: None,
            labels,
            row_weights: None,
            soft_labels: None,
            class_weights: None,
            mask_pad: None,
            denominator: None,
        }
    }

    /// A batch whose teacher is a list of classes with their log-probabilities, of the same shape.
    pub fn top_k(
        student_logits: Tensor<D>,
        teacher_log_probabilities: Tensor<D>,
        teacher_ids: Tensor<D, Int>,
        labels: Tensor<L, Int>,
    ) -> Self {
        Self {
            teacher_ids: Some(teacher_ids),
            ..Self::new(student_logits, teacher_log_probabilities, labels)
        }
    }

    /// Sets [`row_weights`](Self::row_weights), one for each row.
    pub fn with_row_weights(self, row_weights: Tensor<L>) -> Self {
        Self {
            row_weights: Some(row_weights),
            ..self
        }
    }

    /// Sets [`soft_labels`](Self::soft_labels), as many as the student has logits.
    pub fn with_soft_labels(self, soft_labels: Tensor<D>) -> Self {
        Self {
            soft_labels: Some(soft_labels),
            ..self
        }
    }

    /// Sets [`class_weights`](Self::class_weights), one for each class.
    pub fn with_class_weights(self, class_weights: Tensor<1>) -> Self {
        Self {
            class_weights: Some(class_weights),
            ..self
        }
    }

    /// Sets [`mask_pad`](Self::mask_pad): true leaves a row out.
    pub fn with_mask_pad(self, mask_pad: Tensor<L, Bool>) -> Self {
        Self {
            mask_pad: Some(mask_pad),
            ..self
        }
    }

    /// Sets [`denominator`](Self::denominator): an `f32`, or a tensor `[1]` on the device of the logits, such as a count of labels that was
    /// summed over micro-batches or reduced over devices.
    ///
    /// Loss and gradient are the sum over the rows divided by it, so that micro-batches with the denominator of the whole batch add up to the
    /// whole batch. A number has the range of [`Reduction::SumOver`](crate::CoreReduction::SumOver). A tensor is not read: one that is not
    /// finite and above 0 makes loss and gradient NaN, unless it is 0 and the batch has no valid row, whose loss is 0.
    pub fn with_denominator(self, denominator: impl Into<Denominator>) -> Self {
        Self {
            denominator: Some(denominator.into()),
            ..self
        }
    }
}
