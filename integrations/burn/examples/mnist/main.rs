//! A convolutional teacher and small convolutional students on handwritten digits, with Burn's modules, optimiser and learner.
//!
//! `cargo run --release -p burn-distill --example mnist` (`-- --help` for options)
//!
//! What the crate changes in a Burn program is one line, and `networks.rs` has both: `Classifier` is trained with Burn's own
//! cross-entropy, `Pupil` with `DistillationLoss`. `--plain` trains the students as classifiers.

#[path = "../../../../examples/mnist/src/data.rs"]
#[allow(dead_code, reason = "shared with the example of the kernels' crate")]
mod data;
mod digits;
mod learner;
mod networks;
mod notebook;
mod options;
#[path = "../../../../examples/mnist/src/plot.rs"]
mod plot;
mod report;
mod students;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, DeviceKind};
use burn_distill::{DistillationLossConfig, Path, Selection};
use clap::Parser;
use wgpu_distill::gpu::adapters_blocking;

use learner::Schedule;
use networks::{Network, NetworkConfig};
use options::{On, Options};
use students::{Method, School};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    options.check()?;
    let data::Mnist { train, test } = data::read(&options.data)?;
    let (train, test) = (Arc::new(train), Arc::new(test));
    if options.train_size > train.len() {
        let (wanted, there) = (options.train_size, train.len());
        return Err(format!("--train-size is {wanted}, there are {there} training digits").into());
    }
    println!(
        "digits    {} to train on and {} to test on, from {}",
        train.len(),
        test.len(),
        options.data.display()
    );
    let device = device(options.on)?;
    println!("device    {device:?}; the loss: {}", Path::of(&device));

    device.seed(options.seed);
    let teacher = NetworkConfig::new(16, 32, 128).init(&device.clone().autodiff());
    let schedule = Schedule {
        digits: train.len(),
        epochs: options.teacher_epochs,
        batch: options.batch,
        seed: options.seed,
    };
    let teacher_start = Instant::now();
    let (teacher, course) = learner::classifier(&device, teacher, &train, &test, &schedule)?;
    let teacher_time = teacher_start.elapsed();
    let teacher_accuracy = course.points.last().map_or(f64::NAN, |p| p.accuracy);
    println!(
        "teacher   {} parameters, {} rounds: {:.2} % of the test digits in {:.0} s",
        teacher.num_params(),
        options.teacher_epochs,
        100.0 * teacher_accuracy,
        teacher_time.as_secs_f64(),
    );

    let school = School {
        device: &device,
        train: &train,
        test: &test,
        teacher: &teacher,
        student: NetworkConfig::new(4, 8, 16),
        schedule: Schedule {
            digits: options.train_size,
            epochs: options.epochs,
            batch: options.batch,
            seed: options.seed,
        },
        methods: methods(options),
    };
    println!(
        "students  {} parameters, {} digits, {} rounds, {} methods x {} seeds, temperature {}",
        parameters(&school.student.init(&device)),
        options.train_size,
        options.epochs,
        school.methods.len(),
        options.seeds,
        options.temperature,
    );
    let courses = school.train(options.seeds)?;
    println!(
        "\n{}\n{}\n",
        report::table(&school, &courses, teacher_accuracy, teacher_time),
        report::words(&school, &courses),
    );
    if let Some(folder) = options.plot.parent() {
        std::fs::create_dir_all(folder)?;
    }
    plot::draw(&options.plot, &school.methods, &courses, teacher_accuracy)
        .map_err(|reason| format!("--plot {}: {reason}", options.plot.display()))?;
    println!("plot      {}", options.plot.display());
    println!("total     {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn parameters(network: &Network) -> usize {
    network.num_params()
}

/// The device to train on. A GPU is shared with the loss: that is the line that makes its kernels run on Burn's buffers.
fn device(on: On) -> Result<Device, Box<dyn Error>> {
    let hardware = || adapters_blocking().iter().any(|a| a.hardware);
    let kind = match on {
        On::Cpu => return Ok(Device::flex()),
        On::Auto if !hardware() => return Ok(Device::flex()),
        On::Auto | On::Gpu => DeviceKind::DefaultDevice,
        On::Software => DeviceKind::Cpu,
    };
    Ok(burn_distill::init(
        Device::wgpu_options().device_kind(kind),
    )?)
}

/// The ways to teach a student. They differ in the loss and in nothing else.
fn methods(options: &Options) -> Vec<Method> {
    let plain = Method {
        name: "labels only (Burn's cross-entropy)".to_owned(),
        loss: None,
    };
    if options.plain {
        return vec![plain];
    }
    let with = |name: &str, selection| Method {
        name: name.to_owned(),
        loss: Some(
            DistillationLossConfig::new()
                .with_student_temperature(options.temperature)
                .with_teacher_temperature(options.temperature)
                .with_selection(selection),
        ),
    };
    vec![
        plain,
        with("plain distillation (fixed:0.5)", Selection::Fixed(0.5)),
        with("teacher annealing (tstr)", Selection::Tstr),
        with("this method (min, cosine)", Selection::Min),
    ]
}
