//! The parts of the loss, each with its share of it, by Burn's operations.

use burn::tensor::Tensor;
use wgpu_distill::Config;

use super::choices::Hard;
use super::soft_part::SoftPart;
use super::softmax::{Softmax, minus_log};
use super::sums::over_classes;
use super::truth::Truth;

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
pub(super) fn times(part: Tensor<2>, share: Tensor<2>) -> Tensor<2> {
    let none = share.clone().equal_scalar(0.0).expand(part.dims());
    (part * share).mask_fill(none, 0.0)
}

impl Part {
    /// The cross-entropy with the label: `h` is the student at the temperature of the hard part.
    pub fn hard(
        truth: Truth,
        h: &Softmax,
        tssr: &Tensor<2>,
        factors: &Hard,
        want_gradient: bool,
    ) -> Self {
        Self {
            value: over_classes(minus_log(&truth.terms, &h.log)),
            gradient: want_gradient.then(|| match truth.sums_to_one {
                true => h.probabilities.clone() - truth.terms,
                false => h.probabilities.clone() * over_classes(truth.terms.clone()) - truth.terms,
            }),
            share: tssr.clone(),
            loss_factor: factors.loss_factor,
            gradient_factor: factors.gradient_factor,
        }
    }

    /// The divergence of `p` from the teacher.
    pub fn soft(
        divergence: SoftPart,
        p: &Softmax,
        tssr: &Tensor<2>,
        config: &Config,
        want_gradient: bool,
    ) -> Self {
        Self {
            gradient: want_gradient.then(|| divergence.gradient(p)),
            value: divergence.value,
            share: (tssr.clone().neg() + 1.0) * config.soft_weight,
            loss_factor: config.temperature_factor(),
            gradient_factor: config.gradient_factor(),
        }
    }

    /// The square of the log-sum-exp, which no share multiplies.
    pub fn z_loss(h: &Softmax, config: &Config, want_gradient: bool) -> Self {
        let lse = &h.log_sum;
        let factor = f64::from(config.z_loss);
        Self {
            value: lse.clone() * lse.clone(),
            gradient: want_gradient.then(|| h.probabilities.clone() * lse.clone() * 2.0),
            share: lse.ones_like(),
            loss_factor: factor,
            gradient_factor: factor * f64::from(config.grad_loss) / config.label_temperature(),
        }
    }

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
