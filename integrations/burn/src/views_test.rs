//! Tests that slices reach the kernels without a copy. A test of the results alone would pass with copies too.

use burn::tensor::{Device, Tensor};

use crate::kernel_tensors::INPUT_VIEWS;
use crate::{DistillationBatch, DistillationLossConfig, ExecutionPath, Progress};

#[path = "../tests/devices/mod.rs"]
mod devices;
#[path = "../tests/inputs/mod.rs"]
mod inputs;

/// Row stride and offset of student, teacher, labels, soft labels and weights as the kernels read them.
fn views(
    device: &Device,
    slice: impl Fn(Tensor<2>) -> Tensor<2>,
    columns: usize,
) -> Vec<(usize, u64)> {
    const ROWS: usize = 6;
    INPUT_VIEWS.lock().expect("no test panicked").clear();
    let student = slice(inputs::logits(1, ROWS, columns, device));
    let teacher = slice(inputs::logits(2, ROWS, columns, device));
    let [rows, classes] = student.dims();
    let labels = inputs::labels(64 + rows, classes, device).slice(64..64 + rows);
    let loss = DistillationLossConfig::new().init();
    let weights = Tensor::ones([64 + rows], device).slice(64..64 + rows);
    let soft_labels = slice(inputs::logits(3, ROWS, columns, device).abs());
    let batch = DistillationBatch::new(student, teacher, labels)
        .with_row_weights(weights)
        .with_soft_labels(soft_labels);
    let out = loss.forward_batch(batch, Progress::new(1, 2));
    assert!(inputs::floats(out.loss)[0].is_finite());
    INPUT_VIEWS.lock().expect("no test panicked").clone()
}

#[test]
fn slices_reach_the_kernels_without_a_copy() {
    for device in [devices::shared(), devices::unshared()]
        .into_iter()
        .flatten()
    {
        let path = ExecutionPath::of(&device);
        let read = |matrix| [matrix, matrix, (0, 256), matrix, (0, 256)];
        // 128 classes of 256, without the first and the last row.
        let middle = views(&device, |t| t.slice([1..5, 64..192]), 256);
        assert_eq!(middle, read((256, 1280)), "{path}");
        // Rows that start at odd addresses.
        let odd = views(&device, |t| t.slice([0..6, 64..189]), 253);
        assert_eq!(odd, read((253, 256)), "{path}");
        // Burn copies a slice that does not start at the device's alignment.
        let unaligned = views(&device, |t| t.slice([0..6, 1..254]), 256);
        assert_eq!(unaligned, read((253, 0)), "{path}");
        // The loss copies a transposed view.
        let transposed = views(&device, |t| t.slice([0..6, 0..64]).transpose(), 64);
        assert_eq!(transposed, read((6, 0)), "{path}");
    }
}
