//! Distillation in a training program: a teacher and small students learn to read handwritten digits.
//!
//! `cargo run --release --example mnist` (`-- --help` for options)
//!
//! The example shows how a training framework uses the crate. The networks and their passes are plain `ndarray`.
//! Each step calls `Engine::run` once: it takes the logits of student and teacher with the labels, and returns the loss and the gradient
//! at the student's logits. The call is in `step` of `students.rs`.
//!
//! The defaults (2,000 unwarped digits, temperature 4) were selected from about 30 trials by accuracy on the same test digits, so that
//! the teacher is useful. The gain over labels shows only the size of an effect under such conditions.
//! With `--warp`, labels only is ahead.

mod augment;
mod batches;
mod data;
mod estimate;
mod learner;
mod methods;
mod network;
mod options;
mod panel;
mod plot;
mod random;
mod report;
mod schedule;
mod students;
mod study;
mod train;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use wgpu_distill::{Batch, Engine, Outputs, Progress};

use data::Mnist;
use options::{Command, Options};
use report::{Report, grouped, shape};
use schedule::Schedule;
use students::{Method, School, TestSet};

/// The learning rate of the first step, for teacher and students alike.
const LEARNING_RATE: f32 = 2e-3;
/// Points of a curve in the plot.
const POINTS: u64 = 50;

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options.command {
        Some(Command::Study(study)) => study::run(study, |steps| progress_bar("study     ", steps)),
        None => run(&options),
    };
    match result {
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
    let digits = read(options)?;
    let engine = match options.engine.as_str() {
        "auto" => Engine::auto(),
        "cpu" => Engine::cpu(),
        name => Engine::gpu(name)?,
    };
    println!("engine    {}", engine.describe());
    let methods = methods::methods(options);
    try_out(&engine, &methods)?;

    let test = TestSet::new(&digits.test);
    let teacher_sizes = Options::sizes(&options.teacher);
    let schedule = Schedule {
        digits: digits.train.len(),
        epochs: options.teacher_epochs,
        batch: options.batch,
        warp: true,
        learning_rate: LEARNING_RATE,
    };
    let teacher_start = Instant::now();
    let bar = progress_bar("teacher   ", schedule.steps());
    let teacher = train::teacher(&engine, &digits.train, &teacher_sizes, &schedule, 0, &bar)?;
    bar.finish_and_clear();
    let teacher_time = teacher_start.elapsed();
    let teacher_accuracy = test.accuracy(&teacher);
    println!(
        "teacher   {}, {} warped digits, {} rounds: {:.2} % of the test digits in {:.0} s",
        shape(&teacher_sizes),
        grouped(digits.train.len()),
        options.teacher_epochs,
        100.0 * teacher_accuracy,
        teacher_time.as_secs_f64(),
    );

    let school = School {
        engine: &engine,
        train: &digits.train,
        test: &test,
        teacher: &teacher,
        sizes: Options::sizes(&options.student),
        schedule: Schedule {
            digits: options.train_size,
            epochs: options.epochs,
            batch: options.batch,
            warp: options.warp,
            learning_rate: LEARNING_RATE,
        },
        methods,
        points: POINTS,
    };
    println!(
        "students  {}, {} {}digits, {} rounds, {} methods x {} seeds, temperature {}",
        shape(&school.sizes),
        grouped(options.train_size),
        if options.warp { "warped " } else { "" },
        options.epochs,
        school.methods.len(),
        options.seeds,
        options.temperature,
    );
    let bar = progress_bar("students  ", options.seeds * school.schedule.steps());
    let courses = school.train(options.seeds, &bar)?;
    bar.finish_and_clear();

    let report = Report {
        methods: &school.methods,
        courses: &courses,
        teacher_accuracy,
        teacher_sizes: &teacher_sizes,
        teacher_time,
        student_sizes: &school.sizes,
        test_digits: digits.test.len(),
    };
    println!("\n{}\n{}\n", report.table(), report.words());
    plot::draw(&options.plot, &school.methods, &courses, teacher_accuracy)
        .map_err(|reason| format!("--plot {}: {reason}", options.plot.display()))?;
    let plot = options.plot.canonicalize();
    println!(
        "plot      {}",
        plot.as_ref().unwrap_or(&options.plot).display()
    );
    println!("total     {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Reads the digits and checks that there are enough for the options.
fn read(options: &Options) -> Result<Mnist, Box<dyn Error>> {
    let digits = data::read(&options.data)?;
    if options.train_size > digits.train.len() {
        let (wanted, there) = (options.train_size, digits.train.len());
        return Err(
            format!("--train-size is {wanted}, but there are {there} training digits").into(),
        );
    }
    println!(
        "digits    {} to train on and {} to test on, from {}",
        grouped(digits.train.len()),
        grouped(digits.test.len()),
        options.data.display()
    );
    Ok(digits)
}

/// Calls every method's loss on one row, so that numbers out of range are refused before the teacher is trained.
fn try_out(engine: &Engine, methods: &[Method]) -> Result<(), wgpu_distill::Error> {
    let logits = [0.0; data::CLASSES];
    let batch = Batch::new(&logits, &logits, &[0], data::CLASSES);
    for method in methods {
        engine.run(
            &method.config,
            Progress::new(0, 1),
            &batch,
            Outputs::SUMMARY,
        )?;
    }
    Ok(())
}

/// A progress bar on stderr. Nothing is drawn if stderr is not a terminal.
fn progress_bar(name: &'static str, steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix}{wide_bar} {pos}/{len}, {eta} left {msg}")
        .expect("the template is valid");
    let bar = ProgressBar::new(steps).with_style(style).with_prefix(name);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}
