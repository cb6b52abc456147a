//! The loss in an autodiff graph: backward, shapes, several losses, untracked tensors, agreement of the paths.

use burn::tensor::{DType, Device, Int, IntDType, Tensor};
use burn_distill::{CoreReduction, DistillationLossConfig, ExecutionPath, Progress, Selection};

use crate::devices;
use crate::inputs::{Random, difference, floats, labels, logits, tensor};

const ROWS: usize = 24;
const CLASSES: usize = 37;

fn progress() -> Progress {
    Progress::new(3, 10)
}

fn config() -> DistillationLossConfig {
    DistillationLossConfig::new()
        .with_student_temperature(2.0)
        .with_teacher_temperature(3.0)
        .with_selection(Selection::Mean)
}

/// The upstream gradient is a scalar for a mean and one number per row for `None`.
#[test]
fn backward_multiplies_by_the_upstream_gradient() {
    for on in devices::all() {
        let teacher = logits(2, ROWS, CLASSES, &on.device);
        let labels = labels(ROWS, CLASSES, &on.device);
        let grad_of = |reduction, upstream: &dyn Fn(Tensor<1>) -> Tensor<1>| {
            let student = Tensor::from_inner(logits(1, ROWS, CLASSES, &on.device)).require_grad();
            let loss = on.loss(config().with_reduction(reduction).init());
            let loss = loss.forward(student.clone(), teacher.clone(), labels.clone(), progress());
            let grads = upstream(loss).backward();
            floats(student.grad(&grads).expect("tracked"))
        };
        let mean = grad_of(CoreReduction::Mean, &|loss| loss);
        let scaled = grad_of(CoreReduction::Mean, &|loss| loss * -3.5);
        let want: Vec<f32> = mean.iter().map(|g| -3.5 * g).collect();
        assert!(difference(&want, &scaled) < 1e-6, "{}", on.name);

        let each = grad_of(CoreReduction::None, &|loss| loss.sum());
        let weights: Vec<f32> = (0..ROWS).map(|r| r as f32 - 4.5).collect();
        let weighted = grad_of(CoreReduction::None, &|loss| {
            let weights = tensor(weights.clone(), [ROWS], &on.device);
            (loss * Tensor::from_inner(weights)).sum()
        });
        let want: Vec<f32> = each
            .iter()
            .enumerate()
            .map(|(i, g)| g * weights[i / CLASSES])
            .collect();
        assert!(difference(&want, &weighted) < 1e-6, "{}", on.name);
        let want: Vec<f32> = each.iter().map(|g| g / ROWS as f32).collect();
        assert!(difference(&want, &mean) < 2e-6, "{}", on.name);
    }
}

#[test]
fn grad_scale_keeps_small_f16_gradients() {
    for on in devices::all() {
        if !on.device.supports_dtype(DType::F16) {
            continue;
        }
        let run = |grad_scale: f32| {
            let student = logits(1, ROWS, CLASSES, &on.device).cast(DType::F16);
            let student = Tensor::<2>::from_inner(student).require_grad();
            let teacher = logits(2, ROWS, CLASSES, &on.device);
            let labels = labels(ROWS, CLASSES, &on.device);
            // With this denominator most of an unscaled f16 gradient underflows to 0.
            let config = config().with_reduction(CoreReduction::SumOver(1e8));
            let loss = on.loss(config.with_grad_scale(grad_scale).init());
            let loss = loss.forward(student.clone(), teacher, labels, progress());
            let grads = (loss * 1048576.0).backward();
            floats(student.grad(&grads).expect("tracked").cast(DType::F32))
        };
        let plain = run(1.0);
        let scaled = run(1048576.0);
        let zeros = |g: &[f32]| g.iter().filter(|x| **x == 0.0).count();
        let (plain, scaled) = (zeros(&plain), zeros(&scaled));
        assert!(plain > ROWS * CLASSES / 2, "{plain} zeros on {}", on.name);
        assert!(
            scaled < ROWS * CLASSES / 10,
            "{scaled} zeros on {}",
            on.name
        );
    }
}

