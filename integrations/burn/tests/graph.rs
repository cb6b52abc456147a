//! The loss in a graph: backward, shapes, several losses, no gradient where none is asked for, and the order of work on the GPU.

mod devices;
mod inputs;

use burn::tensor::{DType, Device, Int, Tensor};
use burn_distill::{DistillationLossConfig, Path, Progress, Reduction, Selection, TrainingSteps};
use inputs::{Random, difference, floats, labels, logits, tensor};

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

/// The upstream gradient scales the kernels' gradient: a scalar for a mean, one a row for `None`.
#[test]
fn backward_multiplies_by_the_upstream_gradient() {
    for way in devices::ways() {
        let teacher = logits(2, ROWS, CLASSES, &way.device);
        let labels = labels(ROWS, CLASSES, &way.device);
        let grad_of = |reduction, upstream: &dyn Fn(Tensor<1>) -> Tensor<1>| {
            let student = Tensor::from_inner(logits(1, ROWS, CLASSES, &way.device)).require_grad();
            let loss = way.loss(config().with_reduction(reduction).init());
            let loss = loss.forward(student.clone(), teacher.clone(), labels.clone(), progress());
            let grads = upstream(loss).backward();
            floats(student.grad(&grads).expect("tracked"))
        };
        let mean = grad_of(Reduction::Mean, &|loss| loss);
        let scaled = grad_of(Reduction::Mean, &|loss| loss * -3.5);
        let want: Vec<f32> = mean.iter().map(|g| -3.5 * g).collect();
        assert!(difference(&want, &scaled) < 1e-6, "{}", way.name);

        let each = grad_of(Reduction::None, &|loss| loss.sum());
        let weights: Vec<f32> = (0..ROWS).map(|r| r as f32 - 4.5).collect();
        let weighted = grad_of(Reduction::None, &|loss| {
            let weights = tensor(weights.clone(), [ROWS], &way.device);
            (loss * Tensor::from_inner(weights)).sum()
        });
        let want: Vec<f32> = each
            .iter()
            .enumerate()
            .map(|(i, g)| g * weights[i / CLASSES])
            .collect();
        assert!(difference(&want, &weighted) < 1e-6, "{}", way.name);
        let want: Vec<f32> = each.iter().map(|g| g / ROWS as f32).collect();
        assert!(difference(&want, &mean) < 2e-6, "{}", way.name);
    }
}

#[test]
fn grad_scale_is_taken_out_again_and_saves_small_f16_gradients() {
    for way in devices::ways() {
        if !way.device.supports_dtype(DType::F16) {
            continue;
        }
        let run = |grad_scale: f32| {
            let student = logits(1, ROWS, CLASSES, &way.device).cast(DType::F16);
            let student = Tensor::<2>::from_inner(student).require_grad();
            let teacher = logits(2, ROWS, CLASSES, &way.device);
            let labels = labels(ROWS, CLASSES, &way.device);
            // So large a denominator that a plain f16 gradient is all zeros.
            let config = config().with_reduction(Reduction::SumOver(1e8));
            let loss = way.loss(config.with_grad_scale(grad_scale).init());
            let loss = loss.forward(student.clone(), teacher, labels, progress());
            let grads = (loss * 1048576.0).backward();
            floats(student.grad(&grads).expect("tracked").cast(DType::F32))
        };
        let plain = run(1.0);
        let scaled = run(1048576.0);
        let zeros = |g: &[f32]| g.iter().filter(|x| **x == 0.0).count();
        let (plain, scaled) = (zeros(&plain), zeros(&scaled));
        assert!(plain > ROWS * CLASSES / 2, "{plain} zeros on {}", way.name);
        assert!(
            scaled < ROWS * CLASSES / 10,
            "{scaled} zeros on {}",
            way.name
        );
    }
}

