//! Slices of tensors are read in place; tensors of another thread are read after the work that computes them.

use burn::tensor::{Device, Int, Tensor};
use burn_distill::{CoreReduction, DistillationLossConfig, Progress};

use crate::devices;
use crate::inputs::{difference, floats, labels, logits};

const ROWS: usize = 24;

fn loss(on: &devices::TestDevice) -> burn_distill::DistillationLoss {
    on.loss(
        DistillationLossConfig::new()
            .with_reduction(CoreReduction::None)
            .init(),
    )
}

/// Loss of each row, and the gradient.
fn results(
    on: &devices::TestDevice,
    s: Tensor<2>,
    t: Tensor<2>,
    l: Tensor<1, Int>,
) -> [Vec<f32>; 2] {
    let student = Tensor::from_inner(s).require_grad();
    let each = loss(on).forward(student.clone(), t, l, Progress::new(3, 10));
    let grads = each.clone().sum().backward();
    [floats(each), floats(student.grad(&grads).expect("tracked"))]
}

/// A copy in its own buffer.
fn copy(tensor: &Tensor<2>) -> Tensor<2> {
    Tensor::from_data(tensor.to_data(), &tensor.device())
}

/// Burn slices without a copy if both ends are multiples of the device's alignment.
///
/// 64 f32 are 256 bytes, a multiple of the alignment on every device.
#[test]
fn slices_give_what_copies_give() {
    for on in devices::all() {
        // Rows of whole vectors with rows before and after, rows at odd addresses, rows of whole vectors alone.
        for (classes, before) in [(128, 1), (125, 0), (128, 0)] {
            let about = format!("{}, {classes} classes, row {before}", on.name);
            let view = |seed| {
                let whole = logits(seed, ROWS + 2 * before, 64 + classes + 64, &on.device);
                whole.slice([before..before + ROWS, 64..64 + classes])
            };
            let (s, t) = (view(1), view(2));
            let l = labels(ROWS + 128, classes, &on.device).slice(64..64 + ROWS);
            let own_labels = Tensor::<1, Int>::from_data(l.to_data(), &on.device);
            let want = results(&on, copy(&s), copy(&t), own_labels);
            let got = results(&on, s, t, l);
            for (want, got) in want.iter().zip(&got) {
                assert!(difference(want, got) < 2e-6, "{about}");
            }
        }
    }
}

/// One thread computes a tensor and another uses it while the work is still queued, as with a data loader.
#[test]
fn tensors_of_other_threads_are_waited_for() {
    const CLASSES: usize = 257;
    for on in devices::all() {
        let make = |device: &Device| {
            // Work that is still queued when the tensor changes thread.
            let mut teacher = logits(2, ROWS, CLASSES, device);
            for _ in 0..8 {
                teacher = teacher * 0.5 + 0.25;
            }
            (teacher * 256.0, labels(ROWS, CLASSES, device))
        };
        let (teacher, targets) = make(&on.device);
        let want = results(&on, logits(1, ROWS, CLASSES, &on.device), teacher, targets);
        for round in 0..50 {
            let device = on.device.clone();
            let other = std::thread::spawn(move || make(&device));
            let student = logits(1, ROWS, CLASSES, &on.device);
            let (teacher, targets) = other.join().expect("no panic");
            let got = results(&on, student, teacher, targets);
            assert_eq!(got, want, "{}, round {round}", on.name);
        }
    }
}
