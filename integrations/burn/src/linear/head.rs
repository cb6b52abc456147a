//! Hidden states and heads without autodiff, and the logits of a range of rows.

use std::ops::Range;

use burn::tensor::module::linear;
use burn::tensor::{Device, Int, Tensor};

use super::batch::{LinearLogits, LinearTeacher};
use super::checks::check_matrix;
use crate::arguments::{EMPTY_PLACE, to_i32};
use crate::error::{Error, Result};

/// Hidden states and the head on them.
pub(super) struct Head {
    /// `[rows, hidden]`
    pub hidden_states: Tensor<2>,
    /// `[classes, hidden]`
    pub weights: Tensor<2>,
    /// `[classes]`
    bias: Option<Tensor<1>>,
}

impl Head {
    /// The first `classes` classes of a head.
    pub fn new<const D: usize>(logits: LinearLogits<D>, rows: usize, classes: usize) -> Self {
        let [all, hidden] = logits.weights.dims();
        let weights = logits.weights.inner();
        let bias = logits.bias.map(Tensor::inner);
        let cut = classes < all;
        Self {
            hidden_states: logits.hidden_states.inner().reshape([rows, hidden]),
            weights: match cut {
                true => weights.slice([0..classes, 0..hidden]),
                false => weights,
            },
            bias: match cut {
                true => bias.map(|bias| bias.slice(0..classes)),
                false => bias,
            },
        }
    }

    /// The hidden states of a range of rows.
    pub fn hidden_states(&self, rows: Range<usize>) -> Tensor<2> {
        rows_of(&self.hidden_states, rows)
    }

    /// The logits of a range of rows.
    pub fn logits(&self, rows: Range<usize>) -> Tensor<2> {
        let weights = self.weights.clone().transpose();
        linear(self.hidden_states(rows), weights, self.bias.clone())
    }
}

/// The teacher of a call.
#[allow(clippy::large_enum_variant, reason = "a call has one")]
pub(super) enum Teacher<'a> {
    Head(Head),
    /// `[rows, classes]`
    Logits(Tensor<2>),
    Chunks(&'a dyn Fn(Range<usize>) -> Tensor<2>),
    /// Log-probabilities `[rows, k]` and classes `i32 [rows * k]`.
    TopK(Tensor<2>, Tensor<1, Int>),
}

impl<'a> Teacher<'a> {
    /// A teacher of so many rows. Classes beyond those of the student are no part of it if products compute them.
    pub fn new<const D: usize>(
        teacher: LinearTeacher<'a, D>,
        rows: usize,
        student_classes: usize,
    ) -> Self {
        match teacher {
            LinearTeacher::Linear(logits) => Self::Head(Head::new(logits, rows, student_classes)),
            LinearTeacher::Logits(logits) => Self::Logits(matrix(logits, rows)),
            LinearTeacher::Chunks(logits) => Self::Chunks(logits),
            LinearTeacher::TopK {
                log_probabilities,
                ids,
            } => {
                let places = rows * ids.dims()[D - 1];
                let ids = to_i32(ids.inner().reshape([places]), EMPTY_PLACE);
                Self::TopK(matrix(log_probabilities, rows), ids)
            }
        }
    }

    /// The teacher's logits of a range of rows, and the classes if it is a list.
    pub fn logits(
        &self,
        rows: Range<usize>,
        device: &Device,
    ) -> Result<(Tensor<2>, Option<Tensor<1, Int>>)> {
        match self {
            Self::Head(head) => Ok((head.logits(rows), None)),
            Self::Logits(logits) => Ok((rows_of(logits, rows), None)),
            Self::Chunks(logits) => {
                let logits = logits(rows.clone());
                check_chunk(&logits, &rows, device)?;
                Ok((logits.inner(), None))
            }
            Self::TopK(log_probabilities, ids) => {
                let [_, k] = log_probabilities.dims();
                let places = rows.start * k..rows.end * k;
                let ids = ids.clone().slice(places);
                Ok((rows_of(log_probabilities, rows), Some(ids)))
            }
        }
    }
}

/// Checks the logits that a function returned for a range of rows.
fn check_chunk(logits: &Tensor<2>, rows: &Range<usize>, device: &Device) -> Result<()> {
    const NAME: &str = "a chunk of teacher logits";
    let shape = logits.dims();
    if shape[0] != rows.len() {
        return Err(Error::LinearShape {
            name: NAME,
            shape: shape.to_vec(),
            expected: format!("[{}, classes] for the rows {rows:?}", rows.len()),
        });
    }
    check_matrix(device, &(NAME, logits.dtype(), logits.device()))
}

/// `[rows, columns]` without autodiff, from as many rows in one or two dimensions.
pub(super) fn matrix<const D: usize>(tensor: Tensor<D>, rows: usize) -> Tensor<2> {
    let columns = tensor.dims()[D - 1];
    tensor.inner().reshape([rows, columns])
}

/// A range of the rows of a matrix.
pub(super) fn rows_of(matrix: &Tensor<2>, rows: Range<usize>) -> Tensor<2> {
    let [all, columns] = matrix.dims();
    match rows.len() == all {
        true => matrix.clone(),
        false => matrix.clone().slice([rows, 0..columns]),
    }
}
