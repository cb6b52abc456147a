//! Rows on several devices: each has all weights and a part of the rows of a step. The first sums the gradients and sends the weights.

use burn::tensor::{Device, Tensor};
use burn_distill::Progress;

use crate::data::PIXELS;
use crate::{CLASSES, LEARNING_RATE, ROWS, Task, step_rows, weights};

/// Trains with a part of each step's rows on each device. Returns the weights.
pub fn train(task: &Task, devices: &[Device]) -> Vec<f32> {
    let tracked: Vec<Device> = devices.iter().map(|d| d.clone().autodiff()).collect();
    let mut own = weights(&vec![0.0; PIXELS * CLASSES], &devices[0]);
    for step in 0..task.steps {
        let progress = Progress::new(step as u64, task.steps as u64);
        let gradients = tracked.iter().enumerate().map(|(i, device)| {
            let (images, labels) = step_rows(&task.train, step, device);
            let part = ROWS / devices.len() * i..ROWS / devices.len() * (i + 1);
            let images = images.slice([part.clone(), 0..PIXELS]);
            let copy = Tensor::from_inner(own.clone().to_device(&devices[i])).require_grad();
            let student = images.clone().matmul(copy.clone());
            let teacher = images.matmul(weights(&task.teacher, device));
            let loss = task
                .loss
                .forward(student, teacher, labels.slice([part]), progress);
            let gradient: Tensor<2> = copy.grad(&loss.backward()).expect("a gradient");
            gradient.to_device(&devices[0])
        });
        let sum = gradients.reduce(Tensor::add).expect("a device");
        own = own.clone() - sum * LEARNING_RATE;
    }
    own.into_data().try_to_vec().expect("f32")
}
