//! Slices reach the kernels as slices: a test of their numbers alone would pass on copies too.

use std::sync::Mutex;

use burn::tensor::{Device, Tensor};
use burn_cubecl::tensor::CubeTensor;

use crate::cube::row_stride;
use crate::{DistillationLossConfig, Path, Progress};

#[path = "../tests/devices/mod.rs"]
mod devices;
#[path = "../tests/inputs/mod.rs"]
mod inputs;

/// Elements from row to row (0: of labels) and bytes before the first one.
type View = (usize, u64);

static SEEN: Mutex<Vec<View>> = Mutex::new(Vec::new());

/// Called with what the kernels are given.
pub(crate) fn saw(tensor: &CubeTensor) {
    let stride = match tensor.meta.shape().len() {
        2 => row_stride(tensor).expect("rows are in place by now"),
        _ => 0,
    };
    let view = (stride, tensor.handle.offset_start.unwrap_or(0));
    SEEN.lock().expect("no test panicked").push(view);
}

fn seen(device: &Device, slice: impl Fn(Tensor<2>) -> Tensor<2>, columns: usize) -> Vec<View> {
    const ROWS: usize = 6;
    SEEN.lock().expect("no test panicked").clear();
    let student = slice(inputs::logits(1, ROWS, columns, device));
    let teacher = slice(inputs::logits(2, ROWS, columns, device));
    let [rows, classes] = student.dims();
    let labels = inputs::labels(64 + rows, classes, device).slice(64..64 + rows);
    let loss = DistillationLossConfig::new().init();
    let loss = loss.forward(student, teacher, labels, Progress::new(1, 2));
    assert!(inputs::floats(loss)[0].is_finite());
    SEEN.lock().expect("no test panicked").clone()
}

#[test]
fn slices_reach_the_kernels_as_slices() {
    for device in [devices::shared(), devices::unshared()]
        .into_iter()
        .flatten()
    {
        let path = Path::of(&device);
        // 128 classes of 256, the first and the last row left out.
        let middle = seen(&device, |t| t.slice([1..5, 64..192]), 256);
        assert_eq!(middle, [(256, 1280), (256, 1280), (0, 256)], "{path}");
        // Rows that start anywhere.
        let odd = seen(&device, |t| t.slice([0..6, 64..189]), 253);
        assert_eq!(odd, [(253, 256), (253, 256), (0, 256)], "{path}");
        // What does not start at the device's alignment Burn copies itself.
        let copied = seen(&device, |t| t.slice([0..6, 1..254]), 256);
        assert_eq!(copied, [(253, 0), (253, 0), (0, 256)], "{path}");
        // A transposed view we have copied.
        let turned = seen(&device, |t| t.slice([0..6, 0..64]).transpose(), 64);
        assert_eq!(turned, [(6, 0), (6, 0), (0, 256)], "{path}");
    }
}
