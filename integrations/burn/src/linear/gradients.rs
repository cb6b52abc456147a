//! The gradients of hidden states and head, from those of the logits of one chunk after another.

use std::ops::Range;

use burn::tensor::{Bool, DType, FloatDType, Tensor};

use super::head::Head;

/// The gradients that a call wants.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub hidden_states: bool,
    pub weights: bool,
    pub bias: bool,
}

impl Wanted {
    pub fn any(&self) -> bool {
        self.hidden_states || self.weights || self.bias
    }
}

/// Sums over the rows so far, in f32 whatever the type of the head is.
pub(super) struct Gradients {
    pub wanted: Wanted,
    /// `f32 [classes, hidden]`, if the hidden states get a gradient.
    weights: Option<Tensor<2>>,
    /// `f32 [rows, hidden]`, of which the rows of the chunks so far are written.
    of_hidden_states: Option<Tensor<2>>,
    /// `f32 [hidden, classes]`: the smaller operand of its products is the one that is transposed.
    of_weights: Option<Tensor<2>>,
    of_bias: Option<Tensor<2>>,
}

/// The gradients of a call, each `f32` and there if it is wanted.
pub(super) struct Finished {
    /// `[rows, hidden]`
    pub hidden_states: Option<Tensor<2>>,
    /// `[hidden, classes]`
    pub weights: Option<Tensor<2>>,
    /// `[1, classes]`
    pub bias: Option<Tensor<2>>,
}

impl Gradients {
    pub fn new(wanted: Wanted, student: &Head) -> Self {
        let weights = || to_f32(student.weights.clone());
        let states = &student.hidden_states;
        let zeros = || Tensor::zeros(states.dims(), (&states.device(), DType::F32));
        Self {
            wanted,
            weights: wanted.hidden_states.then(weights),
            of_hidden_states: wanted.hidden_states.then(zeros),
            of_weights: None,
            of_bias: None,
        }
    }

    /// Adds a chunk of rows with the gradient of its logits. Rows that are `idle`, `[rows of the chunk, 1]`, have the gradient 0, and what
    /// their hidden states hold does not reach that of the head.
    pub fn add(
        &mut self,
        student: &Head,
        rows: Range<usize>,
        of_logits: Tensor<2>,
        idle: Tensor<2, Bool>,
    ) {
        let of_logits = to_f32(of_logits);
        let hidden_states = student.hidden_states(rows.clone());
        let [_, hidden] = hidden_states.dims();
        let idle = idle.expand(hidden_states.dims());
        if let Some((weights, all)) = self.weights.clone().zip(self.of_hidden_states.take()) {
            // 0 times a weight that is not finite would be NaN.
            let own = of_logits.clone().matmul(weights);
            let own = own.mask_fill(idle.clone(), 0.0);
            self.of_hidden_states = Some(all.slice_assign([rows, 0..hidden], own));
        }
        if self.wanted.bias {
            let own = of_logits.clone().sum_dim(0);
            self.of_bias = Some(plus(self.of_bias.take(), own));
        }
        if self.wanted.weights {
            let hidden_states = to_f32(hidden_states).mask_fill(idle, 0.0);
            let own = hidden_states.transpose().matmul(of_logits);
            self.of_weights = Some(plus(self.of_weights.take(), own));
        }
    }

    /// The gradients of all rows, at least one chunk.
    pub fn finish(self) -> Finished {
        Finished {
            hidden_states: self.of_hidden_states,
            weights: self.of_weights,
            bias: self.of_bias,
        }
    }
}

fn plus(sum: Option<Tensor<2>>, own: Tensor<2>) -> Tensor<2> {
    match sum {
        Some(sum) => sum + own,
        None => own,
    }
}

fn to_f32(matrix: Tensor<2>) -> Tensor<2> {
    matrix.cast(FloatDType::F32)
}
