//! Loss, gradient and metrics against the f64 reference of wgpu-distill, over storage types, labels, shapes and choices.

use candle_core::{DType, Result, Tensor};
use candle_distill::wgpu_distill::{Batch, reference};
use candle_distill::{
    Config, DistillationBatch, DistillationLoss, DistillationOutput, Divergence, NonFinite,
    Progress, Reduction, Scope, Selection, Similarity,
};

use crate::inputs::{CPU, assert_close, gradient, labels, logits, numbers, values, var};

const ROWS: usize = 12;
const CLASSES: usize = 29;
const STORAGES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

fn progress() -> Progress {
    Progress::new(3, 10)
}

fn f32s(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// The reference for the same tensors, labels as in [`labels`].
fn expected(
    config: &Config,
    student: &Tensor,
    teacher: &Tensor,
    with: impl FnOnce(&Batch<'_>) -> reference::Distillation,
) -> Result<reference::Distillation> {
    let labels: Vec<i64> = labels(student.elem_count() / CLASSES, CLASSES)?.to_vec1()?;
    let labels: Vec<i32> = labels.iter().map(|label| *label as i32).collect();
    let (student, teacher) = (f32s(student)?, f32s(teacher)?);
    assert_eq!(config.ignore_index, -100);
    Ok(with(&Batch::new(&student, &teacher, &labels, CLASSES)))
}

fn distill(config: &Config, batch: &Batch<'_>) -> reference::Distillation {
    reference::distill(config, progress(), batch).expect("a valid batch")
}

/// The tolerance of a gradient of the student's type: one unit in the last place of the largest number.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => 1e-5,
    }
}

fn assert_matches(
    out: &DistillationOutput,
    student: &Tensor,
    expected: &reference::Distillation,
    what: &str,
) -> Result<()> {
    let summary = &out.summary;
    let loss = values(&out.loss)?.iter().sum::<f64>();
    assert_close(&[loss], &[expected.summary.loss], 1e-5, what);
    let got = [f64::from(summary.kdr), f64::from(summary.tssr)];
    assert_close(
        &got,
        &[expected.summary.kdr, expected.summary.tssr],
        2e-6,
        what,
    );
    let counts = [summary.valid_rows, summary.ignored_rows];
    let e = &expected.summary;
    assert_eq!(counts, [e.valid_rows, e.ignored_rows], "{what}");
    let got: Vec<f64> = out.rows.iter().map(|row| row.loss.into()).collect();
    let rows: Vec<f64> = expected.rows.iter().map(|row| row.loss).collect();
    assert_close(&got, &rows, 1e-5, what);
    let gradient = gradient(&out.loss, student)?;
    assert_eq!(gradient.dtype(), student.dtype(), "{what}");
    assert_eq!(gradient.dims(), student.dims(), "{what}");
    let tolerance = tolerance(student.dtype());
    let of_reference = expected.grad_student_logits.chunks(CLASSES);
    for (got, expected) in values(&gradient)?.chunks(CLASSES).zip(of_reference) {
        match expected.iter().all(|g| *g == 0.0) {
            true => assert!(got.iter().all(|g| *g == 0.0), "{what}"),
            false => assert_close(got, expected, tolerance, what),
        }
    }
    Ok(())
}

#[test]
fn every_pair_of_storage_types() -> Result<()> {
    let config = Config::default();
    let loss = DistillationLoss::new(config)?;
    for of_student in STORAGES {
        for of_teacher in STORAGES {
            let student = var(&logits(3, &[ROWS, CLASSES], of_student)?)?;
            let teacher = logits(4, &[ROWS, CLASSES], of_teacher)?;
            let labels = labels(ROWS, CLASSES)?;
            let batch = DistillationBatch::new(&student, &teacher, &labels);
            let out = loss.forward_batch(&batch, progress())?;
            let expected = expected(&config, &student, &teacher, |b| distill(&config, b))?;
            let what = format!("{of_student:?}, {of_teacher:?}");
            assert_matches(&out, &student, &expected, &what)?;
        }
    }
    Ok(())
}

