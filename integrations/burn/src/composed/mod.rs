//! The loss by Burn's own operations, for every backend and for comparison with the kernels.
//!
//! Computes in f32 by the formulas as written, on tensors without autodiff. Masked classes and bad rows are replaced
//! first, since infinity times 0 is NaN.

mod choices;
mod part;
mod row_metrics;
mod soft_part;
mod softmax;
mod sums;
mod truth;

use burn::tensor::{Bool, DType, FloatDType, Int, IntDType, Tensor};
use wgpu_distill::{Config, Reduction};

pub(crate) use choices::Choices;
use part::{Part, times};
use row_metrics::Side;
use soft_part::weighted_cross_entropy;
use softmax::{Softmax, common_prefix};
use sums::over_rows;
use truth::{ClassWeights, Truth, wrong_soft_labels};

use crate::error::Result;
use crate::kernel_inputs::Arguments;
use crate::kernel_outputs::{
    LossTensors, METRIC_WORDS, RESULT_WORDS, SUMMARY_WORDS, row_word, summary_word,
};
use crate::loss_call::LossCall;

// `distill` concatenates the words of its results in this order.
const _: () = {
    assert!(row_word::LOSS == 0 && row_word::KDR == 1 && row_word::TSSR == 2 && RESULT_WORDS == 4);
    assert!(summary_word::LOSS == 0 && summary_word::KDR == 1 && summary_word::TSSR == 2);
    assert!(summary_word::VALID_ROWS == 3 && summary_word::IGNORED_ROWS == 4);
    assert!(summary_word::INVALID_LABELS == 5 && summary_word::NON_FINITE_ROWS == 6);
    // A reserved word, then the metrics.
    assert!(row_word::METRICS == 4 && summary_word::METRICS == 8);
    assert!(SUMMARY_WORDS == summary_word::METRICS + METRIC_WORDS);
};

