//! The gradient as nodes of candle's graph.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use wgpu_distill::half::{bf16, f16};

/// The node from the student's logits to the loss. The gradient was computed together with the loss.
///
/// The gradient is kept in f32 until the upstream gradient is known, so that a loss scale keeps the small numbers of f16.
pub(crate) struct LossNode {
    /// The loss, one number or one for each row.
    pub loss: Vec<f32>,
    pub shape: Shape,
    /// `[rows, classes]` without gaps.
    pub gradient: Arc<Vec<f32>>,
}

impl CustomOp1 for LossNode {
    fn name(&self) -> &'static str {
        "distillation-loss"
    }

    fn cpu_fwd(&self, _student: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.loss.clone()), self.shape.clone()))
    }

    fn bwd(&self, student: &Tensor, _loss: &Tensor, upstream: &Tensor) -> Result<Option<Tensor>> {
        let node = GradientNode {
            gradient: self.gradient.clone(),
            factors: upstream.flatten_all()?.to_vec1()?,
        };
        student.apply_op1(node).map(Some)
    }
}

/// The node from the student's logits to their gradient. It has no backward, so that a second derivative is an error and not 0.
struct GradientNode {
    gradient: Arc<Vec<f32>>,
    /// The upstream gradient: one number, or one for each row.
    factors: Vec<f32>,
}

impl GradientNode {
    /// The products of gradient and upstream gradient, rounded once to the storage type.
    fn products<T>(&self, classes: usize, round: impl Fn(f32) -> T) -> Vec<T> {
        let mut products = Vec::with_capacity(self.gradient.len());
        for (row, gradient) in self.gradient.chunks_exact(classes).enumerate() {
            let factor = match self.factors[..] {
                [factor] => factor,
                _ => self.factors[row],
            };
            products.extend(gradient.iter().map(|g| round(g * factor)));
        }
        products
    }
}

impl CustomOp1 for GradientNode {
    fn name(&self) -> &'static str {
        "distillation-loss-gradient"
    }

    fn cpu_fwd(&self, student: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let classes = layout.dims().last().copied().unwrap_or(1);
        let storage = match student {
            CpuStorage::F32(_) => CpuStorage::F32(self.products(classes, |g| g)),
            CpuStorage::F16(_) => CpuStorage::F16(self.products(classes, f16::from_f32)),
            CpuStorage::BF16(_) => CpuStorage::BF16(self.products(classes, bf16::from_f32)),
            _ => bail!("logits are f32, f16 or bf16"),
        };
        Ok((storage, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        bail!(
            "the distillation loss has no second derivative; detach the gradient before a loss depends on it"
        )
    }
}
