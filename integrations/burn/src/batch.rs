//! The tensors of a call.

use burn::tensor::{Int, Tensor};

/// A batch: logits of student and teacher, a label for each row, and optional tensors of the rows.
///
/// [`forward`](crate::DistillationLoss::forward) has the shapes of logits and labels.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DistillationBatch<const D: usize, const L: usize> {
    /// `[rows, classes]` or `[batch, sequence, classes]`
    pub student_logits: Tensor<D>,
    /// As the student's logits.
    pub teacher_logits: Tensor<D>,
    /// `[rows]` or `[batch, sequence]`
    pub labels: Tensor<L, Int>,
    /// `[rows]` or `[batch, sequence]`, numbers of any float type and any sign: importance weights, advantages. Each multiplies loss and
    /// gradient of its row, but neither KDR nor TSSR. The denominator of a reduction does not depend on them:
    /// [`Reduction::Mean`](crate::Reduction::Mean) divides by the number of valid rows. A row of weight 0 has loss 0 and gradient 0, even
    /// where its loss is infinite. Weights get no gradient. Without weights each row counts as it is.
    pub row_weights: Option<Tensor<L>>,
}

impl<const D: usize, const L: usize> DistillationBatch<D, L> {
    /// A batch whose rows have no weights.
    pub fn new(
        student_logits: Tensor<D>,
        teacher_logits: Tensor<D>,
        labels: Tensor<L, Int>,
    ) -> Self {
        Self {
            student_logits,
            teacher_logits,
            labels,
            row_weights: None,
        }
    }

    /// Sets [`row_weights`](Self::row_weights), one for each row.
    pub fn with_row_weights(self, row_weights: Tensor<L>) -> Self {
        Self {
            row_weights: Some(row_weights),
            ..self
        }
    }
}
