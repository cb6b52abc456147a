//! The parts of the loss, each with its share of it, by Burn's operations.

use burn::tensor::Tensor;

/// One part of the loss: the hard part, the soft part or the z-loss.
pub(super) struct Part {
    /// `[rows, 1]`
    pub value: Tensor<2>,
    /// `[rows, 1]`
    pub share: Tensor<2>,
    /// Multiplies value and share.
    pub loss_factor: f64,
    /// Multiplies derivative and share.
    pub gradient_factor: f64,
}

/// A product of columns; 0 where the share is 0, even if the part is infinite.
pub(super) fn times(part: Tensor<2>, share: Tensor<2>) -> Tensor<2> {
    let none = share.clone().equal_scalar(0.0);
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

    /// The factor of the derivative of its value in the gradient, divided by the reduction's `denominator` `[1]`, `[rows, 1]`.
    pub fn scale(&self, denominator: &Tensor<1>) -> Tensor<2> {
        // The quotient of factor and denominator is in range; the product of factor and derivative need not be.
        let scale = denominator.clone().recip() * self.gradient_factor as f32;
        self.share.clone() * scale.reshape([1, 1])
    }
}
