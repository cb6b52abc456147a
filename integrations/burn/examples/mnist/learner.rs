//! Training with Burn's learner, on labels alone or with a teacher.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::AdamConfig;
use burn::optim::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::tensor::Device;
use burn::train::metric::store::Split;
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{Learner, SupervisedTraining};
use burn_distill::metrics::{AgreementMetric, KdrMetric, TssrMetric};
use burn_distill::{DistillationLossConfig, TrainingSteps};

use crate::data::Digits;
use crate::digits;
use crate::metric_history::MetricHistory;
use crate::networks::{Classifier, DistilledClassifier, Network};
use crate::silent_renderer::SilentRenderer;
use crate::students::{Course, Point};

const LEARNING_RATE: f64 = 2e-3;

/// The length of a training and its data.
#[derive(Clone)]
pub struct Schedule {
    pub digits: usize,
    pub epochs: usize,
    pub batch: usize,
    pub seed: u64,
}

impl Schedule {
    /// Steps of the whole training.
    pub fn steps(&self) -> usize {
        self.epochs * self.digits.div_ceil(self.batch)
    }
}

/// Trains a model with Burn's learner. Returns the model, its metrics and the time.
macro_rules! train {
    ($model:expr, $metrics:expr, $device:expr, $train:expr, $test:expr, $schedule:expr) => {{
        let schedule: &Schedule = $schedule;
        let history = MetricHistory::default();
        let rate = CosineAnnealingLrSchedulerConfig::new(LEARNING_RATE, schedule.steps()).init()?;
        let device = $device.clone();
        let batches = digits::loader(
            $train,
            schedule.digits,
            schedule.batch,
            Some(schedule.seed),
            &device.clone().autodiff(),
        );
        let tests = digits::loader($test, $test.len(), 500, None, &device);
        let start = Instant::now();
        // The folder is for checkpoints; none are written.
        let trained = SupervisedTraining::new(std::env::temp_dir(), batches, tests)
            .metrics($metrics)
            .with_metric_logger(history.clone())
            .with_application_logger(None)
            .renderer(Box::new(SilentRenderer))
            .num_epochs(schedule.epochs)
            .launch(Learner::new($model, AdamConfig::new().init(), rate));
        if let Some(error) = trained.error {
            return Err(error.to_string().into());
        }
        (trained.model, history, start.elapsed())
    }};
}

/// Trains on labels alone, with Burn's cross-entropy.
pub fn classifier(
    device: &Device,
    network: Network,
    train: &Arc<Digits>,
    test: &Arc<Digits>,
    schedule: &Schedule,
) -> Result<(Network, Course), Box<dyn Error>> {
    let metrics = (LossMetric::new(), AccuracyMetric::new());
    let model = Classifier { network };
    let (model, history, time) = train!(model, metrics, device, train, test, schedule);
    Ok((model.network, course(&history, schedule, time)))
}

/// Trains on labels and a teacher.
pub fn distilled(
    device: &Device,
    network: Network,
    teacher: &Network,
    loss: &DistillationLossConfig,
    train: &Arc<Digits>,
    test: &Arc<Digits>,
    schedule: &Schedule,
) -> Result<Course, Box<dyn Error>> {
    let metrics = (
        LossMetric::new(),
        AccuracyMetric::new(),
        KdrMetric::new(),
        TssrMetric::new(),
        AgreementMetric::new(),
    );
    let model = DistilledClassifier {
        network,
        teacher: teacher.clone().freeze(),
        loss: loss.init(),
        steps: TrainingSteps::new(schedule.steps() as u64),
    };
    let (_, history, time) = train!(model, metrics, device, train, test, schedule);
    Ok(course(&history, schedule, time))
}

/// The course of a training, epoch by epoch.
fn course(history: &MetricHistory, schedule: &Schedule, time: Duration) -> Course {
    let each = schedule.steps() / schedule.epochs;
    let points = (1..=schedule.epochs).map(|epoch| {
        let train = |name| history.mean(name, epoch, &Split::Train);
        let valid = |name| history.mean(name, epoch, &Split::Valid);
        Point {
            step: (epoch * each) as u64,
            accuracy: valid("Accuracy").map_or(f64::NAN, |percent| percent / 100.0),
            kdr: train("KDR").unwrap_or(0.0),
            // The mean over the epoch, like KDR and TSSR.
            tstr: (epoch as f64 - 0.5) / schedule.epochs as f64,
            // On labels alone the label is the whole target.
            tssr: train("TSSR").unwrap_or(1.0),
            agreement: valid("Agreement").map(|percent| percent / 100.0),
        }
    });
    Course {
        points: points.collect(),
        time,
    }
}
