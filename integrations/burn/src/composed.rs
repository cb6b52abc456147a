//! The loss by Burn's own operations, for every backend and for comparison with the kernels.
//!
//! Computes in f32 by the formulas as written, on tensors without autodiff. Masked classes and bad rows are replaced
//! first, since infinity times 0 is NaN.

use std::f32::consts::LN_2;

use burn::tensor::{Bool, DType, FloatDType, IndexingUpdateOp, Int, IntDType, Tensor};
use wgpu_distill::{Config, Reduction, Scope, Selection, Similarity};

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
pub(crate) fn distill(
    student: Tensor<2>,
    teacher: Tensor<2>,
    labels: Tensor<1, Int>,
    call: &LossCall,
    want_gradient: bool,
) -> LossTensors {
    let config = &call.config;
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
    let p = Softmax::of(
        student.cast(FloatDType::F32),
        config.student_temperature,
        &ignored,
    );
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
        (total(kept) / averaged_rows.clone()).reshape([1, 1])
    };

    let kdr = similarity(config.similarity, &p, &q).clamp(0.0, 1.0);
    let selecting = match config.scope {
        Scope::Row => kdr.clone(),
        Scope::Batch => mean(kdr.clone()).expand([rows, 1]),
        Scope::Given(kdr) => Tensor::full([rows, 1], kdr, (&device, DType::F32)),
        other => unimplemented!("scope {other:?} in tensor operations"),
    };
    let tssr = decide(config.selection, call.progress.tstr(), selecting);

    // y = TSSR * EK + (1 - TSSR) * STK
    let e = config.label_smoothing;
    let class = labels.clamp(0, classes as i64 - 1);
    let one = Tensor::ones([rows, 1], (&device, DType::F32));
    let one_hot = Tensor::<2>::zeros([rows, classes], (&device, DType::F32));
    let one_hot = one_hot.scatter(1, class, one, IndexingUpdateOp::Add);
    let truth = one_hot * (1.0 - e) + e / classes as f32;
    let teacher_share = tssr.clone().neg() + 1.0;
    let y: Tensor<2> = truth * tssr.clone() + q.probabilities.clone() * teacher_share;
    let none = y.clone().equal_scalar(0.0);
    let factor = config.temperature_factor();
    let loss = (y.clone() * p.log.clone()).mask_fill(none, 0.0).sum_dim(1) * -(factor as f32);

    let nan_rows = bad.clone().bool_or(invalid.clone());
    let with_nan_and_ignored = |x: Tensor<2>, nan: &Tensor<2, Bool>| {
        x.mask_fill(nan.clone(), f32::NAN)
            .mask_fill(ignored.clone(), 0.0)
    };
    let loss = with_nan_and_ignored(loss, &nan_rows);
    let count = |rows: Tensor<2, Bool>| rows.int().cast(IntDType::I32).sum();
    let valid_rows = count(valid);
    let denominator = denominator(config, valid_rows.clone());
    let gradient = want_gradient.then(|| {
        let scale = config.gradient_factor() as f32;
        let gradient =
            (p.probabilities - y) * (denominator.clone().recip() * scale).reshape([1, 1]);
        let whole = |rows_of: &Tensor<2, Bool>| rows_of.clone().expand([rows, classes]);
        gradient
            .mask_fill(whole(&nan_rows), f32::NAN)
            .mask_fill(whole(&ignored), 0.0)
            .cast(dtype)
    });
    let summary = Tensor::cat(
        vec![
            // Divided before the sum, because the sum of losses near the largest f32 would overflow.
            total(loss.clone() / denominator.reshape([1, 1])),
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
    LossTensors {
        rows: Tensor::cat(vec![loss, kdr, tssr, flags], 1),
        summary,
        counts,
        gradient,
    }
}

/// The softmax of a matrix of logits and its logarithm.
struct Softmax {
    /// `[rows, classes]`, 0 at masked classes and in bad rows.
    probabilities: Tensor<2>,
    /// `[rows, classes]`, `-inf` at masked classes, 0 in bad rows.
    log: Tensor<2>,
    /// `[rows, 1]`: the row has NaN or `+inf`, or only `-inf`. False in ignored rows.
    bad: Tensor<2, Bool>,
}

impl Softmax {
    fn of(logits: Tensor<2>, temperature: f32, ignored: &Tensor<2, Bool>) -> Self {
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
        let z = ((logits - max) / temperature).mask_fill(masked.clone(), f32::NEG_INFINITY);
        let powers = z.clone().exp().mask_fill(masked, 0.0);
        let sum = powers.clone().sum_dim(1);
        Self {
            probabilities: (powers / sum.clone()).mask_fill(whole.clone(), 0.0),
            log: (z - sum.log()).mask_fill(whole, 0.0),
            bad: unusable.bool_and(ignored.clone().bool_not()),
        }
    }
}

/// The first `classes` columns of the teacher. Columns that it lacks are masked.
fn common_prefix(teacher: Tensor<2>, classes: usize) -> Tensor<2> {
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
fn weighted(x: &Tensor<2>, ln_a: Tensor<2>, ln_b: Tensor<2>) -> Tensor<2> {
    let none = x.clone().equal_scalar(0.0);
    (x.clone() * (ln_a - ln_b)).mask_fill(none, 0.0)
}

/// KDR `[rows, 1]`.
fn similarity(similarity: Similarity, p: &Softmax, q: &Softmax) -> Tensor<2> {
    let (a, b) = (p.probabilities.clone(), q.probabilities.clone());
    match similarity {
        Similarity::Cosine => {
            let square = |x: Tensor<2>| (x.clone() * x).sum_dim(1);
            (a.clone() * b.clone()).sum_dim(1) / (square(a) * square(b)).sqrt()
        }
        Similarity::Bhattacharyya => ((p.log.clone() + q.log.clone()) * 0.5).exp().sum_dim(1),
        Similarity::ExpNegKl => weighted(&b, q.log.clone(), p.log.clone())
            .sum_dim(1)
            .clamp_min(0.0)
            .neg()
            .exp(),
        Similarity::JensenShannon => {
            let ln_mean = ((a.clone() + b.clone()) * 0.5).log();
            let student = weighted(&a, p.log.clone(), ln_mean.clone());
            let teacher = weighted(&b, q.log.clone(), ln_mean);
            (student + teacher).sum_dim(1) * (-0.5 / LN_2) + 1.0
        }
        Similarity::Overlap => {
            let less = a.clone().lower(b.clone());
            b.mask_where(less, a).sum_dim(1)
        }
        other => unimplemented!("similarity {other} in tensor operations"),
    }
}

/// TSSR `[rows, 1]` from TSTR and KDR.
fn decide(selection: Selection, tstr: f32, kdr: Tensor<2>) -> Tensor<2> {
    match selection {
        Selection::Max => kdr.clamp_min(tstr),
        Selection::Min => kdr.clamp_max(tstr),
        Selection::Mean => (kdr + tstr) * 0.5,
        Selection::Product => kdr * tstr,
        Selection::Tstr => kdr.zeros_like() + tstr,
        Selection::Kdr => kdr,
        Selection::Fixed(share) => kdr.zeros_like() + share,
        other => unimplemented!("selection {other} in tensor operations"),
    }
}

/// The sum of a column `[rows, 1]`, as `[1]`. Two-level summation bounds the rounding error on backends that add one by one.
fn total(column: Tensor<2>) -> Tensor<1> {
    const ROWS_PER_PARTIAL_SUM: usize = 512;
    let [rows, _] = column.dims();
    let partial_sums = rows / ROWS_PER_PARTIAL_SUM;
    if partial_sums == 0 {
        return column.sum();
    }
    let even = partial_sums * ROWS_PER_PARTIAL_SUM;
    let groups = column.clone().slice([0..even, 0..1]);
    let groups = groups.reshape([partial_sums, ROWS_PER_PARTIAL_SUM]);
    let sum = groups.sum_dim(1).sum();
    if even == rows {
        return sum;
    }
    sum + column.slice([even..rows, 0..1]).sum()
}

/// Labels below this number are classes. It is 0 if the denominator is 0, because then no row has a label.
fn label_classes(config: &Config, classes: usize) -> i32 {
    match config.reduction {
        Reduction::SumOver(0.0) => 0,
        _ => i32::try_from(classes).unwrap_or(i32::MAX),
    }
}

/// The divisor of the sum of the losses, `[1]`.
fn denominator(config: &Config, valid_rows: Tensor<1, Int>) -> Tensor<1> {
    let valid_rows = valid_rows.float().cast(FloatDType::F32);
    match config.reduction {
        Reduction::None | Reduction::Sum | Reduction::SumOver(0.0) => valid_rows.ones_like(),
        Reduction::Mean => valid_rows.clamp_min(1.0),
        Reduction::SumOver(denominator) => valid_rows.zeros_like() + denominator,
        other => unimplemented!("reduction {other:?} in tensor operations"),
    }
}
