//! Weights and metrics of rows.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor};
use burn_distill::wgpu_distill::cpu::Cpu;
use burn_distill::wgpu_distill::{Batch, Outputs};
use burn_distill::{
    CoreReduction, DistillationBatch, DistillationLossConfig, DistillationOutput, Divergence,
    Error, ExecutionPath, Progress,
};
use wgpu_distill::Error as CoreError;

use crate::devices::{self, TestDevice};
use crate::inputs::{Random, difference, floats, labels, logits, tensor};

const ROWS: usize = 24;
const CLASSES: usize = 37;

fn progress() -> Progress {
    Progress::new(3, 10)
}

fn config() -> DistillationLossConfig {
    DistillationLossConfig::new()
        .with_student_temperature(2.0)
        .with_divergence(Divergence::ReverseKl)
}

fn batch(device: &Device, student: Tensor<2>) -> DistillationBatch<2, 1> {
    let teacher = logits(2, ROWS, CLASSES, device);
    DistillationBatch::new(student, teacher, labels(ROWS, CLASSES, device))
}

/// Weights of both signs that f16 represents, one of them 0.
fn weights() -> Vec<f32> {
    (0..ROWS).map(|row| row as f32 * 0.25 - 2.0).collect()
}

/// The gradient, and the output without autodiff.
fn backward(out: DistillationOutput, student: &Tensor<2>) -> (Vec<f32>, Vec<f32>) {
    let grads = out.loss.clone().sum().backward();
    let gradient = student.grad(&grads).expect("tracked");
    (floats(gradient), floats(out.loss))
}

/// A weight multiplies loss and gradient of its row, as a product after `CoreReduction::None` does.
#[test]
fn a_weight_multiplies_loss_and_gradient_of_its_row() {
    for on in devices::all() {
        let student = || Tensor::from_inner(logits(1, ROWS, CLASSES, &on.device)).require_grad();
        let run = |reduction, row_weights: Option<Tensor<1>>| {
            let loss = on.loss(config().with_reduction(reduction).init());
            let student = student();
            let mut batch = batch(&on.device, student.clone());
            batch.row_weights = row_weights;
            backward(loss.forward_batch(batch, progress()), &student)
        };
        let (gradient, losses) = run(CoreReduction::None, None);
        let each = |values: &[f32], columns: usize| -> Vec<f32> {
            let weights = weights();
            let value = |(i, x): (usize, &f32)| x * weights[i / columns];
            values.iter().enumerate().map(value).collect()
        };
        let (want_gradient, want) = (each(&gradient, CLASSES), each(&losses, 1));
        let given = tensor(weights(), [ROWS], &on.device);
        let (gradient, losses) = run(CoreReduction::None, Some(given.clone()));
        assert!(difference(&want, &losses) < 1e-6, "{}", on.name);
        assert!(difference(&want_gradient, &gradient) < 1e-6, "{}", on.name);

        // The denominator of a mean does not depend on the weights.
        let (gradient, losses) = run(CoreReduction::Mean, Some(given));
        let scaled: Vec<f32> = want_gradient.iter().map(|g| g / ROWS as f32).collect();
        let mean = want.iter().sum::<f32>() / ROWS as f32;
        assert!(difference(&[mean], &losses) < 1e-5, "{}", on.name);
        assert!(difference(&scaled, &gradient) < 1e-5, "{}", on.name);
    }
}

