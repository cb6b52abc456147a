//! Inputs and outputs of a call.

use crate::{Batch, Logits, RowMetrics, RowResult, Values};

/// Logits as a linear layer gives them: `hidden_states * weights^T + bias`. All matrices are f32, row-major, without gaps.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    /// `[rows, hidden]`: the inputs of the head, one row for each label.
    pub hidden_states: &'a [f32],
    /// `[classes, hidden]`: the weights of the head, as PyTorch's `nn.Linear` and Hugging Face's `lm_head.weight` have them.
    pub weights: &'a [f32],
    /// `[classes]`; 0 if there is none. A bias of `-inf` masks its class.
    pub bias: Option<&'a [f32]>,
    /// Elements of a hidden state, at least 1.
    pub hidden: usize,
    /// Rows of `weights`, at least 1.
    pub classes: usize,
}

impl<'a> Linear<'a> {
    /// Hidden states and a head without bias.
    pub fn new(
        hidden_states: &'a [f32],
        weights: &'a [f32],
        hidden: usize,
        classes: usize,
    ) -> Self {
        Self {
            hidden_states,
            weights,
            bias: None,
            hidden,
            classes,
        }
    }

    /// Sets [`bias`](Self::bias), one number for each class.
    pub fn with_bias(self, bias: &'a [f32]) -> Self {
        Self {
            bias: Some(bias),
            ..self
        }
    }
}

/// The teacher of a [`LinearBatch`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Teacher<'a> {
    /// Hidden states and a head of its own, whose hidden size may differ from the student's. No gradient passes to it.
    Linear(Linear<'a>),
    /// [`Batch::teacher_logits`]: `[rows, classes]` in any storage type, or `[rows, 1]` for sampled tokens.
    Logits(Logits<'a>),
    /// A list of its likeliest classes, as in [`Batch::top_k`].
    TopK {
        /// `[rows, k]`, the natural logarithms of the probabilities of the listed classes.
        log_probabilities: Logits<'a>,
        /// `[rows, k]` without gaps: [`Batch::teacher_ids`].
        ids: &'a [i32],
    },
}

/// A batch whose student's logits come from hidden states. The number of labels is the number of rows.
#[derive(Clone, Copy, Debug)]
pub struct LinearBatch<'a> {
    /// The student.
    pub student: Linear<'a>,
    /// The teacher.
    pub teacher: Teacher<'a>,
    /// `[rows]`, each a class or `ignore_index`. Rows with `ignore_index` take part in no product, and nothing reads their hidden states.
    pub labels: &'a [i32],
    /// [`Batch::soft_labels`].
    pub soft_labels: Option<Logits<'a>>,
    /// [`Batch::row_weights`].
    pub row_weights: Option<&'a [f32]>,
    /// [`Batch::class_weights`].
    pub class_weights: Option<&'a [f32]>,
}

impl<'a> LinearBatch<'a> {
    /// A batch without weights and soft labels.
    pub fn new(student: Linear<'a>, teacher: Teacher<'a>, labels: &'a [i32]) -> Self {
        Self {
            student,
            teacher,
            labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The teacher's hidden states and head, if it has them.
    pub(super) fn teacher_head(&self) -> Option<Linear<'a>> {
        match self.teacher {
            Teacher::Linear(teacher) => Some(teacher),
            Teacher::Logits(_) | Teacher::TopK { .. } => None,
        }
    }

    /// Classes of the teacher that the loss reads from products; 0 without a head.
    pub(super) fn teacher_columns(&self) -> usize {
        let head = self.teacher_head();
        head.map_or(0, |teacher| teacher.classes.min(self.student.classes))
    }

    /// The batch with empty slices in place of the logits that products give.
    pub(super) fn without_products(&self) -> Batch<'a> {
        let none = |classes| Logits::new(Values::F32(&[]), classes);
        let (teacher_logits, teacher_ids) = match self.teacher {
            Teacher::Linear(teacher) => (none(teacher.classes), None),
            Teacher::Logits(logits) => (logits, None),
            Teacher::TopK {
                log_probabilities,
                ids,
            } => (log_probabilities, Some(ids)),
        };
        Batch {
            student_logits: none(self.student.classes),
            teacher_logits,
            teacher_ids,
            labels: self.labels,
            soft_labels: self.soft_labels,
            row_weights: self.row_weights,
            class_weights: self.class_weights,
        }
    }
}

/// The caller's memory for the outputs besides the summary. An output that is `None` is not computed. All matrices are f32 without gaps.
///
/// [`Config::grad_write`](crate::Config::grad_write) says for all gradients whether they overwrite the memory or are added to it. To
/// accumulate the head's gradient over micro-batches, pass hidden gradients that are 0. Rows with `ignore_index` have the gradient 0.
#[derive(Debug, Default)]
pub struct LinearOutputs<'a> {
    /// Each row's loss, KDR and TSSR: one entry for each row, overwritten.
    pub rows: Option<&'a mut [RowResult]>,
    /// Each row's metrics: one entry for each row, overwritten. The summary then has their means.
    pub metrics: Option<&'a mut [RowMetrics]>,
    /// `[rows, hidden]`: the gradient with respect to the student's hidden states.
    pub grad_hidden_states: Option<&'a mut [f32]>,
    /// `[classes, hidden]`: the gradient with respect to the student's weights.
    pub grad_weights: Option<&'a mut [f32]>,
    /// `[classes]`: the gradient with respect to the student's bias.
    pub grad_bias: Option<&'a mut [f32]>,
}

impl LinearOutputs<'_> {
    /// Returns true if any gradient is computed.
    pub(super) fn have_gradient(&self) -> bool {
        let hidden = self.grad_hidden_states.is_some();
        hidden || self.grad_weights.is_some() || self.grad_bias.is_some()
    }
}