/// The arguments are without autodiff.
///
/// # Errors
/// [`Error::NotComposed`](crate::Error::NotComposed), before any operation.
pub(crate) fn distill(
    arguments: Arguments,
    call: &LossCall,
    want_gradient: bool,
) -> Result<LossTensors> {
    let config = &call.config;
    let choices = Choices::of(config)?;
    let Arguments {
        student,
        teacher,
        // Refused before.
        teacher_ids: _,
        labels,
        soft_labels,
        row_weights,
        class_weights,
    } = arguments;
    let dtype = call.gradient_type(student.dtype());
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
    let teacher = common_prefix(teacher.cast(FloatDType::F32), classes);
    let logits = call.row_metrics.then(|| [student.clone(), teacher.clone()]);
    let p = Softmax::of(student.clone(), config.student_temperature, &ignored);
    let q = Softmax::of(teacher, config.teacher_temperature, &ignored);
    let mut bad = p.bad.clone().bool_or(q.bad.clone());
    let row_weights = row_weights.map(|weights| weights.reshape([rows, 1]));
    let class_weights = class_weights.map(|w| ClassWeights::of(w, &labels, config, &choices));
    let soft_labels = soft_labels.map(|labels| labels.cast(FloatDType::F32));
    let not_finite = row_weights.clone().map(|w| w.is_finite().bool_not());
    let out_of_range = [
        class_weights.as_ref().map(|weights| weights.wrong.clone()),
        soft_labels.as_ref().map(wrong_soft_labels),
    ];
    for wrong in out_of_range.into_iter().chain([not_finite]).flatten() {
        bad = bad.bool_or(wrong.bool_and(ignored.clone().bool_not()));
    }
    // Neither ignored, nor bad, nor with a label out of range.
    let good = ignored
        .clone()
        .bool_or(invalid.clone())
        .bool_or(bad.clone())
        .bool_not();
    let valid = ignored.clone().bool_or(invalid.clone()).bool_not();

    let kdr = (choices.similarity)(&p, &q).clamp(0.0, 1.0);
    let selecting = (choices.scope)(kdr.clone(), mean(&kdr, &good).expand([rows, 1]));
    let tssr = (choices.selection)(call.progress.tstr(), selecting);

    let hard_softmax = choices
        .hard
        .temperature
        .map(|own| Softmax::of(student, own, &ignored));
    let h = hard_softmax.as_ref().unwrap_or(&p);
    let (hard_weights, soft_weights) = class_weights.map_or((None, None), |w| (w.hard, w.soft));
    let truth =
        Truth::of(&labels, classes, soft_labels, config.label_smoothing).weighted(hard_weights);
    let hard = Part::hard(truth, h, &tssr, &choices.hard, want_gradient);
    let divergence = match soft_weights {
        Some(weights) => weighted_cross_entropy(&p, &q, weights),
        None => (choices.soft)(&p, &q),
    };
    let has_none = divergence.has_none();
    let soft = Part::soft(divergence, &p, &tssr, config, want_gradient);
    let z_loss = (config.z_loss != 0.0).then(|| Part::z_loss(h, config, want_gradient));
    let mut loss = hard.loss() + soft.loss();
    if let Some(z_loss) = &z_loss {
        loss = loss + z_loss.loss();
    }
    if let Some(weights) = &row_weights {
        loss = times(loss, weights.clone());
    }

    let skipped = if choices.skips {
        // An infinite divergence without a derivative, unless its share is 0.
        let undefined = has_none
            .bool_and(soft.share.clone().equal_scalar(0.0).bool_not())
            .bool_and(loss.clone().is_inf());
        undefined.bool_or(bad.clone()).bool_and(valid.clone())
    } else {
        bad.clone().bool_and(bad.clone().bool_not())
    };
    let left_out = ignored.clone().bool_or(skipped.clone());
    let averaged = good.bool_and(skipped.clone().bool_not());

    let nan_rows = bad.clone().bool_or(invalid.clone());
    let with_nan_and_left_out = |x: Tensor<2>, nan: &Tensor<2, Bool>| {
        x.mask_fill(nan.clone(), f32::NAN)
            .mask_fill(left_out.clone(), 0.0)
    };
    let loss = with_nan_and_left_out(loss, &nan_rows);
    let count = |rows: Tensor<2, Bool>| rows.int().cast(IntDType::I32).sum();
    let valid_rows = count(valid);
    let denominator = (choices.denominator)(valid_rows.clone().float().cast(FloatDType::F32));
    let metrics = logits.map(|[student, teacher]| {
        let student = Side::new(student, &p);
        row_metrics::of(&student, &Side::new(teacher, &q), &hard, &soft, &labels)
    });
    let parts = [Some(hard), Some(soft), z_loss].into_iter().flatten();
    let terms = parts.filter_map(|part| part.gradient(&denominator));
    let gradient = terms.reduce(Tensor::add).map(|gradient| {
        let whole = |rows_of: &Tensor<2, Bool>| rows_of.clone().expand([rows, classes]);
        let gradient = match row_weights {
            Some(weights) => times(gradient, weights),
            None => gradient,
        };
        gradient
            .mask_fill(whole(&nan_rows), f32::NAN)
            .mask_fill(whole(&left_out), 0.0)
            .cast(dtype)
    });
    let unused = |words: usize| Tensor::zeros([words], (&device, DType::F32));
    let mut summary = vec![
        // Divided before the sum, because the sum of losses near the largest f32 would overflow.
        over_rows(loss.clone() / denominator.reshape([1, 1])),
        mean(&kdr, &averaged).reshape([1]),
        mean(&tssr, &averaged).reshape([1]),
        unused(summary_word::METRICS - 3),
    ];
    let zeros = |n: usize| Tensor::<1, Int>::zeros([n], (&device, DType::I32));
    let counts = Tensor::cat(
        vec![
            zeros(3),
            valid_rows,
            count(ignored.clone()),
            count(invalid),
            count(bad.clone().bool_or(skipped)),
            zeros(SUMMARY_WORDS - 7),
        ],
        0,
    );
    let kdr = with_nan_and_left_out(kdr, &bad);
    let tssr = with_nan_and_left_out(tssr, &bad);
    let flags = loss.zeros_like();
    let mut rows = vec![loss, kdr, tssr, flags];
    match metrics {
        None => summary.push(unused(METRIC_WORDS)),
        Some(metrics) => {
            for metric in metrics {
                summary.push(mean(&metric, &averaged).reshape([1]));
                rows.push(with_nan_and_left_out(metric, &nan_rows));
            }
        }
    }
    Ok(LossTensors {
        rows: Tensor::cat(rows, 1),
        summary: Tensor::cat(summary, 0),
        counts,
        gradient,
    })
}

/// The mean of a column `[rows, 1]` over some rows, `[1, 1]`; 0 if there are none.
fn mean(column: &Tensor<2>, averaged: &Tensor<2, Bool>) -> Tensor<2> {
    let rows = averaged.clone().float().cast(FloatDType::F32).sum();
    let kept = column.clone().mask_fill(averaged.clone().bool_not(), 0.0);
    (over_rows(kept) / rows.clamp_min(1.0)).reshape([1, 1])
}

/// Labels below this number are classes. It is 0 if the denominator is 0, because then no row has a label.
fn label_classes(config: &Config, classes: usize) -> i32 {
    match config.reduction {
        Reduction::SumOver(0.0) => 0,
        _ => i32::try_from(classes).unwrap_or(i32::MAX),
    }
}
