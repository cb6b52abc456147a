//! The table of cases of the kernels' crate, on each way to compute the loss, against its f64 reference; the gradient through autodiff.

#[path = "../../../tests/cases/mod.rs"]
mod cases;
mod devices;

use burn::tensor::{DType, Int, Tensor, TensorData};
use burn_distill::DistillationLossConfig;
use cases::Case;
use cases::compare::{self, Outcome};
use cases::inputs::{self, Stored};
use devices::Way;
use wgpu_distill::{Reduction, RowResult, Storage, Summary, Values, reference};

fn dtype(storage: Storage) -> DType {
    match storage {
        Storage::F32 => DType::F32,
        Storage::F16 => DType::F16,
        Storage::Bf16 => DType::BF16,
    }
}

/// Logits `[rows, classes]` as a slice of `[rows, classes + gap]`: a view on flex, on wgpu only where the gap is a multiple of the device's alignment.
fn logits(values: &[f32], case: &Case, i: usize, way: &Way) -> Tensor<2> {
    let classes = [case.classes, case.teacher_classes][i];
    let stride = classes + case.gaps[i];
    let spread = inputs::spread(values, classes, stride, 0);
    let stored = Stored::round(&spread, case.storage[i]);
    let mut bytes = stored.values().as_bytes().to_vec();
    // The last row's gap, which `spread` leaves out.
    let size = case.storage[i].bytes();
    bytes.resize(case.rows * stride * size, 0);
    let dtype = dtype(case.storage[i]);
    let data = TensorData::from_bytes_vec(bytes, [case.rows, stride], dtype);
    Tensor::<2>::from_data(data, (&way.device, dtype)).slice([0..case.rows, 0..classes])
}

fn floats(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

/// Why a case is not for Burn, if so.
fn not_for(case: &Case, way: &Way) -> Option<&'static str> {
    if !case.on_slices() && !case.bad_labels {
        return Some("in place or accumulated: Burn owns its gradients");
    }
    if case.bad_labels && way.path == burn_distill::Path::Host {
        return Some("labels out of range are refused on the host");
    }
    if case.storage[2] != case.storage[0] {
        return Some("a gradient has its tensor's type");
    }
    let unknown = |s: &Storage| !way.device.supports_dtype(dtype(*s));
    if case.storage.iter().any(unknown) {
        return Some("Burn has no such type on this device");
    }
    None
}

fn run(case: &Case, way: &Way) -> Outcome {
    let [student, teacher] = case.logits();
    let device = way.device.clone().autodiff();
    let student = logits(&student, case, 0, way);
    let student = Tensor::from_inner(student).require_grad();
    let teacher = logits(&teacher, case, 1, way);
    let labels = TensorData::new(case.labels(), [case.rows]);
    let labels = Tensor::<1, Int>::from_data(labels, (&way.device, DType::I32));
    let c = &case.config;
    let config = DistillationLossConfig::new()
        .with_student_temperature(c.student_temperature)
        .with_teacher_temperature(c.teacher_temperature)
        .with_temperature_scaling(c.temperature_scaling)
        .with_similarity(c.similarity)
        .with_selection(c.selection)
        .with_scope(c.scope)
        .with_reduction(c.reduction)
        .with_label_smoothing(c.label_smoothing)
        .with_ignore_index(c.ignore_index)
        .with_teacher_classes(c.teacher_classes);
    let loss = way.loss(config.init());
    assert!(student.device() == device);
    let out = loss.forward_with_metrics(student.clone(), teacher, labels, case.progress);
    // The upstream gradient is what the kernels' crate calls `grad_loss`.
    let root = match c.reduction {
        Reduction::None => out.loss.clone().sum(),
        _ => out.loss.clone(),
    };
    let grads = (root * c.grad_loss).backward();
    let gradient = student.grad(&grads).expect("a gradient");
    assert_eq!(gradient.dtype(), dtype(case.storage[0]));
    let gradient: Vec<f32> = {
        let data = gradient.into_data();
        let values = match case.storage[0] {
            Storage::F32 => Values::F32(data.as_slice().expect("f32")),
            Storage::F16 => Values::F16(data.as_slice().expect("f16")),
            Storage::Bf16 => Values::Bf16(data.as_slice().expect("bf16")),
        };
        (0..values.len()).map(|i| values.get(i)).collect()
    };
    let host = case.host();
    let want = reference::distill(&case.config, case.progress, &host.batch()).expect("valid");
    let (losses, kdr, tssr) = (
        floats(out.row_loss),
        floats(out.row_kdr),
        floats(out.row_tssr),
    );
    // Rows' flags are not given out; what they mean shows in the counts.
    let rows = (0..case.rows).map(|i| {
        let mut row = RowResult::default();
        (row.loss, row.kdr, row.tssr) = (losses[i], kdr[i], tssr[i]);
        row.flags = want.rows[i].flags;
        row
    });
    let mut summary = Summary::default();
    (summary.kdr, summary.tssr) = (floats(out.kdr)[0], floats(out.tssr)[0]);
    let count = |t: Tensor<1, Int>| t.into_scalar::<i64>() as u32;
    let loss = floats(out.loss);
    assert_eq!(
        loss.len(),
        if c.reduction == Reduction::None {
            case.rows
        } else {
            1
        }
    );
    summary.loss = loss.iter().sum();
    summary.valid_rows = count(out.valid_rows);
    summary.ignored_rows = count(out.ignored_rows);
    summary.invalid_labels = count(out.invalid_labels);
    summary.non_finite_rows = count(out.non_finite_rows);
    Outcome {
        rows: rows.collect(),
        gradient,
        summary,
    }
}

fn run_all(way: &Way) {
    let (mut passed, mut elsewhere) = (0, 0);
    let mut failures = Vec::new();
    for case in cases::all() {
        if not_for(&case, way).is_some() {
            elsewhere += 1;
            continue;
        }
        let host = case.host();
        let want = reference::distill(&case.config, case.progress, &host.batch())
            .expect("cases are valid");
        match compare::check(&case, &want, &run(&case, way)) {
            Ok(()) => passed += 1,
            Err(why) => failures.push(format!("  {} ({}): {why}", case.name, case.why)),
        }
    }
    let failed = failures.len();
    println!(
        "cases: {passed} passed, {failed} failed, {elsewhere} not for Burn: {}",
        way.name
    );
    assert!(passed + failed > 300, "the table of cases has shrunk");
    assert!(
        failures.is_empty(),
        "{failed} cases failed on {}:\n{}",
        way.name,
        failures.join("\n")
    );
}

fn run_way(name: &str) {
    for way in devices::ways() {
        if way.name == name {
            run_all(&way);
        }
    }
}

#[test]
fn on_flex() {
    run_way("flex");
}

#[test]
fn composed_on_flex() {
    run_way("flex, composed");
}

#[test]
fn on_a_shared_device() {
    run_way("shared");
}

#[test]
fn composed_on_wgpu() {
    run_way("shared, composed");
}

#[test]
fn as_source_kernels() {
    run_way("source");
}
