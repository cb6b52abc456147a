//! Training of a network: backpropagation from the gradient at its logits, and a step of Adam.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis, Zip, s};

use crate::network::{Activations, Layer, Network};

const FIRST_DECAY: f32 = 0.9;
const SECOND_DECAY: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// A network with the buffers for its training.
pub struct Learner {
    pub network: Network,
    activations: Activations,
    deltas: Vec<Array2<f32>>, // gradient at each layer's outputs [capacity, outputs], but for the last layer
    gradients: Vec<Layer>,
    first: Vec<Layer>,  // running mean of the gradient
    second: Vec<Layer>, // running mean of its square
    steps: i32,
}

impl Learner {
    /// Prepares `network` for batches of up to `rows` rows.
    pub fn new(network: Network, rows: usize) -> Self {
        let zeros: Vec<Layer> = network.layers.iter().map(Layer::zeros_like).collect();
        let hidden = &network.layers[..network.layers.len() - 1];
        Self {
            activations: network.activations(rows),
            deltas: hidden
                .iter()
                .map(|layer| Array2::zeros((rows, layer.bias.len())))
                .collect(),
            gradients: zeros.clone(),
            first: zeros.clone(),
            second: zeros,
            steps: 0,
            network,
        }
    }

    /// The logits for `inputs`, `[rows, classes]`.
    pub fn logits(&mut self, inputs: ArrayView2<f32>) -> &[f32] {
        self.network.forward(inputs, &mut self.activations);
        self.activations.logits()
    }

    /// Trains on the gradient at the logits, `[rows, classes]`. [`logits`](Self::logits) must have been called with the same `inputs`.
    pub fn learn(&mut self, inputs: ArrayView2<f32>, grad_logits: &[f32], learning_rate: f32) {
        self.backward(inputs, grad_logits);
        self.adam(learning_rate);
    }

    fn backward(&mut self, inputs: ArrayView2<f32>, grad_logits: &[f32]) {
        let rows = inputs.nrows();
        let last = self.network.layers.len() - 1;
        let grad_logits = ArrayView2::from_shape((rows, grad_logits.len() / rows), grad_logits)
            .expect("one gradient for each logit");
        for index in (0..=last).rev() {
            let (before, from_here) = self.deltas.split_at_mut(index);
            let delta = match from_here.first() {
                Some(delta) => delta.slice(s![..rows, ..]),
                None => grad_logits,
            };
            let input = match index {
                0 => inputs,
                _ => self.activations.outputs[index - 1].slice(s![..rows, ..]),
            };
            let gradient = &mut self.gradients[index];
            general_mat_mul(1.0, &input.t(), &delta, 0.0, &mut gradient.weights);
            gradient.bias.assign(&delta.sum_axis(Axis(0)));
            if let Some(below) = before.last_mut() {
                let mut below = below.slice_mut(s![..rows, ..]);
                let weights = &self.network.layers[index].weights;
                general_mat_mul(1.0, &delta, &weights.t(), 0.0, &mut below);
                // ReLU passes the gradient only where it passed the value.
                Zip::from(&mut below).and(&input).for_each(|grad, &value| {
                    if value <= 0.0 {
                        *grad = 0.0;
                    }
                });
            }
        }
    }

    /// One step of Adam (Kingma and Ba 2015).
    fn adam(&mut self, learning_rate: f32) {
        self.steps += 1;
        // Both running means start at zero, so they are biased towards zero at first.
        let first_scale = 1.0 / (1.0 - FIRST_DECAY.powi(self.steps));
        let second_scale = 1.0 / (1.0 - SECOND_DECAY.powi(self.steps));
        let update = |weight: &mut f32, &gradient: &f32, first: &mut f32, second: &mut f32| {
            *first += (1.0 - FIRST_DECAY) * (gradient - *first);
            *second += (1.0 - SECOND_DECAY) * (gradient * gradient - *second);
            *weight -=
                learning_rate * *first * first_scale / ((*second * second_scale).sqrt() + EPSILON);
        };
        let layers = self.network.layers.iter_mut().zip(&self.gradients);
        let means = self.first.iter_mut().zip(&mut self.second);
        for ((layer, gradient), (first, second)) in layers.zip(means) {
            Zip::from(&mut layer.weights)
                .and(&gradient.weights)
                .and(&mut first.weights)
                .and(&mut second.weights)
                .for_each(update);
            Zip::from(&mut layer.bias)
                .and(&gradient.bias)
                .and(&mut first.bias)
                .and(&mut second.bias)
                .for_each(update);
        }
    }
}
