//! The network, trained on labels alone or with a teacher.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig, PaddingConfig2d, Relu};
use burn::tensor::{Device, Tensor};
use burn::train::{ClassificationOutput, InferenceStep, TrainOutput, TrainStep};
use burn_distill::metrics::DistillationTrainOutput;
use burn_distill::{DistillationLoss, Progress, TrainingSteps};

use crate::data::CLASSES;
use crate::digits::DigitBatch;

/// Two strided convolutions and two linear layers.
#[derive(Config, Debug)]
pub struct NetworkConfig {
    /// Channels of the first convolution.
    pub first: usize,
    /// Channels of the second.
    pub second: usize,
    /// Hidden units.
    pub hidden: usize,
}

impl NetworkConfig {
    pub fn init(&self, device: &Device) -> Network {
        let conv = |from, to| {
            Conv2dConfig::new([from, to], [3, 3])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        Network {
            first: conv(1, self.first),
            second: conv(self.first, self.second),
            hidden: LinearConfig::new(self.second * 7 * 7, self.hidden).init(device),
            output: LinearConfig::new(self.hidden, CLASSES).init(device),
            activation: Relu::new(),
        }
    }
}

/// Images `[rows, 1, 28, 28]` to logits `[rows, 10]`.
#[derive(Module, Debug)]
pub struct Network {
    first: Conv2d,
    second: Conv2d,
    hidden: Linear,
    output: Linear,
    activation: Relu,
}

impl Network {
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.activation.forward(self.first.forward(images));
        let x = self.activation.forward(self.second.forward(x));
        let x = self.hidden.forward(x.flatten(1, 3));
        self.output.forward(self.activation.forward(x))
    }
}

/// A network that learns from labels alone, with Burn's cross-entropy.
#[derive(Module, Debug)]
pub struct Classifier {
    pub network: Network,
}

impl Classifier {
    fn classify(&self, batch: DigitBatch) -> ClassificationOutput {
        let logits = self.network.forward(batch.images);
        let loss = CrossEntropyLossConfig::new()
            .init(&logits.device())
            .forward(logits.clone(), batch.labels.clone());
        ClassificationOutput::new(loss, logits, batch.labels)
    }
}

impl TrainStep for Classifier {
    type Input = DigitBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: DigitBatch) -> TrainOutput<ClassificationOutput> {
        let output = self.classify(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Classifier {
    type Input = DigitBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: DigitBatch) -> ClassificationOutput {
        self.classify(batch)
    }
}

/// A network that learns from labels and a teacher, with this crate's loss.
#[derive(Module, Debug)]
pub struct DistilledClassifier {
    pub network: Network,
    /// Frozen, on the inner device. A field under `#[module(skip)]` would not move to another device with the model.
    pub teacher: Network,
    pub loss: DistillationLoss,
    #[module(skip)]
    pub steps: TrainingSteps,
}

impl DistilledClassifier {
    fn classify(&self, batch: DigitBatch, progress: Progress) -> DistillationTrainOutput {
        let teacher_logits = self
            .teacher
            .forward(batch.images.clone().without_autodiff());
        let logits = self.network.forward(batch.images);
        let distillation = self.loss.forward_with_metrics(
            logits.clone(),
            teacher_logits.clone(),
            batch.labels,
            progress,
        );
        DistillationTrainOutput::new(distillation, logits, teacher_logits)
    }
}

impl TrainStep for DistilledClassifier {
    type Input = DigitBatch;
    type Output = DistillationTrainOutput;

    fn step(&self, batch: DigitBatch) -> TrainOutput<DistillationTrainOutput> {
        let output = self.classify(batch, self.steps.advance());
        TrainOutput::new(self, output.distillation.loss.backward(), output)
    }
}

impl InferenceStep for DistilledClassifier {
    type Input = DigitBatch;
    type Output = DistillationTrainOutput;

    fn step(&self, batch: DigitBatch) -> DistillationTrainOutput {
        self.classify(batch, self.steps.now())
    }
}
