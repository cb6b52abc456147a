//! Rows on two workers of Burn's learner, `ExecutionStrategy::multi`.
//!
//! Both work on one device. On two wgpu devices of a process (llvmpipe) Burn 0.22.1 trained other weights in each run, with its own
//! cross-entropy as with this loss. `rows.rs` has the loop by hand.

use std::error::Error;
use std::sync::Arc;

use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::module::{Module, Param};
use burn::optim::SgdConfig;
use burn::optim::lr_scheduler::constant::ConstantLr;
use burn::tensor::Device;
use burn::train::logger::InMemoryMetricLogger;
use burn::train::{
    ExecutionStrategy, InferenceStep, Learner, MultiDeviceOptim, SupervisedTraining, TrainOutput,
    TrainStep, TrainingStrategy,
};
use burn_distill::metrics::{DistillationTrainOutput, KdrMetric};
use burn_distill::{DistillationLoss, Progress, TrainingSteps};

use crate::data::{Digits, PIXELS};
use crate::digits::{DigitBatch, DigitBatcher};
use crate::silent_renderer::SilentRenderer;
use crate::{CLASSES, LEARNING_RATE, ROWS, Task, weights};

#[derive(Module, Debug)]
struct Distilled {
    /// `[PIXELS, CLASSES]`, as the teacher's.
    student: Param<Tensor>,
    teacher: Param<Tensor>,
    loss: DistillationLoss,
    #[module(skip)]
    steps: TrainingSteps,
}

type Tensor = burn::tensor::Tensor<2>;

impl Distilled {
    fn classify(&self, batch: DigitBatch, progress: Progress) -> DistillationTrainOutput {
        let images: Tensor = batch.images.flatten(1, 3);
        let student = images.clone().matmul(self.student.val());
        let teacher = images.matmul(self.teacher.val()).without_autodiff();
        let (own, other) = (student.clone(), teacher.clone());
        let out = self
            .loss
            .forward_with_metrics(own, other, batch.labels, progress);
        DistillationTrainOutput::new(out, student, teacher)
    }
}

impl TrainStep for Distilled {
    type Input = DigitBatch;
    type Output = DistillationTrainOutput;

    fn step(&self, batch: DigitBatch) -> TrainOutput<DistillationTrainOutput> {
        let output = self.classify(batch, self.steps.advance());
        TrainOutput::new(self, output.distillation.loss.backward(), output)
    }
}

impl InferenceStep for Distilled {
    type Input = DigitBatch;
    type Output = DistillationTrainOutput;

    fn step(&self, batch: DigitBatch) -> DistillationTrainOutput {
        self.classify(batch, self.steps.now())
    }
}

/// The digits in an order in which the rows of a step are the batches of all workers: Burn gives each worker a part of the data set.
fn loader(
    digits: &Digits,
    steps: usize,
    workers: usize,
    device: &Device,
) -> Arc<dyn DataLoader<DigitBatch>> {
    let own = ROWS / workers;
    let rows = (0..workers).flat_map(|worker| {
        let of_step = move |step| (0..own).map(move |row| step * ROWS + worker * own + row);
        (0..steps).flat_map(of_step)
    });
    let items = rows.map(|row| {
        let i = row % digits.len();
        (digits.image(i).to_vec(), digits.label(i))
    });
    DataLoaderBuilder::new(DigitBatcher)
        .batch_size(own)
        .set_device(device.clone())
        .build(InMemDataset::new(items.collect()))
}

/// Trains with a part of each step's rows on each device. Returns the weights.
pub fn train(task: &Task, devices: Vec<Device>) -> Result<Vec<f32>, Box<dyn Error>> {
    let (main, workers) = (devices[0].clone(), devices.len());
    let tracked = main.clone().autodiff();
    let model = Distilled {
        student: Param::from_tensor(weights(&vec![0.0; PIXELS * CLASSES], &tracked)),
        teacher: Param::from_tensor(weights(&task.teacher, &tracked)).set_require_grad(false),
        loss: task.loss.clone(),
        // Every worker counts its batches.
        steps: TrainingSteps::accumulating(1, (workers * task.steps) as u64, workers as u64),
    };
    let strategy = match workers {
        1 => ExecutionStrategy::single(tracked.clone()),
        _ => {
            let workers = devices.into_iter().map(Device::autodiff).collect();
            ExecutionStrategy::multi(workers, MultiDeviceOptim::OptimMainDevice)
        }
    };
    let train = loader(&task.train, task.steps, workers, &tracked);
    let valid = loader(&task.train, 1, 1, &main);
    let trained = SupervisedTraining::new(std::env::temp_dir(), train, valid)
        .metrics((KdrMetric::new(),))
        .with_metric_logger(InMemoryMetricLogger::new())
        .with_application_logger(None)
        .renderer(Box::new(SilentRenderer))
        .with_training_strategy(TrainingStrategy::from(strategy))
        .num_epochs(1)
        .launch(Learner::new(
            model,
            SgdConfig::new().init(),
            ConstantLr::from(LEARNING_RATE),
        ));
    match trained.error {
        Some(error) => Err(error.to_string().into()),
        None => Ok(trained
            .model
            .student
            .val()
            .without_autodiff()
            .into_data()
            .try_to_vec()?),
    }
}
