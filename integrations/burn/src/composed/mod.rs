//! The loss by Burn's own operations, for every backend and for comparison with the kernels.
//!
//! Computes in f32 by the formulas as written, on tensors without autodiff. Masked classes and bad rows are replaced
//! first, since infinity times 0 is NaN.

mod choices;
mod part;
mod soft_part;
mod softmax;
mod sums;

use burn::tensor::{Bool, DType, FloatDType, IndexingUpdateOp, Int, IntDType, Tensor};
use wgpu_distill::{Config, Reduction};

pub(crate) use choices::Choices;
use part::Part;
use softmax::{Softmax, common_prefix, minus_log};
use sums::{over_classes, over_rows};

use crate::error::Result;
use crate::kernel_outputs::{LossTensors, ROW_WORDS, SUMMARY_WORDS, row_word, summary_word};
use crate::loss_call::LossCall;

// `distill` concatenates the words of its results in this order.
const _: () = {
    assert!(row_word::LOSS == 0 && row_word::KDR == 1 && row_word::TSSR == 2 && ROW_WORDS == 4);
    assert!(summary_word::LOSS == 0 && summary_word::KDR == 1 && summary_word::TSSR == 2);
    assert!(summary_word::VALID_ROWS == 3 && summary_word::IGNORED_ROWS == 4);
    assert!(summary_word::INVALID_LABELS == 5 && summary_word::NON_FINITE_ROWS == 6);
    assert!(SUMMARY_WORDS == 8);
};

