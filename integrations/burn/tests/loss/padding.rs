//! Rows that are left out as padding, by pad tokens and by a mask; rows that are counted; one class.

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use burn_distill::{
    CoreReduction, DistillationBatch, DistillationLossConfig, Divergence, Error, ExecutionPath,
    Progress, Selection,
};

use crate::devices;
use crate::inputs::{floats, labels, logits, tensor};

const ROWS: usize = 24;
const CLASSES: usize = 37;

fn progress() -> Progress {
    Progress::new(3, 10)
}

/// Two rows whose label is 5 and one whose label is 12.
fn targets(device: &Device) -> Tensor<1, Int> {
    let mut of_rows: Vec<i32> = (0..ROWS).map(|row| (row * 7 % CLASSES) as i32).collect();
    for row in &mut of_rows {
        if [5, 12].contains(row) {
            *row = 0;
        }
    }
    (of_rows[2], of_rows[9], of_rows[20]) = (5, 5, 12);
    Tensor::from_data(TensorData::new(of_rows, [ROWS]), (device, DType::I32))
}

fn mask(rows: &[usize], device: &Device) -> Tensor<1, Bool> {
    let entries: Vec<bool> = (0..ROWS).map(|row| rows.contains(&row)).collect();
    Tensor::from_data(TensorData::new(entries, [ROWS]), device)
}

/// Pad tokens and a mask leave out what `ignore_index` in the labels leaves out, to the bit.
#[test]
fn pad_tokens_and_masks_are_labels_to_ignore() {
    for on in devices::all() {
        let run = |pad_tokens: Vec<i32>, mask: Option<Tensor<1, Bool>>, targets: Tensor<1, Int>| {
            let config = DistillationLossConfig::new().with_pad_tokens(pad_tokens);
            let loss = on.loss(config.init());
            let student = Tensor::from_inner(logits(1, ROWS, CLASSES, &on.device)).require_grad();
            let teacher = logits(2, ROWS, CLASSES, &on.device);
            let mut batch = DistillationBatch::new(student.clone(), teacher, targets);
            batch.mask_pad = mask;
            let out = loss.forward_batch(batch, progress());
            let grads = out.loss.clone().backward();
            let gradient = floats(student.grad(&grads).expect("tracked"));
            let labels: Vec<i32> = out.labels.into_data().try_to_vec().expect("i32");
            let ignored = out.ignored_rows.into_scalar::<i64>();
            (
                floats(out.loss),
                gradient,
                floats(out.row_kdr),
                labels,
                ignored,
            )
        };
        let ignoring = |rows: &[usize]| {
            let mask = mask(rows, &on.device);
            targets(&on.device).mask_fill(mask, -100)
        };
        let plain = || targets(&on.device);
        let want = run(vec![], None, ignoring(&[2, 9, 20]));
        assert_eq!(want.4, 3);
        assert_eq!(run(vec![5, 12], None, plain()), want, "{}", on.name);
        assert_eq!(run(vec![12], None, ignoring(&[2, 9])), want, "{}", on.name);
        let all = mask(&[2, 9, 20], &on.device);
        assert_eq!(run(vec![], Some(all), plain()), want, "{}", on.name);
        let some = mask(&[2, 20], &on.device);
        assert_eq!(run(vec![5], Some(some), plain()), want, "{}", on.name);
        // A masked row may have any label.
        let row = mask(&[9], &on.device);
        let outside = plain().mask_fill(row.clone(), 999);
        let got = run(vec![5, 12], Some(row), outside);
        assert_eq!(got, want, "{}", on.name);
        // Neither changes a batch without padding.
        let none = mask(&[], &on.device);
        let want = run(vec![], None, plain());
        assert_eq!(want.4, 0);
        assert_eq!(run(vec![-7], Some(none), plain()), want, "{}", on.name);
    }
}

