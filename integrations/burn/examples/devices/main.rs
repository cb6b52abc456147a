//! One student trained four ways: on one device, with rows on two workers of Burn's learner, with rows on two devices, and with classes on two
//! devices. All end with the same weights.
//!
//! `cargo run --release -p burn-distill --example devices` (`-- --help` for options)
//!
//! Student and teacher are linear classifiers of handwritten digits. The workers are Burn's own `ExecutionStrategy::multi` (`learner.rs`),
//! classes on two devices are `DistillationLoss::forward_shards` (`classes.rs`), and `rows.rs` is a loop by hand.

mod classes;
#[path = "../../../../examples/mnist/src/data.rs"]
#[allow(dead_code, reason = "shared with the example of the kernels' crate")]
mod data;
#[path = "../mnist/digits.rs"]
#[allow(dead_code, reason = "shared with the example of one device")]
mod digits;
mod learner;
mod pair;
mod rows;
#[path = "../mnist/silent_renderer.rs"]
mod silent_renderer;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Int, Tensor};
use burn_distill::{CoreReduction, DistillationLoss, DistillationLossConfig};
use clap::Parser;

use data::{Digits, PIXELS};
use pair::On;

/// Trains a student on one device, with rows on two workers and on two devices, and with classes on two devices.
#[derive(Parser)]
struct Options {
    /// The two devices.
    #[arg(long, value_enum, default_value = "auto")]
    on: On,
    /// Optimiser steps of each training.
    #[arg(long, default_value_t = 60)]
    steps: usize,
    /// The folder with the digits.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data"))]
    data: PathBuf,
}

/// Classes of the digits.
pub const CLASSES: usize = 10;
/// Rows of an optimiser step, of all devices together.
pub const ROWS: usize = 64;
/// Of plain gradient descent.
pub const LEARNING_RATE: f64 = 0.5;

/// The part that all trainings have in common.
pub struct Task {
    pub train: Arc<Digits>,
    pub steps: usize,
    pub loss: DistillationLoss,
    /// `[PIXELS, CLASSES]`, the weights of the teacher.
    pub teacher: Vec<f32>,
}

/// A matrix `[PIXELS, columns]` of weights.
pub fn weights(values: &[f32], device: &Device) -> Tensor<2> {
    Tensor::<1>::from_floats(values, device).reshape([PIXELS as i32, -1])
}

/// Images `[ROWS, PIXELS]` and labels of a step.
pub fn step_rows(digits: &Digits, step: usize, device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
    let rows = (0..ROWS).map(|row| (step * ROWS + row) % digits.len());
    let pixels: Vec<f32> = rows
        .clone()
        .flat_map(|i| digits.image(i).iter().map(|p| f32::from(*p) / 255.0))
        .collect();
    let labels: Vec<i32> = rows.map(|i| digits.label(i)).collect();
    let images = Tensor::<1>::from_floats(&pixels[..], device);
    (
        images.reshape([ROWS as i32, -1]),
        Tensor::from_ints(&labels[..], device),
    )
}

/// The teacher: a classifier that was trained on labels alone.
fn teacher(train: &Digits, steps: usize) -> Vec<f32> {
    let device = Device::flex();
    let mut own = vec![0.0; PIXELS * CLASSES];
    for step in 0..steps {
        let (images, labels) = step_rows(train, step, &device);
        let q = burn::tensor::activation::softmax(images.clone().matmul(weights(&own, &device)), 1);
        let targets: Tensor<2> = labels.one_hot(CLASSES).float();
        let gradient = images.transpose().matmul((q - targets) / ROWS as f32);
        let gradient = gradient.into_data().try_to_vec::<f32>().expect("f32");
        for (weight, gradient) in own.iter_mut().zip(gradient) {
            *weight -= LEARNING_RATE as f32 * gradient;
        }
    }
    own
}

/// The share of digits that weights classify as their labels.
fn accuracy(weights_of: &[f32], test: &Digits) -> f64 {
    let device = Device::flex();
    let pixels: Vec<f32> = (0..test.len())
        .flat_map(|i| test.image(i).iter().map(|p| f32::from(*p) / 255.0))
        .collect();
    let images = Tensor::<1>::from_floats(&pixels[..], &device).reshape([-1, PIXELS as i32]);
    let found: Tensor<2, Int> = images.matmul(weights(weights_of, &device)).argmax(1);
    let found = found.into_data().iter::<i64>().collect::<Vec<_>>();
    let right = (0..test.len()).filter(|i| found[*i] == i64::from(test.label(*i)));
    right.count() as f64 / test.len() as f64
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let data::Mnist { train, test } = data::read(&options.data)?;
    let [first, second] = pair::devices(options.on)?;
    println!("devices: {first:?} and {second:?}");
    let config = DistillationLossConfig::new()
        .with_student_temperature(2.0)
        .with_teacher_temperature(2.0)
        // Each device divides the sum of its rows by the rows of all.
        .with_reduction(CoreReduction::SumOver(ROWS as f32));
    let task = Task {
        teacher: teacher(&train, 4 * options.steps),
        train: Arc::new(train),
        steps: options.steps,
        loss: config.init(),
    };
    println!(
        "teacher: {:.1} % of {} digits",
        100.0 * accuracy(&task.teacher, &test),
        test.len()
    );
    let one = vec![first.clone()];
    let workers = vec![first.clone(), first.clone()];
    let two = [first, second];
    type Training<'a> = dyn Fn() -> Result<Vec<f32>, Box<dyn Error>> + 'a;
    let trainings: [(&str, &Training<'_>); 4] = [
        ("one device", &|| learner::train(&task, one.clone())),
        ("rows on two workers", &|| {
            learner::train(&task, workers.clone())
        }),
        ("rows on two devices", &|| Ok(rows::train(&task, &two))),
        ("classes on two devices", &|| {
            Ok(classes::train(&task, &two))
        }),
    ];
    let mut one_device: Option<Vec<f32>> = None;
    for (name, training) in trainings {
        let start = Instant::now();
        let own = training()?;
        let seconds = start.elapsed().as_secs_f64();
        let reference = one_device.get_or_insert_with(|| own.clone());
        let apart = own.iter().zip(reference.iter()).map(|(a, b)| (a - b).abs());
        let apart = apart.fold(0.0, f32::max);
        println!(
            "{name}: {:.1} % after {} steps, {seconds:.1} s; weights differ by at most {apart:.0e} from those of one device",
            100.0 * accuracy(&own, &test),
            task.steps
        );
        if apart > 1e-4 {
            return Err(format!("{name} has trained other weights").into());
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
