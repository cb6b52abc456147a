//! The softmax of a matrix of logits, with its logarithm, by Burn's operations.

use burn::tensor::{Bool, DType, Tensor};

use super::sums::over_classes;

/// The softmax of a matrix of logits and its logarithm.
pub(super) struct Softmax {
    /// `[rows, classes]`, 0 at masked classes and in bad rows.
    pub probabilities: Tensor<2>,
    /// `[rows, classes]`, `-inf` at masked classes, 0 in bad rows.
    pub log: Tensor<2>,
    /// The log-sum-exp of the logits over the temperature, `[rows, 1]`.
    pub log_sum: Tensor<2>,
    /// `[rows, 1]`: the row has NaN or `+inf`, or only `-inf`. False in ignored rows.
    pub bad: Tensor<2, Bool>,
}

impl Softmax {
    pub fn of(logits: Tensor<2>, temperature: f32, ignored: &Tensor<2, Bool>) -> Self {
        let infinite = logits.clone().is_inf();
        let negative = logits.clone().lower_scalar(0.0);
        let masked = infinite.clone().bool_and(negative.clone());
        let wrong = logits
            .clone()
            .is_nan()
            .bool_or(infinite.bool_and(negative.bool_not()));
        let none = masked.clone().all_dim(1);
        let [rows, classes] = logits.dims();
        let unusable = wrong.any_dim(1).bool_or(none);
        let aside = unusable.clone().bool_or(ignored.clone());
        let whole = aside.clone().expand([rows, classes]);
        let masked = masked.bool_and(whole.clone().bool_not());
        // Bad and ignored rows are computed as rows of zeros, masked classes as the lowest f32.
        let logits = logits
            .mask_fill(whole.clone(), 0.0)
            .mask_fill(masked.clone(), f32::MIN);
        let max = logits.clone().max_dim(1);
        let z = ((logits - max.clone()) / temperature).mask_fill(masked.clone(), f32::NEG_INFINITY);
        let powers = z.clone().exp().mask_fill(masked, 0.0);
        let sum = over_classes(powers.clone());
        let ln_sum = sum.clone().log();
        Self {
            probabilities: (powers / sum).mask_fill(whole.clone(), 0.0),
            log: (z - ln_sum.clone()).mask_fill(whole, 0.0),
            log_sum: max / temperature + ln_sum,
            bad: unusable.bool_and(ignored.clone().bool_not()),
        }
    }
}

/// The first `classes` columns of the teacher. Columns that it lacks are masked.
pub(super) fn common_prefix(teacher: Tensor<2>, classes: usize) -> Tensor<2> {
    let [rows, teacher_classes] = teacher.dims();
    if teacher_classes >= classes {
        return teacher.slice([0..rows, 0..classes]);
    }
    let device = teacher.device();
    let masked = Tensor::full(
        [rows, classes - teacher_classes],
        f32::NEG_INFINITY,
        (&device, DType::F32),
    );
    Tensor::cat(vec![teacher, masked], 1)
}

/// `x (ln a - ln b)`; 0 where `x` is 0.
pub(super) fn weighted(x: &Tensor<2>, ln_a: Tensor<2>, ln_b: Tensor<2>) -> Tensor<2> {
    let none = x.clone().equal_scalar(0.0);
    (x.clone() * (ln_a - ln_b)).mask_fill(none, 0.0)
}

/// `- x ln a`; 0 where `x` is 0.
pub(super) fn minus_log(x: &Tensor<2>, ln_a: &Tensor<2>) -> Tensor<2> {
    let none = x.clone().equal_scalar(0.0);
    (x.clone() * ln_a.clone()).neg().mask_fill(none, 0.0)
}

/// `m = share a + (1 - share) b`, above 0 so that quotients and logarithms are finite.
pub(super) fn mixture(share: f32, a: &Softmax, b: &Softmax) -> Tensor<2> {
    let m = a.probabilities.clone() * share + b.probabilities.clone() * (1.0 - share);
    m.clamp_min(f32::MIN_POSITIVE)
}
