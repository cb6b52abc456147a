//! The tensors of a call.

use candle_core::Tensor;

/// Logits of student and teacher, labels, and what a loss may have beside them. All tensors are on the CPU.
#[derive(Clone, Copy, Debug)]
pub struct DistillationBatch<'a> {
    /// `[rows, classes]` or `[batch, sequence, classes]`; f32, f16 or bf16. The only tensor that gets a gradient.
    pub student_logits: &'a Tensor,
    /// As `student_logits`, of a type of its own. For a divergence of sampled tokens `[.., 1]`: the log-probability of the label.
    ///
    /// With [`teacher_ids`](Self::teacher_ids) `[.., k]`: the log-probabilities of the listed classes.
    pub teacher_logits: &'a Tensor,
    /// `[rows]` or `[batch, sequence]`; u8, u32, i16, i32 or i64. Each is a class or `ignore_index`.
    pub labels: &'a Tensor,
    /// The shape of `teacher_logits`, an integer type of `labels`: the teacher is a list of its `k` likeliest classes, in any order and
    /// each at most once in a row; -1 is an empty place. docs/LOSSES.md of wgpu-distill, section 11, defines the loss.
    pub teacher_ids: Option<&'a Tensor>,
    /// The shape of `labels`, a float type, finite: factors of loss and gradient of the rows. They change neither KDR nor TSSR nor the
    /// denominator of a reduction.
    pub row_weights: Option<&'a Tensor>,
    /// The shape of `student_logits`, a float type, numbers from 0 to 1e6: a row of probabilities in place of the label in the hard part.
    /// `labels` still says which rows count.
    pub soft_labels: Option<&'a Tensor>,
    /// `[classes]`, a float type, numbers from 0 to 1e6: the weights of the classes in the parts of the loss that
    /// `Config::class_weighting` selects.
    pub class_weights: Option<&'a Tensor>,
}

impl<'a> DistillationBatch<'a> {
    /// A batch with logits and labels alone.
    pub fn new(student_logits: &'a Tensor, teacher_logits: &'a Tensor, labels: &'a Tensor) -> Self {
        Self {
            student_logits,
            teacher_logits,
            labels,
            teacher_ids: None,
            row_weights: None,
            soft_labels: None,
            class_weights: None,
        }
    }

    /// A batch whose teacher is a list of classes with their log-probabilities, both `[.., k]`: [`teacher_ids`](Self::teacher_ids).
    pub fn top_k(
        student_logits: &'a Tensor,
        teacher_log_probabilities: &'a Tensor,
        teacher_ids: &'a Tensor,
        labels: &'a Tensor,
    ) -> Self {
        Self {
            teacher_ids: Some(teacher_ids),
            ..Self::new(student_logits, teacher_log_probabilities, labels)
        }
    }

    /// Sets [`row_weights`](Self::row_weights).
    pub fn with_row_weights(self, row_weights: &'a Tensor) -> Self {
        Self {
            row_weights: Some(row_weights),
            ..self
        }
    }

    /// Sets [`soft_labels`](Self::soft_labels).
    pub fn with_soft_labels(self, soft_labels: &'a Tensor) -> Self {
        Self {
            soft_labels: Some(soft_labels),
            ..self
        }
    }

    /// Sets [`class_weights`](Self::class_weights).
    pub fn with_class_weights(self, class_weights: &'a Tensor) -> Self {
        Self {
            class_weights: Some(class_weights),
            ..self
        }
    }
}
