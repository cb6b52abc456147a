//! Training with Burn's learner: schedule, clipping, accumulation, checkpoints.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::AdamWConfig;
use burn::optim::lr_scheduler::LrSchedulerConfig;
use burn::optim::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::optim::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::optim::lr_scheduler::sequential::SequentialLrSchedulerConfig;
use burn::tensor::Device;
use burn::train::checkpoint::KeepLastNCheckpoints;
use burn::train::logger::FileMetricLogger;
use burn::train::metric::{LossMetric, PerplexityMetric};
use burn::train::{InferenceStep, Learner, LearnerModel, SupervisedTraining, TrainStep};
use burn_distill::metrics::{AgreementMetric, DistillationLossMetric, KdrMetric, TssrMetric};
use burn_distill::{DistillationLossConfig, TrainingSteps};
use indicatif::MultiProgress;

use crate::batches::{BatchSizes, TextBatch, TextLoader};
use crate::models::{DistilledModel, LabelModel};
use crate::network::LanguageModel;
use crate::progress::EpochProgress;
use crate::silent_renderer::SilentRenderer;
use crate::text::{PAD, Window};

/// The length of a training, and its seed.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub sizes: BatchSizes,
    pub epochs: usize,
    /// The learning rate after the warm-up, which takes a twentieth of the steps. A cosine leads it to a tenth.
    pub learning_rate: f64,
    pub seed: u64,
}

impl Schedule {
    /// Optimiser steps of the whole training.
    pub fn steps(&self) -> usize {
        self.epochs * self.sizes.steps_per_epoch
    }

    fn rates(&self) -> Result<ModuleLrScheduler, Box<dyn Error>> {
        let steps = self.steps();
        let cosine = |steps: usize| {
            let config = CosineAnnealingLrSchedulerConfig::new(self.learning_rate, steps);
            LrSchedulerConfig::Cosine(config.with_min_lr(0.1 * self.learning_rate))
        };
        let warm_up = steps / 20;
        let config = match warm_up {
            0 => SequentialLrSchedulerConfig::new(vec![cosine(steps)], vec![]),
            _ => {
                let first = self.learning_rate / warm_up as f64;
                let linear = LinearLrSchedulerConfig::new(first, self.learning_rate, warm_up);
                SequentialLrSchedulerConfig::new(
                    vec![LrSchedulerConfig::Linear(linear), cosine(steps - warm_up)],
                    vec![warm_up],
                )
            }
        };
        Ok(config.init()?)
    }
}

/// The device, the text and the progress bars that the trainings of a program share.
pub struct Workplace<'a> {
    pub device: &'a Device,
    pub train: &'a Arc<Vec<Window>>,
    pub held_out: &'a Arc<Vec<Window>>,
    /// The terminal on which the bars are drawn.
    pub bars: &'a MultiProgress,
}

/// One training in a folder of its own, which has checkpoints, metrics and times of its epochs.
pub struct Run<'a> {
    pub workplace: &'a Workplace<'a>,
    pub schedule: Schedule,
    pub folder: PathBuf,
    pub label: String,
}

impl Run<'_> {
    /// The last epoch with a checkpoint, 0 without one.
    fn epochs_done(&self) -> usize {
        let files = fs::read_dir(self.folder.join("checkpoint"));
        let names = files.into_iter().flatten().flatten();
        let names = names.filter_map(|file| file.file_name().into_string().ok());
        let epochs = names.filter_map(|name| {
            let epoch = name.strip_prefix("scheduler-")?.strip_suffix(".bpk")?;
            epoch.parse().ok()
        });
        let complete = |epoch: &usize| {
            ["model", "optim"].iter().all(|part| {
                let file = format!("checkpoint/{part}-{epoch}.bpk");
                self.folder.join(file).exists()
            })
        };
        epochs.filter(complete).max().unwrap_or(0)
    }

    /// Trains a model, from its last checkpoint if the folder has one.
    fn train<M>(
        &self,
        model: M,
        metrics: impl FnOnce(SupervisedTraining<M>) -> SupervisedTraining<M>,
    ) -> Result<M, Box<dyn Error>>
    where
        M: LearnerModel + TrainStep<Input = TextBatch> + InferenceStep<Input = TextBatch>,
    {
        let (place, schedule) = (self.workplace, &self.schedule);
        let done = self.epochs_done();
        let train = TextLoader::shuffled(
            place.train,
            schedule.sizes,
            schedule.seed,
            done,
            &place.device.clone().autodiff(),
        );
        let held_out = TextLoader::in_order(place.held_out, 32, place.device);
        let optimizer = AdamWConfig::new()
            .with_beta_2(0.98)
            .with_weight_decay(0.01)
            // Burn clips the gradient of each parameter by its own norm.
            .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)));
        let progress = EpochProgress::new(&self.folder, &self.label, place.bars)?;
        let training = SupervisedTraining::new(&self.folder, Arc::new(train), Arc::new(held_out))
            .with_metric_logger(FileMetricLogger::new(&self.folder))
            .with_application_logger(None)
            .with_progress_logger(progress)
            .renderer(Box::new(SilentRenderer))
            .with_default_checkpointers()
            .with_checkpointing_strategy(KeepLastNCheckpoints::new(2))
            .grads_accumulation(schedule.sizes.accumulation)
            .num_epochs(schedule.epochs);
        let training = match done {
            0 => training,
            done => training.checkpoint(done),
        };
        let learner = Learner::new(model, optimizer.init(), schedule.rates()?);
        let trained = metrics(training).launch(learner);
        match trained.error {
            Some(error) => Err(format!("{}: {error}", self.label).into()),
            None => Ok(trained.model),
        }
    }

    /// Trains on labels alone, with Burn's cross-entropy.
    pub fn on_labels(&self, network: LanguageModel) -> Result<LanguageModel, Box<dyn Error>> {
        let model = self.train(LabelModel { network }, |training| {
            training
                .metric_train_numeric(LossMetric::new())
                .metric_valid_numeric(PerplexityMetric::new().with_pad_token(PAD as usize))
        })?;
        Ok(model.network)
    }

    /// Trains on labels and a teacher.
    pub fn distilled(
        &self,
        network: LanguageModel,
        teacher: &LanguageModel,
        loss: &DistillationLossConfig,
    ) -> Result<LanguageModel, Box<dyn Error>> {
        let (schedule, sizes) = (&self.schedule, self.schedule.sizes);
        let batches = sizes.steps_per_epoch * sizes.accumulation;
        let steps = TrainingSteps::accumulating(
            schedule.epochs as u64,
            batches as u64,
            sizes.accumulation as u64,
        );
        let model = DistilledModel {
            network,
            teacher: teacher.clone().freeze(),
            loss: loss.init(),
            steps: steps.resumed_after((self.epochs_done() * batches) as u64),
        };
        // The padding is left out by the output of this crate, whatever the metric.
        let model = self.train(model, |training| {
            training
                .metric_train_numeric(DistillationLossMetric::new())
                .metric_train_numeric(KdrMetric::new())
                .metric_train_numeric(TssrMetric::new())
                .metric_valid_numeric(PerplexityMetric::new())
                .metric_valid_numeric(AgreementMetric::new())
        })?;
        Ok(model.network)
    }
}

/// Removes what an earlier run has left in a folder of a training.
pub fn clear(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
