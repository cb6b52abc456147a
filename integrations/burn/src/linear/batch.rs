//! The tensors of a call.

use std::fmt;
use std::ops::Range;

use burn::nn::Linear;
use burn::tensor::{Bool, Int, Tensor};

use crate::denominator::Denominator;

/// Logits as a linear layer gives them: `hidden_states * weights^T + bias`. One floating-point type for all of them: f32, f16 or bf16.
#[derive(Clone, Debug)]
pub struct LinearLogits<const D: usize> {
    /// `[rows, hidden]` or `[batch, sequence, hidden]`: the inputs of the head.
    pub hidden_states: Tensor<D>,
    /// `[classes, hidden]`, as embeddings have them, so that a head may share its weights with one.
    pub weights: Tensor<2>,
    /// `[classes]`; 0 if there is none. A bias of `-inf` masks its class.
    pub bias: Option<Tensor<1>>,
}

impl<const D: usize> LinearLogits<D> {
    /// Hidden states and a head without bias.
    pub fn new(hidden_states: Tensor<D>, weights: Tensor<2>) -> Self {
        Self {
            hidden_states,
            weights,
            bias: None,
        }
    }

    /// The logits of a layer of Burn: `layer.forward(hidden_states)`. Its weights are `[hidden, classes]` and are transposed without a copy.
    pub fn of(hidden_states: Tensor<D>, layer: &Linear) -> Self {
        Self {
            hidden_states,
            weights: layer.weight.val().transpose(),
            bias: layer.bias.as_ref().map(|bias| bias.val()),
        }
    }

    /// Sets [`bias`](Self::bias), one number for each class.
    pub fn with_bias(self, bias: Tensor<1>) -> Self {
        Self {
            bias: Some(bias),
            ..self
        }
    }
}

/// The teacher of a [`LinearDistillationBatch`]. It gets no gradient.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "a call has one")]
#[non_exhaustive]
pub enum LinearTeacher<'a, const D: usize> {
    /// Hidden states and a head of its own. Hidden size and type may differ from the student's.
    Linear(LinearLogits<D>),
    /// [`DistillationBatch::teacher_logits`](crate::DistillationBatch::teacher_logits): `[rows, classes]` or `[batch, sequence, classes]`,
    /// or one log-probability a row for a divergence of sampled tokens.
    Logits(Tensor<D>),
    /// Logits that exist a chunk at a time. The function returns `[rows of the range, classes]` on the device of the student, for a range
    /// of the rows, which are `batch * sequence` in order. It is called for each chunk in order, and twice where the scope is
    /// [`Scope::Batch`](crate::Scope::Batch).
    Chunks(&'a dyn Fn(Range<usize>) -> Tensor<2>),
    /// A list of its likeliest classes, as in [`DistillationBatch::top_k`](crate::DistillationBatch::top_k).
    TopK {
        /// `[rows, k]` or `[batch, sequence, k]`: the log-probabilities of the listed classes.
        log_probabilities: Tensor<D>,
        /// The same shape, any integer type: [`DistillationBatch::teacher_ids`](crate::DistillationBatch::teacher_ids).
        ids: Tensor<D, Int>,
    },
}

impl<const D: usize> fmt::Debug for LinearTeacher<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linear(logits) => f.debug_tuple("Linear").field(logits).finish(),
            Self::Logits(logits) => f.debug_tuple("Logits").field(logits).finish(),
            Self::Chunks(_) => f.write_str("Chunks(..)"),
            Self::TopK {
                log_probabilities,
                ids,
            } => f
                .debug_struct("TopK")
                .field("log_probabilities", log_probabilities)
                .field("ids", ids)
                .finish(),
        }
    }
}

impl<const D: usize> From<LinearLogits<D>> for LinearTeacher<'_, D> {
    fn from(logits: LinearLogits<D>) -> Self {
        Self::Linear(logits)
    }
}

/// A batch whose student's logits come from hidden states and the weights of a head. The optional tensors are those of
/// [`DistillationBatch`](crate::DistillationBatch).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinearDistillationBatch<'a, const D: usize, const L: usize> {
    /// The student. Hidden states, weights and bias get gradients, each if it is tracked.
    pub student: LinearLogits<D>,
    /// The teacher.
    pub teacher: LinearTeacher<'a, D>,
    /// `[rows]` or `[batch, sequence]`, any integer type.
    pub labels: Tensor<L, Int>,
    /// `[rows]` or `[batch, sequence]`: [`DistillationBatch::row_weights`](crate::DistillationBatch::row_weights).
    pub row_weights: Option<Tensor<L>>,
    /// `[rows, classes]` or `[batch, sequence, classes]`: [`DistillationBatch::soft_labels`](crate::DistillationBatch::soft_labels).
    pub soft_labels: Option<Tensor<D>>,
    /// `[classes]`: [`DistillationBatch::class_weights`](crate::DistillationBatch::class_weights).
    pub class_weights: Option<Tensor<1>>,
    /// `[rows]` or `[batch, sequence]`: [`DistillationBatch::mask_pad`](crate::DistillationBatch::mask_pad).
    pub mask_pad: Option<Tensor<L, Bool>>,
    /// [`DistillationBatch::with_denominator`](crate::DistillationBatch::with_denominator).
    pub denominator: Option<Denominator>,
}

impl<'a, const D: usize, const L: usize> LinearDistillationBatch<'a, D, L> {
    /// A batch without soft labels and weights of rows and classes.
    pub fn new(
        student: LinearLogits<D>,
        teacher: impl Into<LinearTeacher<'a, D>>,
        labels: Tensor<L, Int>,
    ) -> Self {
        Self {
            student,
            teacher: teacher.into(),
            labels,
            row_weights: None,
            soft_labels: None,
            class_weights: None,
            mask_pad: None,
            denominator: None,
        }
    }

    /// Sets [`row_weights`](Self::row_weights), one for each row.
    pub fn with_row_weights(self, row_weights: Tensor<L>) -> Self {
        Self {
            row_weights: Some(row_weights),
            ..self
        }
    }

    /// Sets [`soft_labels`](Self::soft_labels), a number for each class of each row.
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

    /// Sets [`denominator`](Self::denominator): an `f32`, or a tensor `[1]` on the device of the hidden states.
    pub fn with_denominator(self, denominator: impl Into<Denominator>) -> Self {
        Self {
            denominator: Some(denominator.into()),
            ..self
        }
    }

    /// The teacher's classes; `None` if only its chunks have them.
    pub(super) fn teacher_classes(&self) -> Option<usize> {
        match &self.teacher {
            LinearTeacher::Linear(teacher) => Some(teacher.weights.dims()[0]),
            LinearTeacher::Logits(logits)
            | LinearTeacher::TopK {
                log_probabilities: logits,
                ..
            } => Some(logits.dims()[D - 1]),
            LinearTeacher::Chunks(_) => None,
        }
    }
}
