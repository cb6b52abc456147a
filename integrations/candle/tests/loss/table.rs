//! The table of cases of wgpu-distill against the f64 reference. Gradients go through candle's graph.

use candle_core::{DType, Result, Tensor, Var};
use candle_distill::wgpu_distill::{GradWrite, Storage};
use candle_distill::{Config, DistillationBatch, DistillationLoss};

use crate::cases::compare::{self, Outcome};
use crate::cases::inputs::{self, Stored};
use crate::cases::{self, Case};
use crate::inputs::{CPU, var};
use crate::report;

/// The elements of a matrix with an offset before it and gaps after its rows, in one dimension. All others are NaN.
fn elements(
    values: &[f32],
    classes: usize,
    stride: usize,
    (offset, storage): (usize, Storage),
) -> Result<Tensor> {
    match Stored::round(&inputs::spread(values, classes, stride, offset), storage) {
        Stored::F32(v) => Tensor::new(v, CPU),
        Stored::F16(v) => Tensor::new(v, CPU),
        Stored::Bf16(v) => Tensor::new(v, CPU),
    }
}

/// The matrix `[rows, classes]` as a view of its elements.
fn view(
    elements: &Tensor,
    [rows, classes]: [usize; 2],
    stride: usize,
    offset: usize,
) -> Result<Tensor> {
    let matrix = elements.narrow(0, offset, rows * stride)?;
    matrix.reshape((rows, stride))?.narrow(1, 0, classes)
}

/// The case as candle can run it: candle allocates each gradient, in the student's type.
fn in_candle(mut case: Case) -> Case {
    case.in_place = false;
    case.config.grad_write = GradWrite::Overwrite;
    case.storage[2] = case.storage[0];
    case
}

fn run(case: &Case) -> Result<Outcome> {
    let [student, teacher] = case.logits();
    let shape = [case.rows, case.classes];
    let teacher_shape = [case.rows, case.teacher_classes];
    let [stride, teacher_stride, _] = case.strides();
    let [offset, teacher_offset, _] = case.offsets;
    let [storage, teacher_storage, _] = case.storage;
    let all: Var = var(&elements(
        &student,
        case.classes,
        stride,
        (offset, storage),
    )?)?;
    let student = view(&all, shape, stride, offset)?;
    let of_teacher = (teacher_offset, teacher_storage);
    let teacher = elements(&teacher, case.teacher_classes, teacher_stride, of_teacher)?;
    let teacher = view(&teacher, teacher_shape, teacher_stride, teacher_offset)?;
    let labels = Tensor::from_vec(case.labels(), case.rows, CPU)?;
    let list = |numbers: Option<Vec<f32>>| numbers.map(|v| Tensor::new(v, CPU)).transpose();
    let (row_weights, class_weights) = (list(case.row_weights())?, list(case.class_weights())?);
    let teacher_ids = case.teacher_ids();
    let teacher_ids = teacher_ids.map(|ids| Tensor::from_vec(ids, &teacher_shape, CPU));
    let teacher_ids = teacher_ids.transpose()?;
    let soft_labels = match (case.soft_labels(), case.soft_labels.storage()) {
        (Some(numbers), Some(storage)) => {
            let stride = case.classes + case.gaps[1];
            let elements = elements(&numbers, case.classes, stride, (0, storage))?;
            Some(view(&elements, shape, stride, 0)?)
        }
        _ => None,
    };
    let batch = DistillationBatch {
        teacher_ids: teacher_ids.as_ref(),
        row_weights: row_weights.as_ref(),
        soft_labels: soft_labels.as_ref(),
        class_weights: class_weights.as_ref(),
        ..DistillationBatch::new(&student, &teacher, &labels)
    };
    let loss = DistillationLoss::new(Config {
        grad_loss: 1.0,
        ..case.config
    })?;
    let loss = match case.metrics {
        true => loss.with_row_metrics(),
        false => loss,
    };
    let out = loss.forward_batch(&batch, case.progress)?;
    let scaled = (&out.loss * f64::from(case.config.grad_loss))?;
    let gradient = match scaled.backward()?.get(&all) {
        Some(gradient) => gradient.clone(),
        // candle takes no path through a factor of 0.
        None if case.config.grad_loss == 0.0 => all.zeros_like()?,
        None => panic!("{}: no gradient", case.name),
    };
    assert_eq!(gradient.dtype(), all.dtype(), "{}", case.name);
    let gradient = view(&gradient, shape, stride, offset)?.to_dtype(DType::F32)?;
    Ok(Outcome {
        summary: out.summary,
        rows: out.rows,
        metrics: out.row_metrics,
        gradient: gradient.flatten_all()?.to_vec1()?,
    })
}

#[test]
fn every_case() {
    let (mut passed, mut inapplicable) = (0, 0);
    let mut failures = Vec::new();
    let table = cases::all();
    for case in table.iter().cloned().map(in_candle) {
        // Labels and weights out of range are errors: see refusals.rs.
        if !case.on_slices() {
            inapplicable += 1;
            continue;
        }
        let outcome = run(&case).map_err(|error| error.to_string());
        match outcome.and_then(|got| compare::check(&case, &case.reference(), &got)) {
            Ok(()) => passed += 1,
            Err(why) => failures.push(format!("  {} ({}): {why}", case.name, case.why)),
        }
    }
    let failed = failures.len();
    report::ran(&format!(
        "candle, table: {passed} passed, {failed} failed, {inapplicable} not applicable ({})",
        cases::extent(&table)
    ));
    assert!(4 * passed > 3 * table.len(), "few cases apply to candle");
    assert!(
        failures.is_empty(),
        "{failed} cases failed:\n{}",
        failures.join("\n")
    );
}
