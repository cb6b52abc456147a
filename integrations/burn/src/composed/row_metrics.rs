//! The metrics of rows by Burn's operations.

use burn::tensor::{Bool, FloatDType, Int, Tensor};
use wgpu_distill::RowMetrics;

use super::part::Part;
use super::softmax::{Softmax, product};
use super::sums::over_classes;
use crate::kernel_outputs::{METRIC_WORDS, word};

// `of` returns the metrics in this order, and two reserved words.
const _: () = {
    assert!(word!(RowMetrics, forward_kl) == 0 && word!(RowMetrics, teacher_entropy) == 1);
    assert!(word!(RowMetrics, student_entropy) == 2 && word!(RowMetrics, hard) == 3);
    assert!(word!(RowMetrics, soft) == 4 && word!(RowMetrics, student_lse) == 5);
    assert!(word!(RowMetrics, teacher_lse) == 6 && word!(RowMetrics, agreement) == 7);
    assert!(word!(RowMetrics, student_accuracy) == 8 && word!(RowMetrics, teacher_accuracy) == 9);
    assert!(METRIC_WORDS == 12);
};

/// One side of each row: the softmax of its logits, and where they are largest.
pub(super) struct Side<'a> {
    softmax: &'a Softmax,
    /// The classes with the largest logit, `[rows, classes]`.
    largest: Tensor<2, Bool>,
}

impl<'a> Side<'a> {
    pub fn new(logits: Tensor<2>, softmax: &'a Softmax) -> Self {
        let max = logits.clone().max_dim(1).expand(logits.dims());
        Self {
            softmax,
            largest: logits.equal(max),
        }
    }

    /// `- sum p ln p`, `[rows, 1]`
    fn entropy(&self) -> Tensor<2> {
        over_classes(product(self.softmax.probabilities(), self.softmax.log())).neg()
    }

    /// 1 if a class of the row has the largest logit, else 0. `class` is `[rows, 1]`.
    fn accuracy(&self, class: &Tensor<2, Int>) -> Tensor<2> {
        one(self.largest.clone()).gather(1, class.clone())
    }
}

fn one(condition: Tensor<2, Bool>) -> Tensor<2> {
    condition.float().cast(FloatDType::F32)
}

/// The metrics of each row, as columns `[rows, 1]`. They have no meaning for bad and ignored rows. `labels` are `[rows, 1]`.
pub(super) fn of(
    student: &Side<'_>,
    teacher: &Side<'_>,
    hard: &Part,
    soft: &Part,
    labels: &Tensor<2, Int>,
) -> [Tensor<2>; METRIC_WORDS] {
    let (p, q) = (student.softmax, teacher.softmax);
    let terms = product(q.probabilities(), q.log() - p.log());
    let forward_kl = over_classes(terms).clamp_min(0.0);
    let infinite = forward_kl.clone().is_inf();
    let both = student.largest.clone().bool_and(teacher.largest.clone());
    let [_, classes] = both.dims();
    let class = labels.clone().clamp(0, classes as i64 - 1);
    let reserved = p.sum.zeros_like();
    [
        forward_kl,
        teacher.entropy().mask_fill(infinite, f32::NAN),
        student.entropy(),
        hard.value.clone(),
        soft.value.clone(),
        p.log_sum(),
        q.log_sum(),
        one(both.any_dim(1)),
        student.accuracy(&class),
        teacher.accuracy(&class),
        reserved.clone(),
        reserved,
    ]
}
