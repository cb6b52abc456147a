//! The table of cases of wgpu-distill on each execution path, against the f64 reference. Gradients go through autodiff.

use burn::tensor::{DType, Device, Gradients, Int, Tensor, TensorData};
use burn_distill::{
    DistillationBatch, DistillationLoss, DistillationLossConfig, DistillationOutput, ExecutionPath,
    RowMetrics,
};
use wgpu_distill::{
    Config, Divergence, GradWrite, Reduction, RowResult, Selection, SmoothedClasses,
    Standardization, Storage, Summary, TssrGradient, Values, flags,
};

use crate::cases::compare::{self, Outcome};
use crate::cases::inputs::{self, Stored};
use crate::cases::{self, Case, SoftLabels, TeacherList, Weights};
use crate::devices::{self, TestDevice};

pub fn dtype(storage: Storage) -> DType {
    match storage {
        Storage::F32 => DType::F32,
        Storage::F16 => DType::F16,
        Storage::Bf16 => DType::BF16,
    }
}

/// A matrix `[rows, classes]` as a slice of `[rows, classes + gap]`.
///
/// It is a view on flex, and on wgpu if the gap is a multiple of the device's alignment.
fn matrix(
    values: &[f32],
    [rows, classes]: [usize; 2],
    gap: usize,
    storage: Storage,
    device: &Device,
) -> Tensor<2> {
    let stride = classes + gap;
    let spread = inputs::spread(values, classes, stride, 0);
    let stored = Stored::round(&spread, storage);
    let mut bytes = stored.values().as_bytes().to_vec();
    // `spread` leaves out the gap after the last row.
    bytes.resize(rows * stride * storage.bytes(), 0);
    let dtype = dtype(storage);
    let data = TensorData::from_bytes_vec(bytes, [rows, stride], dtype);
    Tensor::<2>::from_data(data, (device, dtype)).slice([0..rows, 0..classes])
}

fn floats(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

/// The case as Burn can run it: Burn allocates each gradient, in the student's type.
pub fn in_burn(mut case: Case) -> Case {
    case.in_place = false;
    case.config.grad_write = GradWrite::Overwrite;
    case.storage[2] = case.storage[0];
    case
}

/// The reason for which a case does not apply, if there is one.
fn not_applicable(case: &Case, on: &TestDevice) -> Option<&'static str> {
    if case.bad_labels && on.path == ExecutionPath::Host {
        return Some("labels out of range are errors on the host");
    }
    let broken = [case.weights, case.class_weights].contains(&Weights::Broken)
        || matches!(case.soft_labels, SoftLabels::Broken(_))
        || case.teacher_list == TeacherList::Broken;
    if broken && on.path == ExecutionPath::Host {
        return Some("weights, soft labels and lists out of range are errors on the host");
    }
    use Divergence as D;
    let config = &case.config;
    let of_kernels = config.tssr_gradient == TssrGradient::Attached
        || config.smoothed_classes == SmoothedClasses::Unmasked
        || config.loss_clamp.is_some()
        || config.standardization == Standardization::ZScore
        || matches!(config.selection, Selection::Margin(_))
        || matches!(config.divergence, D::Dkd { .. } | D::Nkd { .. } | D::Wsld)
        || config.divergence.is_sampled()
        || case.teacher_list != TeacherList::None;
    if of_kernels && on.path == ExecutionPath::Composed {
        return Some("refused: see refusals.rs");
    }
    let unknown = |s: &Storage| !on.device.supports_dtype(dtype(*s));
    if case
        .storage
        .iter()
        .chain(&case.soft_labels.storage())
        .any(unknown)
    {
        return Some("Burn does not support the type on this device");
    }
    None
}

/// The tensors of a case, without autodiff.
pub fn batch(case: &Case, device: &Device) -> DistillationBatch<2, 1> {
    let [student, teacher] = case.logits();
    let matrix = |values: &[f32], classes, gap, storage| {
        matrix(values, [case.rows, classes], gap, storage, device)
    };
    let (gaps, storage) = (case.gaps, case.storage);
    let student = matrix(&student, case.classes, gaps[0], storage[0]);
    let teacher = matrix(&teacher, case.teacher_classes, gaps[1], storage[1]);
    let labels = TensorData::new(case.labels(), [case.rows]);
    let labels = Tensor::<1, Int>::from_data(labels, (device, DType::I32));
    let mut batch = DistillationBatch::new(student, teacher, labels);
    let list = |numbers: Vec<f32>| {
        let shape = [numbers.len()];
        Tensor::from_data(TensorData::new(numbers, shape), (device, DType::F32))
    };
    batch.row_weights = case.row_weights().map(list);
    batch.teacher_ids = case.teacher_ids().map(|ids| {
        let shape = [case.rows, case.teacher_classes];
        Tensor::from_data(TensorData::new(ids, shape), (device, DType::I32))
    });
    batch.class_weights = case.class_weights().map(list);
    let soft_labels = case.soft_labels().zip(case.soft_labels.storage());
    batch.soft_labels =
        soft_labels.map(|(numbers, storage)| matrix(&numbers, case.classes, gaps[1], storage));
    batch
}

/// The loss of a case.
pub fn loss(case: &Case) -> DistillationLoss {
    let c = &case.config;
    let config = DistillationLossConfig::from(Config {
        // Burn's scale of the gradient until backward: positive.
        grad_loss: if c.grad_loss > 0.0 { c.grad_loss } else { 1.0 },
        ..*c
    });
    match case.metrics {
        true => config.init().with_row_metrics(),
        false => config.init(),
    }
}

