//! Training steps: on labels alone, and with a teacher.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::train::{InferenceStep, SequenceOutput, TrainOutput, TrainStep};
use burn_distill::metrics::DistillationTrainOutput;
use burn_distill::{DistillationBatch, DistillationLoss, Progress, TrainingSteps};

use crate::batches::TextBatch;
use crate::network::LanguageModel;
use crate::text::PAD;

/// A language model that learns from labels alone, with Burn's cross-entropy.
#[derive(Module, Debug)]
pub struct LabelModel {
    pub network: LanguageModel,
}

impl LabelModel {
    fn predict(&self, batch: TextBatch) -> SequenceOutput {
        let logits = self.network.forward(batch.inputs, batch.mask_pad);
        let [batch_size, sequence, vocabulary] = logits.dims();
        let rows = batch_size * sequence;
        let mean = CrossEntropyLossConfig::new()
            .with_pad_tokens(Some(vec![PAD as usize]))
            .init(&logits.device())
            .forward(
                logits.clone().reshape([rows, vocabulary]),
                batch.labels.clone().reshape([rows]),
            );
        // The sum over the labels, divided by those of the whole step.
        let loss = mean * (batch.labelled as f32 / batch.denominator as f32);
        SequenceOutput::new(loss, logits, None, batch.labels)
    }
}

impl TrainStep for LabelModel {
    type Input = TextBatch;
    type Output = SequenceOutput;

    fn step(&self, batch: TextBatch) -> TrainOutput<SequenceOutput> {
        let output = self.predict(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for LabelModel {
    type Input = TextBatch;
    type Output = SequenceOutput;

    fn step(&self, batch: TextBatch) -> SequenceOutput {
        self.predict(batch)
    }
}

/// A language model that learns from labels and a teacher, with this crate's loss.
#[derive(Module, Debug)]
pub struct DistilledModel {
    pub network: LanguageModel,
    /// Frozen, on the inner device. A field under `#[module(skip)]` would not move to another device with the model.
    pub teacher: LanguageModel,
    pub loss: DistillationLoss,
    #[module(skip)]
    pub steps: TrainingSteps,
}

impl DistilledModel {
    fn predict(&self, batch: TextBatch, progress: Progress) -> DistillationTrainOutput {
        let (inputs, mask_pad) = (batch.inputs.clone(), batch.mask_pad.clone());
        let teacher_logits = self
            .teacher
            .forward(inputs.without_autodiff(), mask_pad.without_autodiff());
        let logits = self.network.forward(batch.inputs, batch.mask_pad.clone());
        let tensors = DistillationBatch::new(logits.clone(), teacher_logits.clone(), batch.labels)
            .with_mask_pad(batch.mask_pad)
            .with_denominator(batch.denominator as f32);
        let distillation = self.loss.forward_batch(tensors, progress);
        DistillationTrainOutput::new(distillation, logits, teacher_logits)
    }
}

impl TrainStep for DistilledModel {
    type Input = TextBatch;
    type Output = DistillationTrainOutput;

    fn step(&self, batch: TextBatch) -> TrainOutput<DistillationTrainOutput> {
        let output = self.predict(batch, self.steps.advance());
        TrainOutput::new(self, output.distillation.loss.backward(), output)
    }
}

impl InferenceStep for DistilledModel {
    type Input = TextBatch;
    type Output = DistillationTrainOutput;

    fn step(&self, batch: TextBatch) -> DistillationTrainOutput {
        self.predict(batch, self.steps.now())
    }
}
