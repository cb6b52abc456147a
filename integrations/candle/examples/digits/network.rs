//! A network with one hidden layer.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::data::{CLASSES, PIXELS};
use crate::random::{Purpose, Random};

/// The device of all tensors.
pub const CPU: &Device = &Device::Cpu;

/// Two linear layers with a ReLU between them.
pub struct Network {
    /// Weights and bias of each layer.
    parameters: [Var; 4],
}

impl Network {
    /// A network with seeded weights. candle cannot seed its own random numbers on the CPU.
    pub fn new(hidden: usize, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed, Purpose::Weights);
        Ok(Self {
            parameters: [
                weights(PIXELS, hidden, &mut random)?,
                Var::zeros(hidden, DType::F32, CPU)?,
                weights(hidden, CLASSES, &mut random)?,
                Var::zeros(CLASSES, DType::F32, CPU)?,
            ],
        })
    }

    /// `[rows, CLASSES]` from `[rows, PIXELS]`.
    pub fn logits(&self, images: &Tensor) -> Result<Tensor> {
        let [first, first_bias, second, second_bias] = &self.parameters;
        let hidden = images.matmul(first)?.broadcast_add(first_bias)?.relu()?;
        hidden.matmul(second)?.broadcast_add(second_bias)
    }

    /// Moves each parameter against its gradient.
    pub fn descend(&self, grads: &GradStore, rate: f64) -> Result<()> {
        for parameter in &self.parameters {
            if let Some(gradient) = grads.get(parameter) {
                parameter.set(&(parameter.as_tensor().detach() - (gradient * rate)?)?)?;
            }
        }
        Ok(())
    }
}

/// Uniform weights `[inputs, outputs]` with the variance `2 / inputs` (He et al. 2015).
fn weights(inputs: usize, outputs: usize, random: &mut Random) -> Result<Var> {
    let limit = (6.0 / inputs as f32).sqrt();
    let weights = (0..inputs * outputs).map(|_| random.around_zero(limit));
    Var::from_tensor(&Tensor::from_vec(
        weights.collect(),
        (inputs, outputs),
        CPU,
    )?)
}