/// The backward of a case.
pub fn backward(case: &Case, loss: Tensor<1>) -> Gradients {
    let root = match case.config.reduction {
        Reduction::None => loss.sum(),
        _ => loss,
    };
    (root * case.config.grad_loss).backward()
}

/// The gradient of the student's logits.
pub fn gradient(case: &Case, student: &Tensor<2>, grads: &Gradients) -> Vec<f32> {
    let gradient = student.grad(grads).expect("a gradient");
    assert_eq!(gradient.dtype(), dtype(case.storage[0]));
    let data = gradient.into_data();
    let values = match case.storage[0] {
        Storage::F32 => Values::F32(data.as_slice().expect("f32")),
        Storage::F16 => Values::F16(data.as_slice().expect("f16")),
        Storage::Bf16 => Values::Bf16(data.as_slice().expect("bf16")),
    };
    (0..values.len()).map(|i| values.get(i)).collect()
}

fn run(case: &Case, on: &TestDevice) -> Outcome {
    let mut batch = batch(case, &on.device);
    let student = Tensor::from_inner(batch.student_logits).require_grad();
    assert!(student.device() == on.device.clone().autodiff());
    batch.student_logits = student.clone();
    let out = on.loss(loss(case)).forward_batch(batch, case.progress);
    let grads = backward(case, out.loss.clone());
    outcome(case, out, gradient(case, &student, &grads))
}

/// The results of a case in the form of the core's.
pub fn outcome(case: &Case, out: DistillationOutput, gradient: Vec<f32>) -> Outcome {
    let want = case.reference();
    let (losses, kdr, tssr) = (
        floats(out.row_loss),
        floats(out.row_kdr),
        floats(out.row_tssr),
    );
    // The output has no row flags. The counts show their meaning.
    let rows = (0..case.rows).map(|i| {
        let mut row = RowResult::default();
        (row.loss, row.kdr, row.tssr) = (losses[i], kdr[i], tssr[i]);
        row.flags = want.rows[i].flags;
        // A row that is left out keeps the flag.
        if losses[i].is_finite() && row.flags & flags::SKIPPED == 0 {
            row.flags &= !flags::NO_GRADIENT;
        }
        row
    });
    let count = |t: Tensor<1, Int>| t.into_scalar::<i64>() as u32;
    let loss = floats(out.loss);
    assert_eq!(
        loss.len(),
        if case.config.reduction == Reduction::None {
            case.rows
        } else {
            1
        }
    );
    let mut summary = Summary::default();
    summary.loss = loss.iter().sum();
    (summary.kdr, summary.tssr) = (floats(out.kdr)[0], floats(out.tssr)[0]);
    summary.valid_rows = count(out.valid_rows);
    summary.ignored_rows = count(out.ignored_rows);
    summary.invalid_labels = count(out.invalid_labels);
    summary.non_finite_rows = count(out.non_finite_rows);
    if let Some(means) = &out.mean_metrics {
        summary.metrics = of_rows(means)[0];
    }
    Outcome {
        rows: rows.collect(),
        gradient,
        summary,
        metrics: out.row_metrics.as_ref().map(of_rows).unwrap_or_default(),
    }
}

/// The metrics of each row.
fn of_rows(metrics: &RowMetrics) -> Vec<wgpu_distill::RowMetrics> {
    let mut rows = Vec::new();
    macro_rules! read {
        ($($name:ident)*) => {
            $(let values = floats(metrics.$name());
            rows.resize(values.len(), wgpu_distill::RowMetrics::default());
            for (row, value) in rows.iter_mut().zip(values) {
                row.$name = value;
            })*
        };
    }
    read!(forward_kl teacher_entropy student_entropy hard soft);
    read!(student_lse teacher_lse agreement student_accuracy teacher_accuracy);
    rows
}

fn run_all(on: &TestDevice) {
    let (mut passed, mut inapplicable) = (0, 0);
    let mut failures = Vec::new();
    // The GPU paths compile kernels for each case.
    let table = match on.name.starts_with("flex") {
        true => cases::all(),
        false => cases::for_drivers(),
    };
    let extent = cases::extent(&table);
    for case in table.iter().cloned().map(in_burn) {
        if not_applicable(&case, on).is_some() {
            inapplicable += 1;
            continue;
        }
        match compare::check(&case, &case.reference(), &run(&case, on)) {
            Ok(()) => passed += 1,
            Err(why) => failures.push(format!("  {} ({}): {why}", case.name, case.why)),
        }
    }
    let failed = failures.len();
    let fusion = match cfg!(feature = "fusion") {
        true => "with",
        false => "without",
    };
    crate::report::ran(&format!(
        "burn, {fusion} fusion: {passed} passed, {failed} failed, {inapplicable} not applicable: {} ({extent})",
        on.name
    ));
    let applicable = passed + failed;
    // The composed path refuses what it does not have, and a device its unknown types.
    assert!(3 * applicable > table.len(), "few cases apply to Burn");
    assert!(
        failures.is_empty(),
        "{failed} cases failed on {}:\n{}",
        on.name,
        failures.join("\n")
    );
}

fn run_on(name: &str) {
    for on in devices::all() {
        if on.name == name {
            run_all(&on);
        }
    }
}

#[test]
fn on_flex() {
    run_on("flex");
}

#[test]
fn composed_on_flex() {
    run_on("flex, composed");
}

#[test]
fn on_a_shared_device() {
    run_on("shared");
}

#[test]
fn composed_on_wgpu() {
    run_on("shared, composed");
}

#[test]
fn as_source_kernels() {
    run_on("source");
}