#[test]
fn choices() -> Result<()> {
    let base = Config::default;
    let configs = [
        Config {
            reduction: Reduction::None,
            ..base()
        },
        Config {
            reduction: Reduction::SumOver(7.0),
            ..base()
        },
        Config {
            scope: Scope::Batch,
            similarity: Similarity::Overlap,
            ..base()
        },
        Config {
            divergence: Divergence::Jsd { beta: 0.3 },
            selection: Selection::Product,
            ..base()
        },
        Config {
            divergence: Divergence::Dkd {
                alpha: 1.0,
                beta: 8.0,
            },
            ..base()
        },
        Config {
            student_temperature: 2.0,
            teacher_temperature: 3.0,
            label_smoothing: 0.1,
            ..base()
        },
    ];
    for config in configs {
        let student = var(&logits(5, &[ROWS, CLASSES], DType::F32)?)?;
        let teacher = logits(6, &[ROWS, CLASSES], DType::F32)?;
        let labels = labels(ROWS, CLASSES)?;
        let batch = DistillationBatch::new(&student, &teacher, &labels);
        let out = DistillationLoss::new(config)?.forward_batch(&batch, progress())?;
        let expected = expected(&config, &student, &teacher, |b| distill(&config, b))?;
        assert_matches(&out, &student, &expected, &format!("{config:?}"))?;
    }
    Ok(())
}

#[test]
fn sequences_are_rows() -> Result<()> {
    let config = Config {
        reduction: Reduction::None,
        ..Config::default()
    };
    let student = var(&logits(7, &[3, 4, CLASSES], DType::F32)?)?;
    let teacher = logits(8, &[3, 4, CLASSES], DType::F32)?;
    let labels = labels(ROWS, CLASSES)?.reshape((3, 4))?;
    let batch = DistillationBatch::new(&student, &teacher, &labels);
    let out = DistillationLoss::new(config)?.forward_batch(&batch, progress())?;
    assert_eq!(out.loss.dims(), [ROWS]);
    let expected = expected(&config, &student, &teacher, |b| distill(&config, b))?;
    assert_matches(&out, &student, &expected, "sequences")
}

#[test]
fn every_type_of_labels() -> Result<()> {
    let loss = DistillationLoss::new(Config {
        ignore_index: 5,
        ..Config::default()
    })?;
    let student = logits(9, &[ROWS, CLASSES], DType::F32)?;
    let teacher = logits(10, &[ROWS, CLASSES], DType::F32)?;
    let numbers: Vec<i64> = (0..ROWS as i64).map(|row| row * 5 % 29).collect();
    let labels = Tensor::from_vec(numbers, ROWS, CPU)?;
    let of = |labels: &Tensor| {
        let batch = DistillationBatch::new(&student, &teacher, labels);
        let out = loss.forward_batch(&batch, progress())?;
        Ok::<_, candle_core::Error>((out.loss.to_scalar::<f32>()?, out.summary))
    };
    let expected = of(&labels)?;
    // Row 1 has the label 5.
    assert_eq!(expected.1.ignored_rows, 1);
    for dtype in [DType::U8, DType::U32, DType::I16, DType::I32] {
        assert_eq!(of(&labels.to_dtype(dtype)?)?, expected, "{dtype:?}");
    }
    // A column of a matrix, whose numbers have a stride.
    let column = Tensor::stack(&[&labels.zeros_like()?, &labels], 1)?.narrow(1, 1, 1)?;
    assert_eq!(of(&column.squeeze(1)?)?, expected);
    Ok(())
}

#[test]
fn weights_of_rows() -> Result<()> {
    let config = Config::default();
    let weights = numbers(11, ROWS);
    let student = var(&logits(12, &[ROWS, CLASSES], DType::F32)?)?;
    let teacher = logits(13, &[ROWS, CLASSES], DType::F32)?;
    let expected = expected(&config, &student, &teacher, |batch| {
        distill(&config, &batch.with_row_weights(&weights))
    })?;
    let labels = labels(ROWS, CLASSES)?;
    let weights = Tensor::from_vec(weights.clone(), ROWS, CPU)?;
    for weights in [weights.clone(), weights.to_dtype(DType::F64)?] {
        let batch = DistillationBatch::new(&student, &teacher, &labels);
        let batch = batch.with_row_weights(&weights);
        let out = DistillationLoss::new(config)?.forward_batch(&batch, progress())?;
        assert_matches(&out, &student, &expected, "weights")?;
    }
    Ok(())
}

