//! The denominator of a call, as in gradient accumulation.

use burn::tensor::{FloatDType, Int, Tensor};

/// The number by which a call divides the sum of its losses, in place of the configured reduction's: see
/// [`DistillationBatch::with_denominator`](crate::DistillationBatch::with_denominator).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Denominator {
    /// A number on the host, with the range of [`Reduction::SumOver`](crate::CoreReduction::SumOver): 0 states that no row has a label.
    Number(f32),
    /// A number on the device of the logits, `[1]`, any float type. Nothing is read back.
    Tensor(Tensor<1>),
    /// A count on the device of the logits, `[1]`, any integer type, as of
    /// [`DistillationLoss::labelled_rows`](crate::DistillationLoss::labelled_rows). Nothing is read back.
    Count(Tensor<1, Int>),
}

impl From<f32> for Denominator {
    fn from(number: f32) -> Self {
        Self::Number(number)
    }
}

impl From<Tensor<1>> for Denominator {
    fn from(number: Tensor<1>) -> Self {
        Self::Tensor(number)
    }
}

impl From<Tensor<1, Int>> for Denominator {
    fn from(count: Tensor<1, Int>) -> Self {
        Self::Count(count)
    }
}

impl Denominator {
    /// The tensor on the device, if it is one, as `f32 [1]` without autodiff.
    pub(crate) fn on_device(self) -> Option<Tensor<1>> {
        match self {
            Self::Number(_) => None,
            Self::Tensor(number) => Some(number.inner().cast(FloatDType::F32)),
            Self::Count(count) => Some(count.inner().cast(FloatDType::F32)),
        }
    }
}

/// The factor of loss and gradient of a sum: the reciprocal of the `denominator`, both `f32 [1]`.
///
/// It is 1 for a denominator of 0 and a batch without valid rows, whose sum is 0. A denominator that is not finite and above 0 else makes it
/// NaN.
pub(crate) fn reciprocal(denominator: Tensor<1>, valid_rows: Tensor<1, Int>) -> Tensor<1> {
    let zero = denominator.clone().equal_scalar(0.0);
    let none = zero.bool_and(valid_rows.equal_scalar(0));
    let positive = denominator.clone().greater_scalar(0.0);
    let usable = positive.bool_and(denominator.clone().is_finite());
    denominator
        .mask_fill(usable.bool_not(), f32::NAN)
        .mask_fill(none, 1.0)
        .recip()
}