#[test]
fn sequences_are_rows() {
    for on in devices::all() {
        let (batch, sequence) = (4, 6);
        let flat = Tensor::from_inner(logits(1, ROWS, CLASSES, &on.device)).require_grad();
        let teacher = logits(2, ROWS, CLASSES, &on.device);
        let targets = labels(ROWS, CLASSES, &on.device);
        let loss = on.loss(config().init());
        let two = loss.forward(flat.clone(), teacher.clone(), targets.clone(), progress());
        let grads = two.backward();
        let want_grad = floats(flat.grad(&grads).expect("tracked"));

        let deep = Tensor::from_inner(
            logits(1, ROWS, CLASSES, &on.device).reshape([batch, sequence, CLASSES]),
        )
        .require_grad();
        let three = loss.forward(
            deep.clone(),
            teacher.clone().reshape([batch, sequence, CLASSES]),
            targets.clone().reshape([batch, sequence]),
            progress(),
        );
        let grads = three.backward();
        let grad = deep.grad(&grads).expect("tracked");
        assert_eq!(grad.dims(), [batch, sequence, CLASSES]);
        assert_eq!(floats(grad), want_grad, "{}", on.name);

        let each = on
            .loss(config().with_reduction(CoreReduction::None).init())
            .forward(
                deep,
                teacher.reshape([batch, sequence, CLASSES]),
                targets.reshape([batch, sequence]),
                progress(),
            );
        assert_eq!(each.dims(), [ROWS]);
    }
}

#[test]
fn transposed_logits_and_int64_labels() {
    for on in devices::all() {
        let plain = logits(1, ROWS, CLASSES, &on.device);
        let teacher = logits(2, ROWS, CLASSES, &on.device);
        let targets = labels(ROWS, CLASSES, &on.device);
        let loss = on.loss(config().init());
        let want =
            floats(loss.forward(plain.clone(), teacher.clone(), targets.clone(), progress()));
        // The same values in column-major order.
        let student = plain.transpose().mul_scalar(1.0).transpose();
        let teacher = teacher.transpose().mul_scalar(1.0).transpose();
        let got = floats(loss.forward(
            student.clone(),
            teacher.clone(),
            targets.clone(),
            progress(),
        ));
        assert!(difference(&want, &got) < 1e-6, "{}", on.name);
        if on.device.supports_dtype(DType::I64) {
            let wide = targets.cast(IntDType::I64);
            let got = floats(loss.forward(student, teacher, wide, progress()));
            assert!(difference(&want, &got) < 1e-6, "{}", on.name);
        }
    }
}

#[test]
fn the_teacher_gets_no_gradient_and_untracked_logits_give_an_untracked_loss() {
    for on in devices::all() {
        let student = Tensor::from_inner(logits(1, ROWS, CLASSES, &on.device)).require_grad();
        let teacher = Tensor::from_inner(logits(2, ROWS, CLASSES, &on.device)).require_grad();
        let targets = labels(ROWS, CLASSES, &on.device);
        let loss = on.loss(config().init());
        let out = loss.forward(
            student.clone(),
            teacher.clone(),
            targets.clone(),
            progress(),
        );
        let grads = (out + teacher.clone().sum() * 0.0).backward();
        let to_teacher = floats(teacher.grad(&grads).expect("the sum is tracked"));
        assert!(to_teacher.iter().all(|g| *g == 0.0), "{}", on.name);
        assert!(student.grad(&grads).is_some());

        // Without tracked logits the loss is not tracked.
        let plain = logits(1, ROWS, CLASSES, &on.device);
        let out = loss.forward(plain, teacher.inner(), targets.clone(), progress());
        assert!(!out.is_autodiff() && !out.is_tracked(), "{}", on.name);
        let detached = Tensor::from_inner(student.inner());
        let other = logits(2, ROWS, CLASSES, &on.device);
        let out = loss.forward(detached, other, targets, progress());
        assert!(!out.is_tracked(), "{}", on.name);
    }
}

#[test]
fn two_losses_in_one_graph_and_one_loss_used_twice() {
    for on in devices::all() {
        let teacher = logits(2, ROWS, CLASSES, &on.device);
        let other = logits(3, ROWS, CLASSES, &on.device);
        let targets = labels(ROWS, CLASSES, &on.device);
        let loss = on.loss(config().init());
        let single = |teacher: &Tensor<2>| {
            let student = Tensor::from_inner(logits(1, ROWS, CLASSES, &on.device)).require_grad();
            let out = loss.forward(
                student.clone(),
                teacher.clone(),
                targets.clone(),
                progress(),
            );
            let grads = out.backward();
            floats(student.grad(&grads).expect("tracked"))
        };
        let (a, b) = (single(&teacher), single(&other));
        let student = Tensor::from_inner(logits(1, ROWS, CLASSES, &on.device)).require_grad();
        let one = loss.forward(
            student.clone(),
            teacher.clone(),
            targets.clone(),
            progress(),
        );
        let two = loss.forward(student.clone(), other.clone(), targets.clone(), progress());
        // The first loss enters the sum twice: as it is and squared.
        let value = floats(one.clone().inner())[0];
        let grads = (one.clone() + two + one.clone() * one).backward();
        let got = floats(student.grad(&grads).expect("tracked"));
        let want: Vec<f32> = a
            .iter()
            .zip(&b)
            .map(|(a, b)| a * (1.0 + 2.0 * value) + b)
            .collect();
        assert!(difference(&want, &got) < 1e-5, "{}", on.name);
    }
}

