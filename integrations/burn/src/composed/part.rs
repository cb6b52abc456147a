//! The parts of the loss, each with its share of it, by Burn's operations.

use burn::tensor::Tensor;

/// One part of the loss: the hard part, the soft part or the z-loss.
pub(super) struct Part {
    /// `[rows, 1]`
    pub value: Tensor<2>,
    /// The derivative of the value, without `gradient_factor`, `[rows, classes]`; `None` if it is not needed.
    pub gradient: Option<Tensor<2>>,
    /// `[rows, 1]`
    pub share: Tensor<2>,
    /// Multiplies value and share.
    pub loss_factor: f64,
    /// Multiplies gradient and share.
    pub gradient_factor: f64,
}

/// A product; 0 where the share is 0, even if the part is infinite.
fn times(part: Tensor<2>, share: Tensor<2>) -> Tensor<2> {
    let none = share.clone().equal_scalar(0.0).expand(part.dims());
    (part * share).mask_fill(none, 0.0)
}

impl Part {
    /// Its term of the loss before reduction, `[rows, 1]`.
    pub fn loss(&self) -> Tensor<2> {
        times(
            self.value.clone(),
            self.share.clone() * self.loss_factor as f32,
        )
    }

    /// Its term of the gradient, divided by the reduction's `denominator` `[1]`.
    pub fn gradient(&self, denominator: &Tensor<1>) -> Option<Tensor<2>> {
        // The quotient of factor and denominator is in range; the product of factor and gradient need not be.
        let scale = denominator.clone().recip() * self.gradient_factor as f32;
        let share = self.share.clone() * scale.reshape([1, 1]);
        Some(times(self.gradient.clone()?, share))
    }
}