#[test]
fn weights_of_any_float_type_layout_and_graph() {
    for on in devices::all() {
        let loss = on.loss(config().init());
        let run = |row_weights: Tensor<1>| {
            let batch = batch(&on.device, logits(1, ROWS, CLASSES, &on.device));
            let out = loss.forward_batch(batch.with_row_weights(row_weights), progress());
            assert!(!out.loss.is_tracked(), "{}", on.name);
            floats(out.loss)
        };
        let plain = tensor(weights(), [ROWS], &on.device);
        let want = run(plain.clone());
        for dtype in [FloatDType::F16, FloatDType::BF16, FloatDType::F64] {
            if on.device.supports_dtype(dtype) {
                assert_eq!(run(plain.clone().cast(dtype)), want, "{}", on.name);
            }
        }
        // A slice in the middle of a buffer, and every second number of one.
        let longer = Tensor::cat(vec![plain.clone().neg(), plain.clone()], 0);
        assert_eq!(run(longer.slice(ROWS..2 * ROWS)), want, "{}", on.name);
        let pairs: Tensor<2> = Tensor::stack(vec![plain.clone(), plain.clone().neg()], 1);
        let column = pairs.slice([0..ROWS, 0..1]).reshape([ROWS]);
        assert_eq!(run(column), want, "{}", on.name);
        // Weights are constants, also in a graph.
        assert_eq!(run(Tensor::from_inner(plain).require_grad()), want);
        // One number for all rows.
        let half = Tensor::<1>::full([1], 0.5, (&on.device, DType::F32)).expand([ROWS]);
        let whole = on.loss(config().init()).forward_batch(
            batch(&on.device, logits(1, ROWS, CLASSES, &on.device)),
            progress(),
        );
        let want: Vec<f32> = floats(whole.loss).iter().map(|x| 0.5 * x).collect();
        assert!(difference(&want, &run(half)) < 1e-6, "{}", on.name);
    }
}

#[test]
fn sequences_have_weights_and_metrics() {
    for on in devices::all() {
        let shape = [4, ROWS / 4];
        let loss = on.loss(config().init()).with_row_metrics();
        let given = tensor(weights(), [ROWS], &on.device);
        let two = batch(&on.device, logits(1, ROWS, CLASSES, &on.device));
        let three = DistillationBatch::new(
            two.student_logits.clone().reshape([4, ROWS / 4, CLASSES]),
            two.teacher_logits.clone().reshape([4, ROWS / 4, CLASSES]),
            two.labels.clone().reshape(shape),
        );
        let three = three.with_row_weights(given.clone().reshape(shape));
        let want = loss.forward_batch(two.with_row_weights(given), progress());
        let got = loss.forward_batch(three, progress());
        assert_eq!(floats(want.loss), floats(got.loss), "{}", on.name);
        let entropies = |out: Option<burn_distill::RowMetrics>| {
            floats(out.expect("requested").student_entropy())
        };
        let (want, got) = (entropies(want.row_metrics), entropies(got.row_metrics));
        assert_eq!(want.len(), ROWS);
        assert_eq!(want, got, "{}", on.name);
    }
}

/// Each metric of each row and each mean, against the CPU path of the core on the same numbers.
#[test]
fn metrics_are_those_of_the_core() {
    let student = Random(1).values(ROWS * CLASSES, 4.0);
    let teacher = Random(2).values(ROWS * CLASSES, 4.0);
    let targets: Vec<i32> = (0..ROWS).map(|row| (row * 7 % CLASSES) as i32).collect();
    // Two rows in which both sides choose the label.
    let mut both = [student, teacher];
    for row in [3, 5] {
        for side in &mut both {
            side[row * CLASSES + targets[row] as usize] = 9.0;
        }
    }
    let [student, teacher] = both;
    let weights = weights();
    let core = Batch::new(&student, &teacher, &targets, CLASSES).with_row_weights(&weights);
    let outputs = Outputs {
        metrics: true,
        ..Outputs::ALL
    };
    let want = Cpu::new().run(&config().core, progress(), &core, outputs);
    let want = want.expect("a valid batch");
    for on in devices::all() {
        let matrix = |values: &Vec<f32>| tensor(values.clone(), [ROWS, CLASSES], &on.device);
        let leaf = Tensor::from_inner(matrix(&student)).require_grad();
        let targets = labels(ROWS, CLASSES, &on.device);
        let batch = DistillationBatch::new(leaf.clone(), matrix(&teacher), targets)
            .with_row_weights(tensor(weights.clone(), [ROWS], &on.device));
        let loss = on.loss(config().init());
        let without = loss.forward_batch(batch.clone(), progress());
        assert!(without.row_metrics.is_none() && without.mean_metrics.is_none());
        let out = loss.with_row_metrics().forward_batch(batch, progress());
        let rows = out.row_metrics.clone().expect("requested");
        let means = out.mean_metrics.clone().expect("requested");
        macro_rules! compare {
            ($($name:ident)*) => {
                $(let each: Vec<f32> = want.metrics.iter().map(|m| m.$name).collect();
                let apart = difference(&each, &floats(rows.$name()));
                assert!(apart < 2e-6, "{} of rows differs by {apart} on {}", stringify!($name), on.name);
                let apart = difference(&[want.summary.metrics.$name], &floats(means.$name()));
                assert!(apart < 2e-6, "mean {} differs by {apart} on {}", stringify!($name), on.name);)*
            };
        }
        compare!(forward_kl teacher_entropy student_entropy hard soft student_lse teacher_lse);
        compare!(agreement student_accuracy teacher_accuracy);
        assert!(want.summary.metrics.agreement > 0.0 && want.summary.metrics.agreement < 1.0);
        // Loss and gradient do not depend on the metrics.
        let (gradient, loss) = backward(out, &leaf);
        let (want_gradient, want_loss) = backward(without, &leaf);
        assert!(difference(&want_gradient, &gradient) < 1e-6, "{}", on.name);
        assert!(difference(&want_loss, &loss) < 1e-6, "{}", on.name);
    }
}

