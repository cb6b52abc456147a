//! Tensors that are parts of others, and tensors that another thread made: read where they lie, after the work that makes them.

mod devices;
mod inputs;

use burn::tensor::{Device, Int, Tensor};
use burn_distill::{DistillationLossConfig, Progress, Reduction};
use inputs::{difference, floats, labels, logits};

const ROWS: usize = 24;

fn loss(way: &devices::Way) -> burn_distill::DistillationLoss {
    way.loss(
        DistillationLossConfig::new()
            .with_reduction(Reduction::None)
            .init(),
    )
}

/// Loss of each row, and the gradient.
fn results(way: &devices::Way, s: Tensor<2>, t: Tensor<2>, l: Tensor<1, Int>) -> [Vec<f32>; 2] {
    let student = Tensor::from_inner(s).require_grad();
    let each = loss(way).forward(student.clone(), t, l, Progress::new(3, 10));
    let grads = each.clone().sum().backward();
    [floats(each), floats(student.grad(&grads).expect("tracked"))]
}

/// The same numbers in a tensor of their own.
fn copy(tensor: &Tensor<2>) -> Tensor<2> {
    Tensor::from_data(tensor.to_data(), &tensor.device())
}

/// Burn slices without a copy where both ends lie at multiples of the device's alignment: 64 numbers are 256 bytes, which is one anywhere.
#[test]
fn slices_give_what_copies_give() {
    for way in devices::ways() {
        // Rows of whole vectors, some before and after; then rows at any address.
        for (classes, before) in [(128, 1), (125, 0), (128, 0)] {
            let about = format!("{}, {classes} classes, row {before}", way.name);
            let view = |seed| {
                let whole = logits(seed, ROWS + 2 * before, 64 + classes + 64, &way.device);
                whole.slice([before..before + ROWS, 64..64 + classes])
            };
            let (s, t) = (view(1), view(2));
            let l = labels(ROWS + 128, classes, &way.device).slice(64..64 + ROWS);
            let own_labels = Tensor::<1, Int>::from_data(l.to_data(), &way.device);
            let want = results(&way, copy(&s), copy(&t), own_labels);
            let got = results(&way, s, t, l);
            for (want, got) in want.iter().zip(&got) {
                assert!(difference(want, got) < 2e-6, "{about}");
            }
        }
    }
}

/// A data loader's threads: each tensor is made by one thread, its work still queued there, and used by another.
#[test]
fn tensors_of_other_threads_are_waited_for() {
    const CLASSES: usize = 257;
    for way in devices::ways() {
        let make = |device: &Device| {
            // Work that is still to be done when the tensor is handed over.
            let mut teacher = logits(2, ROWS, CLASSES, device);
            for _ in 0..8 {
                teacher = teacher * 0.5 + 0.25;
            }
            (teacher * 256.0, labels(ROWS, CLASSES, device))
        };
        let (teacher, targets) = make(&way.device);
        let want = results(
            &way,
            logits(1, ROWS, CLASSES, &way.device),
            teacher,
            targets,
        );
        for round in 0..50 {
            let device = way.device.clone();
            let other = std::thread::spawn(move || make(&device));
            let student = logits(1, ROWS, CLASSES, &way.device);
            let (teacher, targets) = other.join().expect("no panic");
            let got = results(&way, student, teacher, targets);
            assert_eq!(got, want, "{}, round {round}", way.name);
        }
    }
}
