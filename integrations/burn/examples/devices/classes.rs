//! Classes on several devices: each has the weights of its own classes, and `forward_shards` joins them.

use burn::tensor::{Device, Tensor};
use burn_distill::{DistillationBatch, Progress};

use crate::data::PIXELS;
use crate::{CLASSES, LEARNING_RATE, Task, step_rows, weights};

/// The columns of a device, in the order of the devices.
fn columns(of_all: &[f32], device: usize, devices: usize) -> Vec<f32> {
    let own = CLASSES / devices;
    let rows = of_all.chunks_exact(CLASSES);
    rows.flat_map(|row| row[device * own..(device + 1) * own].to_vec())
        .collect()
}

/// Trains with a part of the classes on each device. Returns the weights of all.
pub fn train(task: &Task, devices: &[Device]) -> Vec<f32> {
    let count = devices.len();
    let tracked: Vec<Device> = devices.iter().map(|d| d.clone().autodiff()).collect();
    let part = |of_all: &[f32], i: usize| weights(&columns(of_all, i, count), &tracked[i]);
    let start = vec![0.0; PIXELS * CLASSES];
    let mut own: Vec<_> = (0..count).map(|i| part(&start, i).require_grad()).collect();
    for step in 0..task.steps {
        let shards = tracked.iter().enumerate().map(|(i, device)| {
            let (images, labels) = step_rows(&task.train, step, device);
            let teacher = images.clone().matmul(part(&task.teacher, i));
            DistillationBatch::new(images.matmul(own[i].clone()), teacher, labels)
        });
        let progress = Progress::new(step as u64, task.steps as u64);
        let grads = task
            .loss
            .forward_shards(shards.collect(), progress)
            .loss
            .backward();
        for weights in &mut own {
            let step = weights.grad(&grads).expect("a gradient") * LEARNING_RATE;
            *weights = Tensor::from_inner(weights.clone().inner() - step).require_grad();
        }
    }
    let first = devices[0].clone();
    let parts = own
        .into_iter()
        .map(|weights| weights.inner().to_device(&first));
    let all = Tensor::cat(parts.collect(), 1);
    all.into_data().try_to_vec().expect("f32")
}
