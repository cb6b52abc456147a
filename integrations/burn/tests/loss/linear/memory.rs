//! Memory: no tensor of rows x classes exists.

use burn::tensor::wgpu::MemoryConfiguration;
use burn::tensor::{Device, Tensor};
use burn_distill::{
    DistillationLossConfig, ExecutionPath, LinearDistillationLoss, LinearLogits, Progress,
};

use crate::devices;
use crate::inputs::{labels, logits};

const ROWS: usize = 2048;
const CLASSES: usize = 2048;
const HIDDEN: usize = 16;
/// Bytes of the logits.
const MATRIX: usize = 4 * ROWS * CLASSES;
const BUDGET: usize = MATRIX / 16;

/// The memory that Burn's allocator reserved for a step, forward and backward, beside its inputs, in matrices of rows x classes.
fn matrices_of_a_step(device: &Device, in_chunks: bool) -> f64 {
    let own = |seed| logits(seed, ROWS, HIDDEN, device);
    let head = |seed| logits(seed, CLASSES, HIDDEN, device);
    let (states, weights) = (own(1), head(2));
    let teacher = LinearLogits::new(own(3), head(4));
    let labels = labels(ROWS, CLASSES, device);
    let loss = DistillationLossConfig::new().init();
    let progress = Progress::new(3, 10);
    device.sync().expect("the device works");
    device.memory_cleanup();
    let reserved = || {
        device.sync().expect("the device works");
        let usage = device.memory_pool_usage().expect("wgpu reports its memory");
        usage.bytes_reserved
    };
    let before = reserved();
    let states = Tensor::from_inner(states).require_grad();
    let weights = Tensor::from_inner(weights).require_grad();
    let out = match in_chunks {
        true => {
            let student = LinearLogits::new(states.clone(), weights.clone());
            let loss = LinearDistillationLoss::from(loss).with_memory_budget(BUDGET);
            loss.forward(student, teacher, labels, progress)
        }
        false => {
            let product = |a: Tensor<2>, b: Tensor<2>| a.matmul(b.transpose());
            let student = product(states.clone(), weights.clone());
            let teacher = product(teacher.hidden_states, teacher.weights);
            loss.forward(student, teacher, labels, progress)
        }
    };
    let grads = out.backward();
    let of_weights = weights.grad(&grads).expect("tracked");
    let _kept = (of_weights, states.grad(&grads).expect("tracked"));
    (reserved() - before) as f64 / MATRIX as f64
}

/// With exclusive pages the reserved bytes are the peak of the used bytes. Each step has a device of its own.
#[test]
fn a_step_needs_a_tenth_of_the_plain_ways_memory() {
    let options = || Device::wgpu_options().memory_config(MemoryConfiguration::ExclusivePages);
    let run = |in_chunks: bool| {
        let device =
            burn_distill::adopt(options(), devices::application()?).expect("a fresh setup");
        assert_eq!(ExecutionPath::of(&device), ExecutionPath::SharedDevice);
        Some(matrices_of_a_step(&device, in_chunks))
    };
    let Some((chunks, plain)) = run(true).zip(run(false)) else {
        return;
    };
    println!("matrices of rows x classes: {chunks:.3} in chunks, {plain:.3} the plain way");
    assert!(plain >= 3.0, "{plain}");
    assert!(chunks * 10.0 < plain, "{chunks}, {plain}");
}
