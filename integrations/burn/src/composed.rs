//! Burn's own operations, one after the other: correct on every backend, and what the kernels are compared with.
//!
//! In f32, by the textbook formulas, on tensors without autodiff. Masked classes and bad rows are set aside first, since infinity times 0 is NaN.

use std::f32::consts::LN_2;

use burn::tensor::{Bool, DType, FloatDType, IndexingUpdateOp, Int, IntDType, Tensor};
use wgpu_distill::{Config, Reduction, Scope, Selection, Similarity};

use crate::task::Task;

/// What the kernels would give.
pub(crate) struct Composed {
    /// `f32 [rows, 4]`: loss, KDR, TSSR, 0.
    pub rows: Tensor<2>,
    /// `f32 [8]`: loss, mean KDR, mean TSSR, zeros.
    pub summary: Tensor<1>,
    /// `i32 [8]`: three zeros, valid, ignored, invalid and non-finite rows, 0.
    pub counts: Tensor<1, Int>,
    /// `[rows, classes]` in the student's type.
    pub gradient: Option<Tensor<2>>,
}

/// `student` and `teacher` `[rows, classes]`, `labels` `[rows]`.
pub(crate) fn distill(
    student: Tensor<2>,
    teacher: Tensor<2>,
    labels: Tensor<1, Int>,
    task: &Task,
    want_gradient: bool,
) -> Composed {
    let config = &task.config;
    let dtype = student.dtype();
    let [rows, classes] = student.dims();
    let device = student.device();
    let labels = labels.cast(IntDType::I32).reshape([rows, 1]);
    let ignored = labels.clone().equal_scalar(config.ignore_index);
    let outside = labels.clone().lower_scalar(0).bool_or(
        labels
            .clone()
            .greater_equal_scalar(i32::try_from(classes).unwrap_or(i32::MAX)),
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
    // Rows with an answer: neither ignored, nor bad, nor with a label out of range.
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
    let used = match config.scope {
        Scope::Row => kdr.clone(),
        Scope::Batch => mean(kdr.clone()).expand([rows, 1]),
        Scope::Given(kdr) => Tensor::full([rows, 1], kdr, (&device, DType::F32)),
        other => unimplemented!("scope {other:?} in tensor operations"),
    };
    let tssr = select(config.selection, task.progress.tstr(), used);

    // y = TSSR * EK + (1 - TSSR) * STK
    let e = config.label_smoothing;
    let class = labels.clamp(0, classes as i64 - 1);
    let one = Tensor::ones([rows, 1], (&device, DType::F32));
    let one_hot = Tensor::<2>::zeros([rows, classes], (&device, DType::F32));
    let one_hot = one_hot.scatter(1, class, one, IndexingUpdateOp::Add);
    let truth = one_hot * (1.0 - e) + e / classes as f32;
    let teachers = tssr.clone().neg() + 1.0;
    let y: Tensor<2> = truth * tssr.clone() + q.probabilities.clone() * teachers;
    let none = y.clone().equal_scalar(0.0);
    let factor = config.temperature_factor() as f32;
    let loss = (y.clone() * p.log.clone()).mask_fill(none, 0.0).sum_dim(1) * -factor;

    let spoiled = bad.clone().bool_or(invalid.clone());
    let settle = |x: Tensor<2>, nan: &Tensor<2, Bool>| {
        x.mask_fill(nan.clone(), f32::NAN)
            .mask_fill(ignored.clone(), 0.0)
    };
    let loss = settle(loss, &spoiled);
    let count = |rows: Tensor<2, Bool>| rows.int().cast(IntDType::I32).sum();
    let valid_rows = count(valid);
    let denominator = denominator(config, valid_rows.clone());
    let gradient = want_gradient.then(|| {
        let scale = factor * config.grad_loss / config.student_temperature;
        let gradient =
            (p.probabilities - y) * (denominator.clone().recip() * scale).reshape([1, 1]);
        let whole = |rows_of: &Tensor<2, Bool>| rows_of.clone().expand([rows, classes]);
        gradient
            .mask_fill(whole(&spoiled), f32::NAN)
            .mask_fill(whole(&ignored), 0.0)
            .cast(dtype)
    });
    let summary = Tensor::cat(
        vec![
            // Each row first: losses near the largest number must not add up to infinity before they are averaged.
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
    let kdr = settle(kdr, &bad);
    let tssr = settle(tssr, &bad);
    let flags = loss.zeros_like();
    Composed {
        rows: Tensor::cat(vec![loss, kdr, tssr, flags], 1),
        summary,
        counts,
        gradient,
    }
}

/// One matrix of logits as probabilities and their logarithms.
struct Softmax {
    /// `[rows, classes]`, 0 at masked classes and in bad rows.
    probabilities: Tensor<2>,
    /// `[rows, classes]`, `-inf` at masked classes, 0 in bad rows.
    log: Tensor<2>,
    /// `[rows, 1]`: NaN or `+inf` among the logits, or nothing but `-inf`. Never an ignored row.
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
        // Rows set aside are computed as rows of zeros, masked classes as the lowest number.
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

/// The teacher's first `classes` columns; columns it lacks are masked.
fn common_prefix(teacher: Tensor<2>, classes: usize) -> Tensor<2> {
    let [rows, theirs] = teacher.dims();
    if theirs >= classes {
        return teacher.slice([0..rows, 0..classes]);
    }
    let device = teacher.device();
    let lacking = Tensor::full(
        [rows, classes - theirs],
        f32::NEG_INFINITY,
        (&device, DType::F32),
    );
    Tensor::cat(vec![teacher, lacking], 1)
}

/// `x (ln a - ln b)`, 0 where `x` is.
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
            let ours = weighted(&a, p.log.clone(), ln_mean.clone());
            let theirs = weighted(&b, q.log.clone(), ln_mean);
            (ours + theirs).sum_dim(1) * (-0.5 / LN_2) + 1.0
        }
        Similarity::Overlap => {
            let less = a.clone().lower(b.clone());
            b.mask_where(less, a).sum_dim(1)
        }
        other => unimplemented!("similarity {other} in tensor operations"),
    }
}

/// TSSR `[rows, 1]` from TSTR and KDR.
fn select(selection: Selection, tstr: f32, kdr: Tensor<2>) -> Tensor<2> {
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

/// The sum of a column `[rows, 1]`, as `[1]`. In two levels, since some backends add one by one and lose digits.
fn total(column: Tensor<2>) -> Tensor<1> {
    const RUN: usize = 512;
    let [rows, _] = column.dims();
    let even = rows / RUN * RUN;
    if even == 0 {
        return column.sum();
    }
    let runs = column.clone().slice([0..even, 0..1]);
    let sum = runs.reshape([rows / RUN, RUN]).sum_dim(1).sum();
    if even == rows {
        return sum;
    }
    sum + column.slice([even..rows, 0..1]).sum()
}

/// What the sum of the losses is divided by, `[1]`.
fn denominator(config: &Config, valid_rows: Tensor<1, Int>) -> Tensor<1> {
    let valid_rows = valid_rows.float().cast(FloatDType::F32);
    match config.reduction {
        Reduction::None | Reduction::Sum => valid_rows.ones_like(),
        Reduction::Mean => valid_rows.clamp_min(1.0),
        // No row is valid: there is nothing to divide.
        Reduction::SumOver(0.0) => valid_rows.ones_like(),
        Reduction::SumOver(denominator) => valid_rows.zeros_like() + denominator,
        other => unimplemented!("reduction {other:?} in tensor operations"),
    }
}