#[test]
fn sequences_are_rows() {
    for way in devices::ways() {
        let (batch, sequence) = (4, 6);
        let flat = Tensor::from_inner(logits(1, ROWS, CLASSES, &way.device)).require_grad();
        let teacher = logits(2, ROWS, CLASSES, &way.device);
        let targets = labels(ROWS, CLASSES, &way.device);
        let loss = way.loss(config().init());
        let two = loss.forward(flat.clone(), teacher.clone(), targets.clone(), progress());
        let grads = two.backward();
        let want_grad = floats(flat.grad(&grads).expect("tracked"));

        let deep = Tensor::from_inner(
            logits(1, ROWS, CLASSES, &way.device).reshape([batch, sequence, CLASSES]),
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
        assert_eq!(floats(grad), want_grad, "{}", way.name);

        let each = way
            .loss(config().with_reduction(Reduction::None).init())
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
    for way in devices::ways() {
        let plain = logits(1, ROWS, CLASSES, &way.device);
        let teacher = logits(2, ROWS, CLASSES, &way.device);
        let targets = labels(ROWS, CLASSES, &way.device);
        let loss = way.loss(config().init());
        let want =
            floats(loss.forward(plain.clone(), teacher.clone(), targets.clone(), progress()));
        // The same numbers, lying column by column.
        let student = plain.transpose().mul_scalar(1.0).transpose();
        let teacher = teacher.transpose().mul_scalar(1.0).transpose();
        let got = floats(loss.forward(
            student.clone(),
            teacher.clone(),
            targets.clone(),
            progress(),
        ));
        assert!(difference(&want, &got) < 1e-6, "{}", way.name);
        if way.device.supports_dtype(DType::I64) {
            let wide = targets.cast(burn::tensor::IntDType::I64);
            let got = floats(loss.forward(student, teacher, wide, progress()));
            assert!(difference(&want, &got) < 1e-6, "{}", way.name);
        }
    }
}

#[test]
fn no_gradient_flows_to_the_teacher_and_none_is_made_without_need() {
    for way in devices::ways() {
        let student = Tensor::from_inner(logits(1, ROWS, CLASSES, &way.device)).require_grad();
        let teacher = Tensor::from_inner(logits(2, ROWS, CLASSES, &way.device)).require_grad();
        let targets = labels(ROWS, CLASSES, &way.device);
        let loss = way.loss(config().init());
        let out = loss.forward(
            student.clone(),
            teacher.clone(),
            targets.clone(),
            progress(),
        );
        let grads = (out + teacher.clone().sum() * 0.0).backward();
        let to_teacher = floats(teacher.grad(&grads).expect("by the other term"));
        assert!(to_teacher.iter().all(|g| *g == 0.0), "{}", way.name);
        assert!(student.grad(&grads).is_some());

        // Without anything tracked the loss is not either.
        let plain = logits(1, ROWS, CLASSES, &way.device);
        let out = loss.forward(plain, teacher.inner(), targets.clone(), progress());
        assert!(!out.is_autodiff() && !out.is_tracked(), "{}", way.name);
        let detached = Tensor::from_inner(student.inner());
        let other = logits(2, ROWS, CLASSES, &way.device);
        let out = loss.forward(detached, other, targets, progress());
        assert!(!out.is_tracked(), "{}", way.name);
    }
}

#[test]
fn two_losses_in_one_graph_and_one_loss_used_twice() {
    for way in devices::ways() {
        let teacher = logits(2, ROWS, CLASSES, &way.device);
        let other = logits(3, ROWS, CLASSES, &way.device);
        let targets = labels(ROWS, CLASSES, &way.device);
        let loss = way.loss(config().init());
        let single = |teacher: &Tensor<2>| {
            let student = Tensor::from_inner(logits(1, ROWS, CLASSES, &way.device)).require_grad();
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
        let student = Tensor::from_inner(logits(1, ROWS, CLASSES, &way.device)).require_grad();
        let one = loss.forward(
            student.clone(),
            teacher.clone(),
            targets.clone(),
            progress(),
        );
        let two = loss.forward(student.clone(), other.clone(), targets.clone(), progress());
        // The first loss counts twice: once plainly, once squared.
        let value = floats(one.clone().inner())[0];
        let grads = (one.clone() + two + one.clone() * one).backward();
        let got = floats(student.grad(&grads).expect("tracked"));
        let want: Vec<f32> = a
            .iter()
            .zip(&b)
            .map(|(a, b)| a * (1.0 + 2.0 * value) + b)
            .collect();
        assert!(difference(&want, &got) < 1e-5, "{}", way.name);
    }
}

/// Burn may recompute what it did not keep; the kernels' gradient is kept and not computed again.
#[test]
fn gradient_checkpointing_changes_nothing() {
    for way in devices::ways() {
        let run = |device: burn::tensor::Device| {
            let values = Random(1).values(ROWS * CLASSES, 4.0);
            let student = tensor(values, [ROWS, CLASSES], &device).require_grad();
            let teacher = logits(2, ROWS, CLASSES, &way.device);
            let targets = labels(ROWS, CLASSES, &way.device);
            let loss = way.loss(config().init());
            let doubled = (student.clone() * 2.0).exp().log();
            let out = loss.forward(doubled, teacher, targets, progress());
            let grads = out.backward();
            floats(student.grad(&grads).expect("tracked"))
        };
        let plain = run(way.device.clone().autodiff());
        let saved = run(way.device.clone().autodiff().gradient_checkpointing());
        assert!(difference(&plain, &saved) < 1e-6, "{}", way.name);
    }
}

#[test]
fn no_rows_and_only_ignored_rows_give_zero() {
    for way in devices::ways() {
        let loss = way.loss(config().init());
        let student = Tensor::from_inner(logits(1, 3, CLASSES, &way.device)).require_grad();
        let teacher = logits(2, 3, CLASSES, &way.device);
        let ignored = Tensor::<1, Int>::full([3], -100, (&way.device, DType::I32));
        let out = loss.forward_with_metrics(student.clone(), teacher, ignored, progress());
        let grads = out.loss.clone().backward();
        assert_eq!(floats(out.loss), [0.0]);
        let grad = floats(student.grad(&grads).expect("tracked"));
        assert!(grad.iter().all(|g| *g == 0.0));

        let empty = Tensor::<2>::zeros([0, CLASSES], (&way.device, DType::F32));
        let none = Tensor::<1, Int>::zeros([0], (&way.device, DType::I32));
        let out = loss.forward(empty.clone(), empty, none, progress());
        assert_eq!(floats(out), [0.0], "{}", way.name);
    }
}

/// A long chain of Burn's operations around the loss, with tensors dropped and their memory used again at random: the same bits as with a wait after each step.
#[test]
fn order_of_work_without_waits() {
    for way in devices::ways() {
        let run = |wait: bool| {
            let mut random = Random(99);
            let mut kept: Vec<Tensor<2>> = Vec::new();
            let mut student = logits(1, ROWS, CLASSES, &way.device);
            let teacher = logits(2, ROWS, CLASSES, &way.device);
            let targets = labels(ROWS, CLASSES, &way.device);
            let loss = way.loss(config().with_reduction(Reduction::None).init());
            for step in 0..60 {
                let settle = || {
                    if wait {
                        way.device.sync().expect("the device is well");
                    }
                };
                // Scratch of random sizes, so that the pool hands out old memory.
                let columns = 1 + (random.next() % 200) as usize;
                let scratch = logits(step, ROWS, columns, &way.device) * 0.01;
                settle();
                let leaf = Tensor::from_inner(student.clone()).require_grad();
                let nudge = Tensor::from_inner(scratch.clone()).sum_dim(1) * 1e-3;
                let moved = leaf.clone() * 1.5 + nudge;
                settle();
                let shifted = teacher.clone() + scratch.clone().sum_dim(1) * 1e-2;
                let out = loss.forward(moved, shifted, targets.clone(), Progress::new(step, 60));
                settle();
                let grads = (out.clone() * out).sum().backward();
                let grad = leaf.grad(&grads).expect("tracked");
                settle();
                student = student - grad * 0.05;
                settle();
                if random.next().is_multiple_of(3) {
                    kept.push(student.clone() * 2.0);
                }
                if kept.len() > 4 {
                    kept.remove((random.next() % 5) as usize);
                }
                student = kept.iter().fold(student, |s, k| s * 0.9 + k.clone() * 0.05);
            }
            floats(student)
        };
        assert_eq!(run(false), run(true), "{}", way.name);
    }
}

/// Threads are streams of their own to Burn: none may see another's half-done work.
#[test]
fn many_threads_at_once() {
    for way in devices::ways() {
        let run = |seed: u64| {
            let student =
                Tensor::from_inner(logits(seed, ROWS, CLASSES, &way.device)).require_grad();
            let teacher = logits(seed + 100, ROWS, CLASSES, &way.device);
            let targets = labels(ROWS, CLASSES, &way.device);
            let loss = way.loss(config().init());
            let doubled = student.clone() * 2.0;
            let out = loss.forward(doubled, teacher * 0.5, targets, progress());
            let grads = (out * 3.0).backward();
            floats(student.grad(&grads).expect("tracked"))
        };
        let want: Vec<Vec<f32>> = (0..6).map(run).collect();
        let got: Vec<Vec<f32>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .map(|seed| scope.spawn(move || (0..5).map(|_| run(seed)).collect::<Vec<_>>()))
                .collect();
            threads
                .into_iter()
                .map(|t| {
                    let runs = t.join().expect("no panic");
                    assert!(runs.iter().all(|r| r == &runs[0]));
                    runs[0].clone()
                })
                .collect()
        });
        assert_eq!(want, got, "{}", way.name);
    }
}

/// What Burn's allocator holds: nothing of the gradient's size where nothing is tracked; where something is, the gradient and nothing else, also in passing.
#[test]
fn memory_is_one_gradient_at_most() {
    const ROWS: usize = 512;
    const CLASSES: usize = 2048;
    let Some((one, other)) = devices::application().zip(devices::application()) else {
        return;
    };
    // Pages of their own, so that what was reserved is the most that was in use.
    let options = || {
        Device::wgpu_options()
            .memory_config(burn::tensor::wgpu::MemoryConfiguration::ExclusivePages)
    };
    for device in [
        burn_distill::adopt(options(), one).expect("a fresh setup"),
        options().setup(other).init().expect("a fresh setup"),
    ] {
        let path = Path::of(&device);
        let student = logits(1, ROWS, CLASSES, &device);
        let teacher = logits(2, ROWS, CLASSES, &device);
        let targets = labels(ROWS, CLASSES, &device);
        let loss = config().init();
        let run = |student: &Tensor<2>| {
            let (s, t, l) = (student.clone(), teacher.clone(), targets.clone());
            loss.forward_with_metrics(s, t, l, progress())
        };
        let gradients = |bytes: u64| bytes as f64 / (4 * ROWS * CLASSES) as f64;
        let held = || {
            device.sync().expect("the device is well");
            let usage = device.memory_pool_usage().expect("wgpu tells");
            (usage.bytes_in_use, usage.bytes_reserved)
        };
        device.memory_cleanup();
        let before = held();
        let watched = run(&student);
        let now = held();
        let (kept, most) = (gradients(now.0 - before.0), gradients(now.1 - before.1));
        assert!(kept < 0.1 && most < 0.1, "{path}: {kept}, {most} untracked");
        drop(watched);

        let leaf = Tensor::from_inner(student).require_grad();
        let _learnt = run(&leaf);
        let now = held();
        let (kept, most) = (gradients(now.0 - before.0), gradients(now.1 - before.1));
        let one = 1.0..1.1;
        assert!(
            one.contains(&kept) && one.contains(&most),
            "{path}: {kept}, {most} tracked"
        );
    }
}

#[test]
fn paths_agree() {
    let ways = devices::ways();
    let mut results = Vec::new();
    for way in &ways {
        let student = Tensor::from_inner(logits(1, ROWS, CLASSES, &way.device)).require_grad();
        let teacher = logits(2, ROWS, CLASSES, &way.device);
        let targets = labels(ROWS, CLASSES, &way.device);
        let loss = way.loss(config().init());
        let out = loss.forward_with_metrics(student.clone(), teacher, targets, progress());
        assert_eq!(out.path, way.path);
        let grads = out.loss.clone().backward();
        let mut all = floats(student.grad(&grads).expect("tracked"));
        for t in [
            out.loss.inner(),
            out.kdr,
            out.tssr,
            out.row_kdr,
            out.row_tssr,
            out.row_loss,
        ] {
            all.extend(floats(t));
        }
        results.push(all);
    }
    assert!(ways.iter().any(|w| w.path == Path::Host));
    for (way, result) in ways.iter().zip(&results) {
        assert!(difference(&results[0], result) < 1e-5, "{}", way.name);
    }
}

#[test]
fn steps_follow_a_loop() {
    let steps = TrainingSteps::new(3);
    let clone = steps.clone();
    let seen: Vec<u64> = (0..5).map(|_| steps.advance().step).collect();
    assert_eq!(seen, [0, 1, 2, 3, 3]);
    assert_eq!(clone.now(), Progress::new(3, 3));
    assert_eq!(
        TrainingSteps::resumed(2, 10).advance(),
        Progress::new(2, 10)
    );
    assert_eq!(TrainingSteps::new(0).now(), Progress::new(0, 1));
}
