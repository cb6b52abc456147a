//! A dense network with ReLU between its layers: weights and the forward pass.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use crate::random::Random;

/// One layer's weights and bias, or other values of the same shape.
#[derive(Clone)]
pub struct Layer {
    pub weights: Array2<f32>, // [inputs, outputs]
    pub bias: Array1<f32>,    // [outputs]
}

impl Layer {
    /// A layer of zeros with the same shape.
    pub fn zeros_like(&self) -> Self {
        Self {
            weights: Array2::zeros(self.weights.raw_dim()),
            bias: Array1::zeros(self.bias.raw_dim()),
        }
    }
}

/// A dense network.
#[derive(Clone)]
pub struct Network {
    pub layers: Vec<Layer>,
}

impl Network {
    /// Creates a network with these numbers of inputs, hidden units and outputs. Weights are initialized as by He et al. (2015) for ReLU.
    pub fn new(sizes: &[usize], random: &mut Random) -> Self {
        let layers = sizes
            .windows(2)
            .map(|pair| {
                let deviation = (2.0 / pair[0] as f32).sqrt();
                Layer {
                    weights: Array2::from_shape_simple_fn((pair[0], pair[1]), || {
                        deviation * random.normal()
                    }),
                    bias: Array1::zeros(pair[1]),
                }
            })
            .collect();
        Self { layers }
    }

    /// Creates buffers for forward passes of up to `rows` rows.
    pub fn activations(&self, rows: usize) -> Activations {
        Activations {
            outputs: self
                .layers
                .iter()
                .map(|layer| Array2::zeros((rows, layer.bias.len())))
                .collect(),
            rows: 0,
        }
    }

    /// Computes the outputs of every layer for `inputs`, `[rows, inputs]`.
    pub fn forward(&self, inputs: ArrayView2<f32>, activations: &mut Activations) {
        let rows = inputs.nrows();
        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate() {
            let (before, from_here) = activations.outputs.split_at_mut(index);
            let input = match before.last() {
                Some(outputs) => outputs.slice(s![..rows, ..]),
                None => inputs,
            };
            let mut output = from_here[0].slice_mut(s![..rows, ..]);
            output.assign(&layer.bias);
            general_mat_mul(1.0, &input, &layer.weights, 1.0, &mut output);
            if index < last {
                output.mapv_inplace(|v| v.max(0.0));
            }
        }
        activations.rows = rows;
    }

    /// The logits for all of `inputs`, `[rows, inputs]`, in passes of up to `chunk` rows: `[rows, classes]`.
    pub fn all_logits(&self, inputs: ArrayView2<f32>, chunk: usize) -> Array2<f32> {
        let mut activations = self.activations(chunk);
        let mut logits = Array2::zeros((inputs.nrows(), activations.classes()));
        for (inputs, mut logits) in inputs
            .axis_chunks_iter(Axis(0), chunk)
            .zip(logits.axis_chunks_iter_mut(Axis(0), chunk))
        {
            self.forward(inputs, &mut activations);
            let last = &activations.outputs[activations.outputs.len() - 1];
            logits.assign(&last.slice(s![..inputs.nrows(), ..]));
        }
        logits
    }

    /// The fraction of `inputs`, `[rows, inputs]`, whose largest logit is at their label.
    pub fn accuracy(
        &self,
        inputs: ArrayView2<f32>,
        labels: &[i32],
        activations: &mut Activations,
    ) -> f64 {
        let chunk = activations.capacity();
        let mut right = 0;
        for (start, labels) in (0..).step_by(chunk).zip(labels.chunks(chunk)) {
            self.forward(
                inputs.slice(s![start..start + labels.len(), ..]),
                activations,
            );
            let classes = activations.classes();
            for (logits, &label) in activations.logits().chunks_exact(classes).zip(labels) {
                let largest = (0..classes).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
                right += usize::from(largest == Some(label as usize));
            }
        }
        right as f64 / labels.len() as f64
    }
}

/// The outputs of every layer after a forward pass.
pub struct Activations {
    pub outputs: Vec<Array2<f32>>, // of each layer [capacity, outputs]
    rows: usize,
}

impl Activations {
    /// The largest number of rows.
    pub fn capacity(&self) -> usize {
        self.outputs[0].nrows()
    }

    /// Outputs of the last layer.
    fn classes(&self) -> usize {
        self.outputs[self.outputs.len() - 1].ncols()
    }

    /// The last forward pass's logits, `[rows, classes]`.
    pub fn logits(&self) -> &[f32] {
        let logits = &self.outputs[self.outputs.len() - 1];
        // New ndarrays are row-major without gaps.
        let numbers = logits.as_slice().expect("rows lie close together");
        &numbers[..self.rows * logits.ncols()]
    }
}

/// The number of parameters of a network with these numbers of inputs, hidden units and outputs.
pub fn parameters(sizes: &[usize]) -> usize {
    sizes.windows(2).map(|pair| (pair[0] + 1) * pair[1]).sum()
}
