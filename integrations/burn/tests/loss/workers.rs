//! Two workers of Burn's learner on one device train as one does that accumulates their batches, and as one with batches of twice the size.

use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::module::{Module, Param};
use burn::optim::AdamConfig;
use burn::optim::lr_scheduler::constant::ConstantLr;
use burn::tensor::{Device, Int, Tensor};
use burn::train::{
    ExecutionStrategy, InferenceStep, Learner, MultiDeviceOptim, SupervisedTraining, TrainOutput,
    TrainStep, TrainingStrategy,
};
use burn_distill::metrics::{DistillationTrainOutput, KdrMetric};
use burn_distill::{
    CoreReduction, DistillationLoss, DistillationLossConfig, Progress, TrainingSteps,
};

use crate::devices;
use crate::inputs::{difference, floats, labels, logits};
use crate::silent_renderer::SilentRenderer;

const ROWS: usize = 12;
const INPUTS: usize = 9;
const CLASSES: usize = 17;
const STEPS: usize = 5;
const EPOCHS: usize = 3;

/// Inputs and labels of one batch.
#[derive(Clone, Debug)]
struct Rows {
    inputs: Tensor<2>,
    labels: Tensor<1, Int>,
}

/// Makes batches of parts, each of which has as many rows and labels of its own number.
#[derive(Clone)]
struct Parts;

impl Batcher<u64, Rows> for Parts {
    fn batch(&self, parts: Vec<u64>, device: &Device) -> Rows {
        let inputs = parts.iter().map(|part| {
            let rows = logits(*part, ROWS, INPUTS, &Device::flex());
            Tensor::from_data(rows.into_data(), device)
        });
        let targets = parts.iter().map(|part| {
            let ignored = *part as usize % 5;
            let labels = labels(ROWS, CLASSES, &Device::flex()).slice_fill(0..ignored, -100);
            Tensor::from_data(labels.into_data(), device)
        });
        Rows {
            inputs: Tensor::cat(inputs.collect(), 0),
            labels: Tensor::cat(targets.collect(), 0),
        }
    }
}

fn loader(parts: Vec<u64>, size: usize, device: &Device) -> Arc<dyn DataLoader<Rows>> {
    DataLoaderBuilder::new(Parts)
        .batch_size(size)
        .set_device(device.clone())
        .build(InMemDataset::new(parts))
}

#[derive(Module, Debug)]
struct Distilled {
    student: Param<Tensor<2>>,
    teacher: Param<Tensor<2>>,
    loss: DistillationLoss,
    #[module(skip)]
    steps: TrainingSteps,
}

impl Distilled {
    fn new(steps: TrainingSteps, device: &Device) -> Self {
        let device = device.clone().autodiff();
        let weights = |seed| {
            let values = logits(seed, INPUTS, CLASSES, &Device::flex()) * 0.1;
            Param::from_tensor(Tensor::from_data(values.into_data(), &device))
        };
        Self {
            student: weights(1),
            teacher: weights(2).set_require_grad(false),
            loss: DistillationLossConfig::new()
                .with_student_temperature(2.0)
                // The labels of a step differ from one to the next; this number stands for all.
                .with_reduction(CoreReduction::SumOver(20.0))
                .init(),
            steps,
        }
    }

    fn classify(&self, batch: Rows, progress: Progress) -> DistillationTrainOutput {
        let student = batch.inputs.clone().matmul(self.student.val());
        let teacher = batch.inputs.matmul(self.teacher.val()).without_autodiff();
        let (own, other) = (student.clone(), teacher.clone());
        let out = self
            .loss
            .forward_with_metrics(own, other, batch.labels, progress);
        DistillationTrainOutput::new(out, student, teacher)
    }
}

impl TrainStep for Distilled {
    type Input = Rows;
    type Output = DistillationTrainOutput;

    fn step(&self, batch: Rows) -> TrainOutput<DistillationTrainOutput> {
        let output = self.classify(batch, self.steps.advance());
        TrainOutput::new(self, output.distillation.loss.backward(), output)
    }
}

impl InferenceStep for Distilled {
    type Input = Rows;
    type Output = DistillationTrainOutput;

    fn step(&self, batch: Rows) -> DistillationTrainOutput {
        self.classify(batch, self.steps.now())
    }
}

/// The batches of an epoch in the order of the parts, and how many of them make an optimiser step.
struct Course {
    parts: Vec<u64>,
    parts_per_batch: usize,
    batches_per_step: usize,
    workers: Vec<Device>,
}

/// The student's weights after the training.
fn train(course: Course) -> Vec<f32> {
    let main = course.workers[0].clone();
    let batches = course.parts.len() / course.parts_per_batch;
    let steps = TrainingSteps::accumulating(
        EPOCHS as u64,
        batches as u64,
        course.batches_per_step as u64,
    );
    let model = Distilled::new(steps.clone(), &main);
    let start = floats(model.student.val().inner());
    let train = loader(
        course.parts,
        course.parts_per_batch,
        &main.clone().autodiff(),
    );
    let test = loader(vec![99], 1, &main);
    let accumulation = course.batches_per_step / course.workers.len();
    let strategy = match course.workers.len() {
        1 => ExecutionStrategy::single(main.clone().autodiff()),
        _ => {
            let workers = course.workers.iter().map(|w| w.clone().autodiff());
            ExecutionStrategy::multi(workers.collect(), MultiDeviceOptim::OptimMainDevice)
        }
    };
    let trained = SupervisedTraining::new(std::env::temp_dir(), train, test)
        .metrics((KdrMetric::new(),))
        .with_application_logger(None)
        .with_metric_logger(burn::train::logger::InMemoryMetricLogger::new())
        .renderer(Box::new(SilentRenderer))
        .with_training_strategy(TrainingStrategy::from(strategy))
        .grads_accumulation(accumulation)
        .num_epochs(EPOCHS)
        .launch(Learner::new(
            model,
            AdamConfig::new().init(),
            ConstantLr::from(0.05),
        ));
    assert!(trained.error.is_none(), "{:?}", trained.error);
    assert_eq!(steps.now().tstr(), 1.0, "every batch was counted");
    let weights = floats(trained.model.student.val().without_autodiff());
    assert!(
        difference(&start, &weights) > 0.1,
        "the weights have changed"
    );
    weights
}

#[test]
fn two_workers_train_as_one_does() {
    // The parts of a step stand beside each other, and for two workers in the two halves.
    let beside: Vec<u64> = (0..2 * STEPS as u64).collect();
    let halves: Vec<u64> = [0, 1]
        .into_iter()
        .flat_map(|worker| (0..STEPS as u64).map(move |step| 2 * step + worker))
        .collect();
    let flex = Device::flex();
    let one_worker = |parts_per_batch| Course {
        parts: beside.clone(),
        parts_per_batch,
        batches_per_step: 2 / parts_per_batch,
        workers: vec![flex.clone()],
    };
    let whole = train(one_worker(2));
    let accumulated = train(one_worker(1));
    assert!(difference(&whole, &accumulated) < 2e-5);
    let devices = [Some(flex), devices::shared(), devices::unshared()];
    for device in devices.into_iter().flatten() {
        let name = format!("{device:?}");
        let together = train(Course {
            parts: halves.clone(),
            parts_per_batch: 1,
            batches_per_step: 2,
            workers: vec![device.clone(), device],
        });
        let apart = difference(&whole, &together);
        assert!(apart < 2e-5, "{name}: {apart}");
    }
}
