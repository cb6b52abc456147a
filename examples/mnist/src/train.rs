//! The training loop in its simplest form: logits into the engine, gradient out. It trains the teacher.

use indicatif::ProgressBar;
use wgpu_distill::{Batch, Config, Engine, Error, Outputs, Progress, Selection};

use crate::batches::Batches;
use crate::data::{CLASSES, Digits};
use crate::learner::Learner;
use crate::network::Network;
use crate::random::{Purpose, Random};
use crate::schedule::Schedule;

/// Trains a network of these `sizes` on labels only.
pub fn teacher(
    engine: &Engine,
    train: &Digits,
    sizes: &[usize],
    schedule: &Schedule,
    seed: u64,
    bar: &ProgressBar,
) -> Result<Network, Error> {
    // With all weight on the label the loss is the usual cross-entropy for any teacher, so the network is passed as its own.
    let labels_only = Config {
        selection: Selection::Fixed(1.0),
        ..Config::default()
    };
    let network = Network::new(sizes, &mut Random::new(seed, Purpose::Weights));
    let mut learner = Learner::new(network, schedule.batch);
    let random = Random::new(seed, Purpose::Batches);
    let mut batches = Batches::new(train, schedule, random);
    let total = schedule.steps();
    for step in 0..total {
        let progress = Progress::new(step, total);
        batches.advance();
        let logits = learner.logits(batches.images());
        let batch = Batch::new(logits, logits, batches.labels(), CLASSES);
        let distillation = engine.run(&labels_only, progress, &batch, Outputs::GRADIENT)?;
        let loss = distillation.summary.loss;
        let gradient = distillation.into_grad_student_logits();
        learner.learn(batches.images(), &gradient, schedule.rate(progress));
        if step % 20 == 0 {
            bar.set_message(format!("loss {loss:.3}"));
        }
        bar.inc(1);
    }
    Ok(learner.network)
}