#[test]
fn masks_of_sequences_and_of_another_shape() {
    for on in devices::all() {
        let loss = on.loss(DistillationLossConfig::new().init());
        let shape = [4, ROWS / 4, CLASSES];
        let batch = |mask_pad: Tensor<2, Bool>| {
            let matrix = |seed| logits(seed, ROWS, CLASSES, &on.device).reshape(shape);
            let targets = targets(&on.device).reshape([4, ROWS / 4]);
            DistillationBatch::new(matrix(1), matrix(2), targets).with_mask_pad(mask_pad)
        };
        let padded = mask(&[0, 1, 23], &on.device);
        let out = loss.forward_batch(batch(padded.clone().reshape([4, ROWS / 4])), progress());
        assert_eq!(out.ignored_rows.into_scalar::<i64>(), 3, "{}", on.name);
        let error = loss.try_forward_batch(batch(padded.reshape([ROWS / 4, 4])), progress());
        let want = Error::MaskPad {
            mask_pad: vec![ROWS / 4, 4],
            expected: vec![4, ROWS / 4],
            student: shape.to_vec(),
        };
        assert_eq!(error.expect_err("refused"), want);
    }
}

/// The student alone masks a class: the loss is infinite where the teacher has mass there, and such rows are counted.
#[test]
fn rows_with_an_infinite_loss_are_counted() {
    for on in devices::all() {
        let mut values: Vec<f32> = floats(logits(1, ROWS, CLASSES, &Device::flex()));
        for row in [3, 4, 17] {
            values[row * CLASSES + 30] = f32::NEG_INFINITY;
        }
        let mut teacher: Vec<f32> = floats(logits(2, ROWS, CLASSES, &Device::flex()));
        // No mass in the class that this row of the student masks.
        teacher[4 * CLASSES + 30] = f32::NEG_INFINITY;
        let matrix = |values| tensor(values, [ROWS, CLASSES], &on.device);
        let targets = labels(ROWS, CLASSES, &on.device);
        let config = DistillationLossConfig::new().with_reduction(CoreReduction::None);
        let loss = on.loss(config.init());
        let batch = DistillationBatch::new(matrix(values), matrix(teacher), targets);
        let out = loss.forward_batch(batch, progress());
        let rows: Vec<usize> = floats(out.row_loss.clone())
            .iter()
            .enumerate()
            .filter_map(|(row, loss)| loss.is_infinite().then_some(row))
            .collect();
        assert_eq!(rows, [3, 17], "{}", on.name);
        assert_eq!(out.infinite_rows().into_scalar::<i64>(), 2, "{}", on.name);
        assert_eq!(out.non_finite_rows.into_scalar::<i64>(), 0, "{}", on.name);
    }
}

/// With one class, both distributions are one number: the loss is exactly 0, and so is the gradient but for one rounding of the GPU's kernels.
#[test]
fn one_class_has_no_loss() {
    let mut failures = Vec::new();
    for on in devices::all() {
        for temperature in [1.0, 2.0, 3.0] {
            for selection in [Selection::Min, Selection::Fixed(0.3)] {
                for divergence in [
                    Divergence::SoftCrossEntropy,
                    Divergence::ForwardKl,
                    Divergence::ReverseKl,
                    Divergence::Jsd { beta: 0.3 },
                    Divergence::TotalVariation,
                ] {
                    let config = DistillationLossConfig::new()
                        .with_student_temperature(temperature)
                        .with_divergence(divergence)
                        .with_selection(selection);
                    let loss = on.loss(config.init());
                    let student = Tensor::from_inner(logits(1, ROWS, 1, &on.device)).require_grad();
                    let (teacher, targets) =
                        (logits(2, ROWS, 1, &on.device), labels(ROWS, 1, &on.device));
                    let loss = loss.forward(student.clone(), teacher, targets, progress());
                    let grads = loss.backward();
                    let gradient = floats(student.grad(&grads).expect("tracked"));
                    let of = format!("{divergence}, {temperature}, {selection} on {}", on.name);
                    let loss = floats(loss);
                    let bound = match on.path {
                        ExecutionPath::Host | ExecutionPath::Composed => 0.0,
                        ExecutionPath::SharedDevice | ExecutionPath::SourceKernels => 1e-8,
                    };
                    let within = gradient.iter().all(|g| g.abs() <= bound);
                    if loss != [0.0] || !within {
                        failures.push(format!("{of}: {loss:?}, {:e}", gradient[0]));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