/// `student` and `teacher` `[rows, classes]`, `labels` `[rows]`.
///
/// # Errors
/// [`Error::NotComposed`](crate::Error::NotComposed), before any operation.
pub(crate) fn distill(
    student: Tensor<2>,
    teacher: Tensor<2>,
    labels: Tensor<1, Int>,
    call: &LossCall,
    want_gradient: bool,
) -> Result<LossTensors> {
    let config = &call.config;
    let choices = Choices::of(config)?;
    let dtype = student.dtype();
    let [rows, classes] = student.dims();
    let device = student.device();
    let labels = labels.cast(IntDType::I32).reshape([rows, 1]);
    let ignored = labels.clone().equal_scalar(config.ignore_index);
    let outside = labels.clone().lower_scalar(0).bool_or(
        labels
            .clone()
            .greater_equal_scalar(label_classes(config, classes)),
    );
    let invalid = outside.bool_and(ignored.clone().bool_not());
    let student = student.cast(FloatDType::F32);
    let p = Softmax::of(student.clone(), config.student_temperature, &ignored);
    let q = Softmax::of(
        common_prefix(teacher.cast(FloatDType::F32), classes),
        config.teacher_temperature,
        &ignored,
    );
    let bad = p.bad.clone().bool_or(q.bad.clone());
    // Neither ignored, nor bad, nor with a label out of range.
    let good = ignored
        .clone()
        .bool_or(invalid.clone())
        .bool_or(bad.clone())
        .bool_not();
    let valid = ignored.clone().bool_or(invalid.clone()).bool_not();
    let averaged = good.clone().float().cast(FloatDType::F32);
    let averaged_rows = averaged.clone().sum().clamp_min(1.0);
    let mean = |x: Tensor<2>| {
        let kept = x.mask_fill(good.clone().bool_not(), 0.0);
        (over_rows(kept) / averaged_rows.clone()).reshape([1, 1])
    };

    let kdr = (choices.similarity)(&p, &q).clamp(0.0, 1.0);
    let selecting = (choices.scope)(kdr.clone(), mean(kdr.clone()).expand([rows, 1]));
    let tssr = (choices.selection)(call.progress.tstr(), selecting);

    let hard_softmax = choices
        .hard
        .temperature
        .map(|own| Softmax::of(student, own, &ignored));
    let h = hard_softmax.as_ref().unwrap_or(&p);
    let e = config.label_smoothing;
    let class = labels.clamp(0, classes as i64 - 1);
    let one = Tensor::ones([rows, 1], (&device, DType::F32));
    let one_hot = Tensor::<2>::zeros([rows, classes], (&device, DType::F32));
    let one_hot = one_hot.scatter(1, class, one, IndexingUpdateOp::Add);
    let truth = one_hot * (1.0 - e) + e / classes as f32;
    let hard = Part {
        value: over_classes(minus_log(&truth, &h.log)),
        gradient: want_gradient.then(|| h.probabilities.clone() - truth),
        share: tssr.clone(),
        loss_factor: choices.hard.loss_factor,
        gradient_factor: choices.hard.gradient_factor,
    };
    let divergence = (choices.soft)(&p, &q);
    let soft = Part {
        gradient: want_gradient.then(|| divergence.gradient(&p)),
        value: divergence.value,
        share: (tssr.clone().neg() + 1.0) * config.soft_weight,
        loss_factor: config.temperature_factor(),
        gradient_factor: config.gradient_factor(),
    };
    let z_loss = (config.z_loss != 0.0).then(|| {
        let lse = h.log_sum.clone();
        let factor = f64::from(config.z_loss);
        Part {
            value: lse.clone() * lse.clone(),
            gradient: want_gradient.then(|| h.probabilities.clone() * lse.clone() * 2.0),
            share: lse.ones_like(),
            loss_factor: factor,
            gradient_factor: factor * f64::from(config.grad_loss) / config.label_temperature(),
        }
    });
    let parts: Vec<Part> = [Some(hard), Some(soft), z_loss]
        .into_iter()
        .flatten()
        .collect();
    let loss = parts
        .iter()
        .map(Part::loss)
        .reduce(Tensor::add)
        .expect("two parts");

    let nan_rows = bad.clone().bool_or(invalid.clone());
    let with_nan_and_ignored = |x: Tensor<2>, nan: &Tensor<2, Bool>| {
        x.mask_fill(nan.clone(), f32::NAN)
            .mask_fill(ignored.clone(), 0.0)
    };
    let loss = with_nan_and_ignored(loss, &nan_rows);
    let count = |rows: Tensor<2, Bool>| rows.int().cast(IntDType::I32).sum();
    let valid_rows = count(valid);
    let denominator = (choices.denominator)(valid_rows.clone().float().cast(FloatDType::F32));
    let gradient = want_gradient.then(|| {
        let terms = parts.iter().filter_map(|part| part.gradient(&denominator));
        let gradient = terms.reduce(Tensor::add).expect("two parts");
        let whole = |rows_of: &Tensor<2, Bool>| rows_of.clone().expand([rows, classes]);
        gradient
            .mask_fill(whole(&nan_rows), f32::NAN)
            .mask_fill(whole(&ignored), 0.0)
            .cast(dtype)
    });
    let summary = Tensor::cat(
        vec![
            // Divided before the sum, because the sum of losses near the largest f32 would overflow.
            over_rows(loss.clone() / denominator.reshape([1, 1])),
            mean(kdr.clone()).reshape([1]),
            mean(tssr.clone()).reshape([1]),
            Tensor::zeros([5], (&device, DType::F32)),
        ],
        0,
    );
    let zeros = |n: usize| Tensor::<1, Int>::zeros([n], (&device, DType::I32));
    let counts = Tensor::cat(
        vec![
            zeros(3),
            valid_rows,
            count(ignored.clone()),
            count(invalid),
            count(bad.clone()),
            zeros(1),
        ],
        0,
    );
    let kdr = with_nan_and_ignored(kdr, &bad);
    let tssr = with_nan_and_ignored(tssr, &bad);
    let flags = loss.zeros_like();
    Ok(LossTensors {
        rows: Tensor::cat(vec![loss, kdr, tssr, flags], 1),
        summary,
        counts,
        gradient,
    })
}

/// Labels below this number are classes. It is 0 if the denominator is 0, because then no row has a label.
fn label_classes(config: &Config, classes: usize) -> i32 {
    match config.reduction {
        Reduction::SumOver(0.0) => 0,
        _ => i32::try_from(classes).unwrap_or(i32::MAX),
    }
}