/// Burn may recompute tensors that it did not keep. The loss keeps its gradient.
#[test]
fn gradient_checkpointing_changes_nothing() {
    for on in devices::all() {
        let run = |device: Device| {
            let values = Random(1).values(ROWS * CLASSES, 4.0);
            let student = tensor(values, [ROWS, CLASSES], &device).require_grad();
            let teacher = logits(2, ROWS, CLASSES, &on.device);
            let targets = labels(ROWS, CLASSES, &on.device);
            let loss = on.loss(config().init());
            let doubled = (student.clone() * 2.0).exp().log();
            let out = loss.forward(doubled, teacher, targets, progress());
            let grads = out.backward();
            floats(student.grad(&grads).expect("tracked"))
        };
        let plain = run(on.device.clone().autodiff());
        let saved = run(on.device.clone().autodiff().gradient_checkpointing());
        assert!(difference(&plain, &saved) < 1e-6, "{}", on.name);
    }
}

#[test]
fn no_rows_and_only_ignored_rows_give_zero() {
    for on in devices::all() {
        let loss = on.loss(config().init());
        let student = Tensor::from_inner(logits(1, 3, CLASSES, &on.device)).require_grad();
        let teacher = logits(2, 3, CLASSES, &on.device);
        let ignored = Tensor::<1, Int>::full([3], -100, (&on.device, DType::I32));
        let out = loss.forward_with_metrics(student.clone(), teacher, ignored, progress());
        let grads = out.loss.clone().backward();
        assert_eq!(floats(out.loss), [0.0]);
        let grad = floats(student.grad(&grads).expect("tracked"));
        assert!(grad.iter().all(|g| *g == 0.0));

        let empty = Tensor::<2>::zeros([0, CLASSES], (&on.device, DType::F32));
        let none = Tensor::<1, Int>::zeros([0], (&on.device, DType::I32));
        let out = loss.forward(empty.clone(), empty, none, progress());
        assert_eq!(floats(out), [0.0], "{}", on.name);
    }
}

#[test]
fn paths_agree() {
    let all = devices::all();
    let mut results = Vec::new();
    for on in &all {
        let student = Tensor::from_inner(logits(1, ROWS, CLASSES, &on.device)).require_grad();
        let teacher = logits(2, ROWS, CLASSES, &on.device);
        let targets = labels(ROWS, CLASSES, &on.device);
        let loss = on.loss(config().init());
        let out = loss.forward_with_metrics(student.clone(), teacher, targets, progress());
        assert_eq!(out.path, on.path);
        let grads = out.loss.clone().backward();
        let mut values = floats(student.grad(&grads).expect("tracked"));
        for t in [
            out.loss.inner(),
            out.kdr,
            out.tssr,
            out.row_kdr,
            out.row_tssr,
            out.row_loss,
        ] {
            values.extend(floats(t));
        }
        results.push(values);
    }
    assert!(all.iter().any(|on| on.path == ExecutionPath::Host));
    for (on, result) in all.iter().zip(&results) {
        assert!(difference(&results[0], result) < 1e-5, "{}", on.name);
    }
}

/// Sizes at which backends dispatch, fuse and sum in another way, without the metrics, as a training step has them.
#[test]
fn paths_agree_in_large_batches() {
    for (rows, classes) in [
        (1024, 4096),
        (4099, 300),
        (70_001, 3),
        (5, 32_768),
        (3, 65_537),
        (2, 131_072),
    ] {
        let mut first: Option<Vec<f32>> = None;
        for on in devices::all() {
            let student = Tensor::from_inner(logits(1, rows, classes, &on.device)).require_grad();
            let teacher = logits(2, rows, classes, &on.device);
            let targets = labels(rows, classes, &on.device);
            let hinton = burn_distill::presets::hinton(2.0, 0.5);
            let both: [DistillationLossConfig; 2] = [config(), hinton.into()];
            let mut values = Vec::new();
            let mut losses = Vec::new();
            for config in both {
                let loss = on.loss(config.init());
                let (t, l) = (teacher.clone(), targets.clone());
                let loss = loss.forward(student.clone(), t, l, progress());
                let grads = loss.backward();
                losses.extend(floats(loss));
                values.extend(floats(student.grad(&grads).expect("tracked")));
            }
            // The gradients of a mean are small beside its loss.
            let scale = rows as f32;
            values.iter_mut().for_each(|g| *g *= scale);
            values.extend(losses);
            let want = first.get_or_insert_with(|| values.clone());
            let apart = difference(want, &values);
            assert!(apart < 2e-5, "{rows} x {classes} on {}: {apart}", on.name);
        }
    }
}
