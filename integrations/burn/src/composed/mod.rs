//! The loss by Burn's own operations, for every backend and for comparison with the kernels.
//!
//! Computes in f32, on tensors without autodiff, with few operations on matrices: the exponentials of both sides, sums of products, and a
//! gradient that is a sum of matrices times columns. Bad and ignored rows have numbers without meaning until the end, where they are replaced.

mod choices;
mod gradient;
mod matrices;
mod part;
mod row_metrics;
mod soft_part;
mod softmax;
mod sums;
mod truth;

use burn::tensor::{Bool, DType, FloatDType, Int, IntDType, Tensor};
use wgpu_distill::{Config, Reduction};

pub(crate) use choices::Choices;
use gradient::Gradient;
use matrices::{Inputs, Matrices};
use part::{Part, times};
use row_metrics::Side;
use softmax::{common_prefix, joined};
use sums::over_rows;
use truth::{ClassWeights, wrong_soft_labels};

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
    let class = labels.clone().clamp(0, classes as i64 - 1);
    let row_weights = row_weights.map(|weights| weights.reshape([rows, 1]));
    let class_weights = class_weights.map(|w| ClassWeights::of(w, &labels, config, &choices));
    let soft_labels = soft_labels.map(|labels| labels.cast(FloatDType::F32));
    let not_finite = row_weights.clone().map(|w| w.is_finite().bool_not());
    let out_of_range = [
        class_weights.as_ref().map(|weights| weights.wrong.clone()),
        soft_labels.as_ref().map(wrong_soft_labels),
    ];
    let student = student.cast(FloatDType::F32);
    let teacher = common_prefix(teacher.cast(FloatDType::F32), classes);
    let (student, teacher) = match choices.joins_masks {
        true => joined(student, teacher),
        false => (student, teacher),
    };

    let (hard_weights, soft_weights) = class_weights.map_or((None, None), |w| (w.hard, w.soft));
    let inputs = Inputs {
        student,
        teacher,
        class: class.clone(),
        soft_labels,
        hard_weights,
        soft_weights,
        wants_kdr: call.reports_kdr || config.selection.needs_kdr(),
        wants_metrics: call.row_metrics,
    };
    let Matrices {
        p,
        q,
        own,
        kdr,
        soft: divergence,
        truth,
        hard,
        for_metrics,
    } = Matrices::of(inputs, config, &choices);
    let h = own.as_ref().unwrap_or(&p);

    let mut bad = p.bad.clone().bool_or(q.bad.clone());
    for wrong in out_of_range.into_iter().chain([not_finite]).flatten() {
        bad = bad.bool_or(wrong);
    }
    let bad = bad.bool_and(ignored.clone().bool_not());
    // Neither ignored, nor bad, nor with a label out of range.
    let good = ignored
        .clone()
        .bool_or(invalid.clone())
        .bool_or(bad.clone())
        .bool_not();
    let valid = ignored.clone().bool_or(invalid.clone()).bool_not();

    let kdr = match kdr {
        Some(kdr) => kdr.clamp(0.0, 1.0),
        None => p.sum.zeros_like(),
    };
    let selecting = (choices.scope)(kdr.clone(), mean(&kdr, &good).expand([rows, 1]));
    let tssr = (choices.selection)(call.progress.tstr(), selecting);

    let soft = Part {
        value: divergence.value,
        share: (tssr.clone().neg() + 1.0) * config.soft_weight,
        loss_factor: config.temperature_factor(),
        gradient_factor: config.gradient_factor(),
    };
    let hard = Part {
        value: hard,
        share: tssr.clone(),
        loss_factor: choices.hard.loss_factor,
        gradient_factor: choices.hard.gradient_factor,
    };
    // The square of the log-sum-exp, which no share multiplies.
    let z_loss = (config.z_loss != 0.0).then(|| {
        let lse = h.log_sum();
        let factor = f64::from(config.z_loss);
        let part = Part {
            share: lse.ones_like(),
            value: lse.clone() * lse.clone(),
            loss_factor: factor,
            gradient_factor: factor * f64::from(config.grad_loss) / config.label_temperature(),
        };
        (part, lse)
    });
    let mut loss = hard.loss() + soft.loss();
    if let Some((z_loss, _)) = &z_loss {
        loss = loss + z_loss.loss();
    }
    if let Some(weights) = &row_weights {
        loss = times(loss, weights.clone());
    }

    // Rows with an infinite divergence without a derivative, unless its share or the row's weight is 0.
    let undefined = divergence.undefined.clone().map(|undefined| {
        let mut factor = soft.share.clone();
        if let Some(weights) = &row_weights {
            factor = factor * weights.clone();
        }
        undefined.bool_and(factor.equal_scalar(0.0).bool_not())
    });
    let skipped = choices.skips.then(|| {
        let undefined = undefined.clone().map(|u| u.bool_and(loss.clone().is_inf()));
        let broken = match undefined {
            Some(undefined) => undefined.bool_or(bad.clone()),
            None => bad.clone(),
        };
        broken.bool_and(valid.clone())
    });
    let or_skipped = |rows: Tensor<2, Bool>| match &skipped {
        Some(skipped) => rows.bool_or(skipped.clone()),
        None => rows,
    };
    let left_out = or_skipped(ignored.clone());
    let averaged = match &skipped {
        Some(skipped) => good.bool_and(skipped.clone().bool_not()),
        None => good,
    };

    let nan_rows = bad.clone().bool_or(invalid.clone());
    let with_nan_and_left_out = |x: Tensor<2>, nan: &Tensor<2, Bool>| {
        x.mask_fill(nan.clone(), f32::NAN)
            .mask_fill(left_out.clone(), 0.0)
    };
    let loss = with_nan_and_left_out(loss, &nan_rows);
    let count = |rows: Tensor<2, Bool>| rows.int().cast(IntDType::I32).sum();
    let valid_rows = count(valid);
    let denominator = (choices.denominator)(valid_rows.clone().cast(FloatDType::F32));
    let metrics = for_metrics.map(|[(student, p), (teacher, q)]| {
        let student = Side::new(student, &p);
        row_metrics::of(&student, &Side::new(teacher, &q), &hard, &soft, &class)
    });
    let smoothing = config.label_smoothing;
    let gradient = want_gradient.then(|| {
        let scale = |part: &Part| match &row_weights {
            Some(weights) => part.scale(&denominator) * weights.clone(),
            None => part.scale(&denominator),
        };
        let (hard_scale, soft_scale) = (scale(&hard), scale(&soft));
        let mut of_h = match &truth {
            Some(truth) => truth.mass() * hard_scale.clone(),
            None => hard_scale.clone(),
        };
        if let Some((z_loss, lse)) = &z_loss {
            of_h = of_h + lse.clone() * scale(z_loss) * 2.0;
        }
        let of_p = divergence.mean.neg() * soft_scale.clone();
        let (p_sum, q_sum) = (p.sum, q.sum);
        let mut gradient = match own {
            Some(h) => Gradient::of(p.powers, of_p / p_sum).add(h.powers, of_h / h.sum),
            None => Gradient::of(p.powers, (of_p + of_h) / p_sum),
        };
        if let Some(factor) = divergence.teacher {
            gradient = gradient.add(q.powers, factor * soft_scale.clone() / q_sum);
        }
        if let Some((slopes, factor)) = divergence.slopes {
            let column = factor * soft_scale;
            gradient = match divergence.undefined {
                Some(undefined) => gradient.add_finite(slopes, column, undefined),
                None => gradient.add(slopes, column),
            };
        }
        let gradient = match truth {
            Some(truth) => gradient.add(truth.terms, hard_scale.neg()),
            None => {
                let gradient = match smoothing {
                    0.0 => gradient,
                    _ => gradient.add_at_all(hard_scale.clone() * (-smoothing / classes as f32)),
                };
                gradient.add_at(class, hard_scale * (smoothing - 1.0))
            }
        };
        let nan = match &undefined {
            Some(undefined) => nan_rows.clone().bool_or(undefined.clone()),
            None => nan_rows.clone(),
        };
        gradient.sum(&nan, &left_out).cast(dtype)
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
            count(or_skipped(bad.clone())),
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