#[test]
fn teachers_that_are_lists() -> Result<()> {
    let k = 4;
    let config = Config {
        divergence: Divergence::ForwardKl,
        ..Config::default()
    };
    let student = var(&logits(14, &[ROWS, CLASSES], DType::F32)?)?;
    let log_probabilities: Vec<f32> = numbers(15, ROWS * k).iter().map(|x| x - 6.0).collect();
    let place = |i: usize| match i % 7 {
        6 => -1,
        _ => (i / k + i % k * 7) as i32 % CLASSES as i32,
    };
    let ids: Vec<i32> = (0..ROWS * k).map(place).collect();
    let labels_i64 = labels(ROWS, CLASSES)?;
    let labels: Vec<i32> = labels_i64
        .to_vec1::<i64>()?
        .iter()
        .map(|l| *l as i32)
        .collect();
    let numbers = f32s(&student)?;
    let batch = Batch::top_k(&numbers, &log_probabilities, &ids, &labels, CLASSES);
    let expected = distill(&config, &batch);
    let shape = (3, 4, k);
    let log_probabilities = Tensor::from_vec(log_probabilities, shape, CPU)?;
    let ids = Tensor::from_vec(ids, shape, CPU)?;
    let student = var(&student.reshape((3, 4, CLASSES))?)?;
    let labels = labels_i64.reshape((3, 4))?;
    for ids in [ids.clone(), ids.to_dtype(DType::I64)?] {
        let batch = DistillationBatch::top_k(&student, &log_probabilities, &ids, &labels);
        let out = DistillationLoss::new(config)?.forward_batch(&batch, progress())?;
        assert_matches(&out, &student, &expected, "list")?;
    }
    Ok(())
}

#[test]
fn metrics_of_rows() -> Result<()> {
    let student = logits(16, &[ROWS, CLASSES], DType::F32)?;
    let teacher = logits(17, &[ROWS, CLASSES], DType::F32)?;
    let labels = labels(ROWS, CLASSES)?;
    let batch = DistillationBatch::new(&student, &teacher, &labels);
    let loss = DistillationLoss::new(Config::default())?;
    let plain = loss.forward_batch(&batch, progress())?;
    assert!(plain.row_metrics.is_empty());
    let out = loss.with_row_metrics().forward_batch(&batch, progress())?;
    assert_eq!(out.row_metrics.len(), ROWS);
    let expected = expected(&Config::default(), &student, &teacher, |batch| {
        distill(&Config::default(), batch)
    })?;
    let kl: Vec<f64> = expected.metrics.iter().map(|m| m.forward_kl).collect();
    let got: Vec<f64> = out
        .row_metrics
        .iter()
        .map(|m| m.forward_kl.into())
        .collect();
    assert_close(&got, &kl, 1e-5, "forward KL of the rows");
    let mean = kl.iter().sum::<f64>() / f64::from(out.summary.valid_rows);
    let got = f64::from(out.summary.metrics.forward_kl);
    assert_close(&[got], &[mean], 1e-5, "their mean");
    Ok(())
}

#[test]
fn rows_with_nan_are_counted_or_skipped() -> Result<()> {
    let teacher = logits(18, &[2, 3], DType::F32)?;
    let student = var(&Tensor::new(&[[f32::NAN, 0.0, 1.0], [0.5, 0.0, 1.0]], CPU)?)?;
    let labels = Tensor::new(&[0u32, 1], CPU)?;
    let batch = DistillationBatch::new(&student, &teacher, &labels);
    for non_finite in [NonFinite::Propagate, NonFinite::Skip] {
        let config = Config {
            non_finite,
            ..Config::default()
        };
        let out = DistillationLoss::new(config)?.forward_batch(&batch, progress())?;
        assert_eq!(out.summary.non_finite_rows, 1);
        let skipped = non_finite == NonFinite::Skip;
        assert_eq!(out.loss.to_scalar::<f32>()?.is_finite(), skipped);
        let gradient = values(&gradient(&out.loss, &student)?)?;
        assert!(gradient[..3].iter().all(|g| g.is_finite() == skipped));
        assert!(gradient[3..].iter().all(|g| g.is_finite() && *g != 0.0));
    }
    Ok(())
}

#[test]
fn a_batch_without_rows() -> Result<()> {
    let student = var(&logits(19, &[0, 5], DType::F32)?)?;
    let labels = Tensor::zeros(0, DType::U32, CPU)?;
    let loss = DistillationLoss::new(Config::default())?;
    let loss = loss.forward(&student, &student, &labels, progress())?;
    assert_eq!(loss.to_scalar::<f32>()?, 0.0);
    assert_eq!(gradient(&loss, &student)?.dims(), [0, 5]);
    Ok(())
}