#[test]
fn no_rows_have_weights_and_metrics() {
    for on in devices::all() {
        let empty = Tensor::<2>::zeros([0, CLASSES], (&on.device, DType::F32));
        let none = Tensor::<1, Int>::zeros([0], (&on.device, DType::I32));
        let batch = DistillationBatch::new(empty.clone(), empty, none)
            .with_row_weights(Tensor::zeros([0], (&on.device, DType::F32)));
        let loss = on.loss(config().init()).with_row_metrics();
        let out = loss.forward_batch(batch, progress());
        assert_eq!(floats(out.loss), [0.0], "{}", on.name);
        let [rows, means] = [out.row_metrics, out.mean_metrics].map(Option::unwrap);
        assert_eq!(rows.hard().dims(), [0], "{}", on.name);
        assert_eq!(floats(means.hard()), [0.0], "{}", on.name);
    }
}

fn refusal(on: &TestDevice, row_weights: Tensor<1>) -> Error {
    let batch = batch(&on.device, logits(1, ROWS, CLASSES, &on.device));
    let loss = on.loss(config().init());
    loss.try_forward_batch(batch.with_row_weights(row_weights), progress())
        .expect_err("it is refused")
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    for on in devices::all() {
        let error = refusal(&on, tensor(vec![1.0; ROWS - 1], [ROWS - 1], &on.device));
        let want = Error::RowWeights {
            row_weights: vec![ROWS - 1],
            expected: vec![ROWS],
            student: vec![ROWS, CLASSES],
        };
        assert_eq!(error, want);
        assert!(error.to_string().contains("one weight per row"), "{error}");
        if on.device != Device::flex() {
            let error = refusal(&on, tensor(weights(), [ROWS], &Device::flex()));
            assert!(
                matches!(error, Error::Devices { name, .. } if name == "row_weights"),
                "{error}"
            );
        }
    }
}

/// On the host an error names the weight. On a GPU its row counts as a row with NaN, since reading the weights would block.
#[test]
fn weights_that_are_not_finite() {
    for on in devices::all() {
        let mut weights = weights();
        weights[4] = f32::NEG_INFINITY;
        let batch = batch(&on.device, logits(1, ROWS, CLASSES, &on.device));
        let batch = batch.with_row_weights(tensor(weights, [ROWS], &on.device));
        let done = on
            .loss(config().init())
            .try_forward_batch(batch, progress());
        match done {
            Err(error) => {
                assert_eq!(on.path, ExecutionPath::Host);
                assert!(
                    matches!(error, Error::Distill(CoreError::RowWeight { row: 4, .. })),
                    "{error}"
                );
            }
            Ok(done) => {
                assert_ne!(on.path, ExecutionPath::Host);
                assert_eq!(done.non_finite_rows.into_scalar::<i64>(), 1, "{}", on.name);
                let nan: Vec<bool> = floats(done.row_loss).iter().map(|x| x.is_nan()).collect();
                let want: Vec<bool> = (0..ROWS).map(|row| row == 4).collect();
                assert_eq!(nan, want, "{}", on.name);
            }
        }
    }
}
