//! A convolutional teacher and small convolutional students on handwritten digits, with Burn's modules, optimiser and learner.
//!
//! `cargo run --release -p burn-distill --example mnist` (`-- --help` for options)
//!
//! The crate changes one line of a Burn program. `networks.rs` has both versions: `Classifier` uses Burn's cross-entropy,
//! `DistilledClassifier` uses `DistillationLoss`. `--plain` trains the students with cross-entropy.

#[path = "../../../../examples/mnist/src/data.rs"]
#[allow(dead_code, reason = "shared with the example of the kernels' crate")]
mod data;
mod devices;
mod digits;
mod learner;
mod metric_history;
mod networks;
mod options;
#[path = "../../../../examples/mnist/src/panel.rs"]
mod panel;
#[path = "../../../../examples/mnist/src/plot.rs"]
mod plot;
mod report;
mod silent_renderer;
mod student_runs;
mod students;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn_distill::{DistillationLossConfig, ExecutionPath, Selection, presets};
use clap::Parser;

use learner::Schedule;
use networks::{Network, NetworkConfig};
use options::Options;
use student_runs::StudentRuns;
use students::Method;

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
        return Err(
            format!("--train-size is {wanted}, but there are {there} training digits").into(),
        );
    }
    println!(
        "digits    {} to train on and {} to test on, from {}",
        train.len(),
        test.len(),
        options.data.display()
    );
    let device = devices::device(options.on)?;
    println!(
        "device    {device:?}; the loss: {}",
        ExecutionPath::of(&device)
    );

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
        "teacher   {} parameters, {} epochs: {:.2} % of the test digits in {:.0} s",
        teacher.num_params(),
        options.teacher_epochs,
        100.0 * teacher_accuracy,
        teacher_time.as_secs_f64(),
    );

    let runs = StudentRuns {
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
        "students  {} parameters, {} digits, {} epochs, {} methods x {} seeds, temperature {}, {}",
        parameters(&runs.student.init(&device)),
        options.train_size,
        options.epochs,
        runs.methods.len(),
        options.seeds,
        options.temperature,
        options.loss,
    );
    let courses = runs.train_all(options.seeds)?;
    println!(
        "\n{}\n{}\n",
        report::table(&runs, &courses, teacher_accuracy, teacher_time),
        report::explanation(&runs, &courses),
    );
    if let Some(folder) = options.plot.parent() {
        std::fs::create_dir_all(folder)?;
    }
    plot::draw(&options.plot, &runs.methods, &courses, teacher_accuracy)
        .map_err(|reason| format!("--plot {}: {reason}", options.plot.display()))?;
    println!("plot      {}", options.plot.display());
    println!("total     {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn parameters(network: &Network) -> usize {
    network.num_params()
}

/// The methods to compare. They differ only in the loss.
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
            // The label at temperature 1, the teacher at the option's times its square.
            DistillationLossConfig::from(presets::hinton(options.temperature, 0.5))
                .with_divergence(options.loss)
                .with_selection(selection),
        ),
    };
    vec![
        plain,
        with("Hinton's mix (fixed:0.5)", Selection::Fixed(0.5)),
        with("teacher annealing (tstr)", Selection::Tstr),
        with("this method (min, cosine)", Selection::Min),
    ]
}
