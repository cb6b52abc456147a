//! The order of work on the device, from one thread and from several, and the memory that Burn's allocator holds.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use burn_distill::{
    CoreReduction, DistillationBatch, DistillationLossConfig, ExecutionPath, Progress,
};

use crate::devices;
use crate::inputs::{Random, floats, labels, logits};

const ROWS: usize = 24;
const CLASSES: usize = 37;

fn progress() -> Progress {
    Progress::new(3, 10)
}

fn config() -> DistillationLossConfig {
    DistillationLossConfig::new()
        .with_student_temperature(2.0)
        .with_teacher_temperature(3.0)
}

/// A long chain of operations around the loss with memory reused at random. The results have the same bits as with a wait after each step.
#[test]
fn order_of_work_without_waits() {
    for on in devices::all() {
        let run = |wait: bool| {
            let mut random = Random(99);
            let mut kept: Vec<Tensor<2>> = Vec::new();
            let mut student = logits(1, ROWS, CLASSES, &on.device);
            let teacher = logits(2, ROWS, CLASSES, &on.device);
            let targets = labels(ROWS, CLASSES, &on.device);
            let loss = on.loss(config().with_reduction(CoreReduction::None).init());
            for step in 0..60 {
                let settle = || {
                    if wait {
                        on.device.sync().expect("the device works");
                    }
                };
                // Tensors of random sizes make the pool reuse memory.
                let columns = 1 + (random.next() % 200) as usize;
                let scratch = logits(step, ROWS, columns, &on.device) * 0.01;
                settle();
                let leaf = Tensor::from_inner(student.clone()).require_grad();
                let nudge = Tensor::from_inner(scratch.clone()).sum_dim(1) * 1e-3;
                let moved = leaf.clone() * 1.5 + nudge;
                settle();
                let shifted = teacher.clone() + scratch.clone().sum_dim(1) * 1e-2;
                // Optional tensors from the same queue.
                let mut batch = DistillationBatch::new(moved, shifted, targets.clone());
                match step % 3 {
                    0 => batch.soft_labels = Some(softmax(teacher.clone() + scratch.sum_dim(1), 1)),
                    1 => {
                        batch.class_weights = Some(teacher.clone().abs().mean_dim(0).flatten(0, 1))
                    }
                    _ => batch.row_weights = Some(scratch.mean_dim(1).flatten(0, 1)),
                }
                let out = loss.forward_batch(batch, Progress::new(step, 60)).loss;
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
        assert_eq!(run(false), run(true), "{}", on.name);
    }
}

/// Each thread is a stream of Burn. None may read unfinished work of another.
#[test]
fn many_threads_at_once() {
    for on in devices::all() {
        let run = |seed: u64| {
            let student =
                Tensor::from_inner(logits(seed, ROWS, CLASSES, &on.device)).require_grad();
            let teacher = logits(seed + 100, ROWS, CLASSES, &on.device);
            let targets = labels(ROWS, CLASSES, &on.device);
            let loss = on.loss(config().init());
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
        assert_eq!(want, got, "{}", on.name);
    }
}

/// Burn's allocator holds one gradient if the student is tracked, otherwise nothing of that size. This includes temporary memory.
#[test]
fn memory_is_one_gradient_at_most() {
    const ROWS: usize = 512;
    const CLASSES: usize = 2048;
    let Some((one, other)) = devices::application().zip(devices::application()) else {
        return;
    };
    // With exclusive pages the reserved bytes are the peak of the used bytes.
    let options = || {
        Device::wgpu_options()
            .memory_config(burn::tensor::wgpu::MemoryConfiguration::ExclusivePages)
    };
    for device in [
        burn_distill::adopt(options(), one).expect("a fresh setup"),
        options().setup(other).init().expect("a fresh setup"),
    ] {
        let path = ExecutionPath::of(&device);
        let student = logits(1, ROWS, CLASSES, &device);
        let teacher = logits(2, ROWS, CLASSES, &device);
        let targets = labels(ROWS, CLASSES, &device);
        let loss = config().init();
        let plain = |student: &Tensor<2>| {
            DistillationBatch::new(student.clone(), teacher.clone(), targets.clone())
        };
        let run = |batch| loss.forward_batch(batch, progress());
        let soft_labels = softmax(teacher.clone(), 1);
        let class_weights = Tensor::ones([CLASSES], &device);
        let gradients = |bytes: u64| bytes as f64 / (4 * ROWS * CLASSES) as f64;
        let held = || {
            device.sync().expect("the device works");
            let usage = device.memory_pool_usage().expect("wgpu reports its memory");
            (usage.bytes_in_use, usage.bytes_reserved)
        };
        let clean_up = || {
            device.sync().expect("the device works");
            device.memory_cleanup();
        };
        clean_up();
        let before = held();
        let untracked = run(plain(&student));
        let now = held();
        let (kept, most) = (gradients(now.0 - before.0), gradients(now.1 - before.1));
        assert!(kept < 0.1 && most < 0.1, "{path}: {kept}, {most} untracked");
        drop(untracked);

        let leaf = Tensor::from_inner(student).require_grad();
        for batch in [
            plain(&leaf),
            plain(&leaf).with_soft_labels(soft_labels.clone()),
            plain(&leaf).with_class_weights(class_weights.clone()),
        ] {
            clean_up();
            let tracked = run(batch);
            let now = held();
            let (kept, most) = (gradients(now.0 - before.0), gradients(now.1 - before.1));
            let one = 1.0..1.1;
            assert!(
                one.contains(&kept) && one.contains(&most),
                "{path}: {kept}, {most} tracked"
            );
            // Backward frees the graph.
            drop(tracked.loss.backward());
        }
    }
}
