//! EK, the distribution of each row's label, by Burn's operations: of one class or a soft label, smoothed, with the weights of the classes.

use burn::tensor::{Bool, DType, IndexingUpdateOp, Int, Tensor};
use wgpu_distill::Config;

use super::choices::Choices;
use super::sums::over_classes;

/// The largest number of a soft label, and the largest weight of a class.
const MOST: f32 = 1e6;

fn is_out_of_range<const D: usize>(x: &Tensor<D>) -> Tensor<D, Bool> {
    let outside = x.clone().lower_scalar(0.0);
    let outside = outside.bool_or(x.clone().greater_scalar(MOST));
    outside.bool_or(x.clone().is_nan())
}

/// The class of each label, clamped to the classes, `[rows, 1]`.
fn class(labels: &Tensor<2, Int>, classes: usize) -> Tensor<2, Int> {
    labels.clone().clamp(0, classes as i64 - 1)
}

/// The weights of the classes for each part that has them, `[1, classes]`. A weight out of range is 0.
pub(super) struct ClassWeights {
    pub hard: Option<Tensor<2>>,
    pub soft: Option<Tensor<2>>,
    /// Rows that use a weight out of range, `[rows, 1]`.
    pub wrong: Tensor<2, Bool>,
}

impl ClassWeights {
    /// `weights` are `f32 [classes]`, `labels` `[rows, 1]`.
    pub fn of(
        weights: Tensor<1>,
        labels: &Tensor<2, Int>,
        config: &Config,
        choices: &Choices,
    ) -> Self {
        let ([classes], [rows, _]) = (weights.dims(), labels.dims());
        let out_of_range = is_out_of_range(&weights);
        let wrong = if choices.weighted.soft || config.label_smoothing > 0.0 {
            out_of_range.clone().any().reshape([1, 1]).expand([rows, 1])
        } else {
            let class = class(labels, classes);
            let of_label = weights.clone().select(0, class.clone().reshape([rows]));
            let used = class.equal(labels.clone());
            is_out_of_range(&of_label).reshape([rows, 1]).bool_and(used)
        };
        let weights = weights.mask_fill(out_of_range, 0.0).reshape([1, classes]);
        Self {
            hard: choices.weighted.hard.then(|| weights.clone()),
            soft: choices.weighted.soft.then_some(weights),
            wrong,
        }
    }
}

/// Rows of soft labels with a number out of range, `[rows, 1]`.
pub(super) fn wrong_soft_labels(soft_labels: &Tensor<2>) -> Tensor<2, Bool> {
    is_out_of_range(soft_labels).any_dim(1)
}

/// The terms of EK.
pub(super) struct Truth {
    /// `[rows, classes]`
    pub terms: Tensor<2>,
    /// Each row's terms sum to 1.
    pub sums_to_one: bool,
}

impl Truth {
    /// The soft label of each row, `f32 [rows, classes]`, or else its class, `[rows, 1]`, smoothed.
    pub fn of(
        class: &Tensor<2, Int>,
        classes: usize,
        soft_labels: Option<Tensor<2>>,
        smoothing: f32,
    ) -> Self {
        let sums_to_one = soft_labels.is_none();
        let given = soft_labels.unwrap_or_else(|| one_hot(class, classes));
        Self {
            terms: given * (1.0 - smoothing) + smoothing / classes as f32,
            sums_to_one,
        }
    }

    /// The sum of each row's terms, `[rows, 1]`.
    pub fn mass(&self) -> Tensor<2> {
        let sum = over_classes(self.terms.clone());
        match self.sums_to_one {
            true => sum.ones_like(),
            false => sum,
        }
    }

    /// Each term times the weight of its class, `[1, classes]`, if there are weights.
    pub fn weighted(self, weights: Option<Tensor<2>>) -> Self {
        match weights {
            None => self,
            Some(weights) => Self {
                terms: self.terms * weights,
                sums_to_one: false,
            },
        }
    }
}

fn one_hot(class: &Tensor<2, Int>, classes: usize) -> Tensor<2> {
    let [rows, _] = class.dims();
    let device = class.device();
    let one = Tensor::ones([rows, 1], (&device, DType::F32));
    let zeros = Tensor::<2>::zeros([rows, classes], (&device, DType::F32));
    zeros.scatter(1, class.clone(), one, IndexingUpdateOp::Add)
}
