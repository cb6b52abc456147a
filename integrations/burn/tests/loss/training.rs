//! Training steps, devices shared in each way.

use burn::module::{Module, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn_distill::{
    DistillationLoss, DistillationLossConfig, ExecutionPath, Progress, TrainingSteps,
};

use crate::devices;
use crate::inputs::{self, difference, floats, labels, logits, tensor};

const ROWS: usize = 32;
const INPUTS: usize = 12;
const CLASSES: usize = 19;

#[derive(Module, Debug)]
struct Linear {
    weight: Param<Tensor<2>>,
}

/// The weights after 12 steps.
fn train(on: &devices::TestDevice) -> Vec<f32> {
    let device = on.device.clone().autodiff();
    let start = inputs::Random(5).values(INPUTS * CLASSES, 0.3);
    let mut model = Linear {
        weight: Param::from_tensor(tensor(start, [INPUTS, CLASSES], &device)),
    };
    let loss = on.loss(
        DistillationLossConfig::new()
            .with_student_temperature(2.0)
            .with_teacher_temperature(2.0)
            .init(),
    );
    let mut optimizer = SgdConfig::new().init();
    for step in 0..12 {
        let x = logits(40 + step, ROWS, INPUTS, &on.device);
        let teacher = logits(80 + step, ROWS, CLASSES, &on.device);
        let y = Tensor::from_inner(x).matmul(model.weight.val());
        let out = loss.forward(
            y,
            teacher,
            labels(ROWS, CLASSES, &on.device),
            Progress::new(step, 12),
        );
        let grads = GradientsParams::from_grads(out.backward(), &model);
        model = optimizer.step(0.5, model, grads);
    }
    floats(model.weight.val().inner())
}

#[test]
fn the_same_weights_on_every_path() {
    let devices = devices::all();
    let all: Vec<Vec<f32>> = devices.iter().map(train).collect();
    let start = inputs::Random(5).values(INPUTS * CLASSES, 0.3);
    assert!(
        difference(&start, &all[0]) > 0.01,
        "the weights have changed"
    );
    for (on, weights) in devices.iter().zip(&all) {
        assert!(difference(&all[0], weights) < 1e-4, "{}", on.name);
    }
}

#[derive(Module, Debug)]
struct Distilled {
    student: Linear,
    teacher: Linear,
    loss: DistillationLoss,
    #[module(skip)]
    steps: TrainingSteps,
}

/// Burn's learner forks the model to each of several devices. The optimiser has no gradient for the teacher.
#[test]
fn a_frozen_teacher_moves_with_its_student() {
    let Some((first, second)) = devices::shared().zip(devices::unshared()) else {
        return;
    };
    let linear = |device: &Device| Linear {
        weight: Param::from_tensor(logits(3, INPUTS, CLASSES, device)),
    };
    let model = Distilled {
        student: linear(&first).train(),
        teacher: linear(&first).freeze(),
        loss: DistillationLossConfig::new().init(),
        steps: TrainingSteps::new(4),
    };
    for device in [&second, &first] {
        let model = model.clone().fork(device);
        assert_eq!(model.devices(), std::slice::from_ref(device));
        let x = logits(1, ROWS, INPUTS, device);
        let student = Tensor::from_inner(x.clone()).matmul(model.student.weight.val());
        let teacher = x.matmul(model.teacher.weight.val());
        let targets = labels(ROWS, CLASSES, device);
        let progress = model.steps.advance();
        let loss = model.loss.forward(student, teacher, targets, progress);
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        assert!(grads.get::<2>(model.student.weight.id).is_some());
        assert!(grads.get::<2>(model.teacher.weight.id).is_none());
    }
}

/// The application keeps using its device and queue beside Burn.
#[test]
fn an_application_that_owns_the_device() {
    let Some(setup) = devices::application() else {
        return;
    };
    let (device, queue) = (setup.device.clone(), setup.queue.clone());
    let burn = burn_distill::adopt(Device::wgpu_options(), setup).expect("a fresh setup");
    assert_eq!(ExecutionPath::of(&burn), ExecutionPath::SharedDevice);
    assert_eq!(
        ExecutionPath::of(&burn.clone().autodiff()),
        ExecutionPath::SharedDevice
    );
    let buffer = device.create_buffer(&wgpu_distill::wgpu::BufferDescriptor {
        label: Some("application"),
        size: 256,
        usage: wgpu_distill::wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut losses = Vec::new();
    for i in 0..5u8 {
        queue.write_buffer(&buffer, 0, &[i; 256]);
        let loss = DistillationLossConfig::new().init().forward(
            logits(1, ROWS, CLASSES, &burn),
            logits(2, ROWS, CLASSES, &burn),
            labels(ROWS, CLASSES, &burn),
            Progress::new(1, 2),
        );
        let mut encoder = device.create_command_encoder(&Default::default());
        encoder.clear_buffer(&buffer, 0, None);
        queue.submit([encoder.finish()]);
        losses.extend(floats(loss));
    }
    assert!(losses.iter().all(|l| *l == losses[0] && l.is_finite()));
}

/// The one line of the README: Burn creates the device and shares it.
#[test]
fn a_device_is_shared_in_one_line() {
    if devices::application().is_none() {
        return;
    }
    let options = Device::wgpu_options().device_kind(devices::kind());
    let device = burn_distill::init(options).expect("not in use yet");
    assert_eq!(ExecutionPath::of(&device), ExecutionPath::SharedDevice);
    let loss = DistillationLossConfig::new().init().forward(
        logits(1, ROWS, CLASSES, &device),
        logits(2, ROWS, CLASSES, &device),
        labels(ROWS, CLASSES, &device),
        Progress::new(1, 2),
    );
    assert!(floats(loss)[0].is_finite());
    // Burn refuses to initialize a device in use.
    let options = Device::wgpu_options().device_kind(devices::kind());
    assert!(burn_distill::init(options).is_err());
}
