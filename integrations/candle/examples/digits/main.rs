//! A teacher learns the digits of this repository, and small students learn from few labels, with the teacher and without.
//!
//! `cargo run --release --package candle-distill --example digits`

#[path = "../../../../examples/mnist/src/data.rs"]
#[allow(dead_code, reason = "shared with the example mnist")]
mod data;
mod network;
#[path = "../../../../examples/mnist/src/random.rs"]
#[allow(dead_code, reason = "shared with the example mnist")]
mod random;

use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Error, Result, Tensor};
use candle_distill::{
    Config, DistillationLoss, Progress, Selection, Similarity, TemperatureScaling, presets,
};

use data::{Digits, PIXELS};
use network::{CPU, Network};

const BATCH: usize = 50;
const STUDENT_LABELS: usize = 500;
const SEEDS: u64 = 6;

/// Images `[len, PIXELS]`, 0 for paper and 1 for ink, and labels `[len]`.
struct Set {
    images: Tensor,
    labels: Tensor,
}

impl Set {
    fn new(digits: &Digits) -> Result<Self> {
        let images = (0..digits.len()).flat_map(|i| digits.image(i));
        let images: Vec<f32> = images.map(|pixel| f32::from(*pixel) / 255.0).collect();
        Ok(Self {
            images: Tensor::from_vec(images, (digits.len(), PIXELS), CPU)?,
            labels: Tensor::from_vec(digits.labels(), digits.len(), CPU)?,
        })
    }

    fn first(&self, count: usize) -> Result<Self> {
        self.part(0, count)
    }

    fn part(&self, start: usize, count: usize) -> Result<Self> {
        Ok(Self {
            images: self.images.narrow(0, start, count)?,
            labels: self.labels.narrow(0, start, count)?,
        })
    }

    fn len(&self) -> usize {
        self.labels.elem_count()
    }
}

/// Trains a network by steepest descent. Without a teacher the student's own logits stand for the teacher's; `config` must then ignore them.
fn train(
    student: &Network,
    teacher: Option<&Network>,
    set: &Set,
    config: Config,
    (epochs, rate): (usize, f64),
) -> Result<()> {
    let loss = DistillationLoss::new(config)?;
    let steps = set.len() / BATCH;
    for step in 0..epochs * steps {
        let batch = set.part(step % steps * BATCH, BATCH)?;
        let logits = student.logits(&batch.images)?;
        let teacher_logits = match teacher {
            Some(teacher) => teacher.logits(&batch.images)?,
            None => logits.clone(),
        };
        let progress = Progress::new(step as u64, (epochs * steps) as u64);
        let loss = loss.forward(&logits, &teacher_logits, &batch.labels, progress)?;
        student.descend(&loss.backward()?, rate)?;
    }
    Ok(())
}

/// The share of images whose label has the largest logit, in percent.
fn accuracy(network: &Network, set: &Set) -> Result<f64> {
    let chosen = network.logits(&set.images)?.argmax(1)?;
    let right = chosen.eq(&set.labels.to_dtype(chosen.dtype())?)?;
    let right = right.to_dtype(DType::F64)?.sum_all()?;
    Ok(100.0 * right.to_scalar::<f64>()? / set.len() as f64)
}

fn main() -> Result<()> {
    let started = Instant::now();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let mnist = data::read(&folder).map_err(Error::wrap)?;
    let (all, test) = (Set::new(&mnist.train)?, Set::new(&mnist.test)?);
    let labels_only = Config {
        selection: Selection::Fixed(1.0),
        ..Config::default()
    };

    let teacher = Network::new(128, 1)?;
    train(&teacher, None, &all, labels_only, (15, 0.3))?;
    println!(
        "teacher, {} labels: {:.1} %",
        all.len(),
        accuracy(&teacher, &test)?
    );

    let set = all.first(STUDENT_LABELS)?;
    println!("students, {STUDENT_LABELS} labels, means of {SEEDS} seeds:");
    let method = Config {
        student_temperature: 4.0,
        teacher_temperature: 4.0,
        temperature_scaling: TemperatureScaling::Squared,
        ..Config::default()
    };
    let students = [
        ("labels only", labels_only),
        ("Hinton's mix, half label", presets::hinton(4.0, 0.5)),
        ("this method", method),
        (
            "this method, Product and ExpNegKl",
            Config {
                selection: Selection::Product,
                similarity: Similarity::ExpNegKl,
                ..method
            },
        ),
    ];
    for (name, config) in students {
        let mut sum = 0.0;
        for seed in 0..SEEDS {
            let student = Network::new(16, 100 + seed)?;
            train(&student, Some(&teacher), &set, config, (60, 0.1))?;
            sum += accuracy(&student, &test)?;
        }
        println!("  {name}: {:.1} %", sum / SEEDS as f64);
    }
    println!("{:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}
