//! A small language model, trained on a novel and distilled into smaller ones by four methods, with Burn's modules, optimiser and learner.
//!
//! `cargo run --release -p burn-distill --example language_model` (`-- --help` for options)
//!
//! `models.rs` has the training steps: micro-batches with padding, a mask and the denominator of their optimiser step. `training.rs` has the
//! learner: warm-up, clipping, accumulation, checkpoints. `--resume` continues from the checkpoints.

mod batches;
mod curves;
#[path = "../mnist/devices.rs"]
mod devices;
#[path = "../../../../examples/mnist/src/estimate.rs"]
#[allow(dead_code, reason = "shared with the example of the kernels' crate")]
mod estimate;
mod models;
mod network;
mod options;
#[path = "../../../../examples/mnist/src/panel.rs"]
mod panel;
mod progress;
#[path = "../../../../examples/mnist/src/random.rs"]
#[allow(dead_code, reason = "shared with the example of the kernels' crate")]
mod random;
mod report;
mod sample;
#[path = "../mnist/silent_renderer.rs"]
mod silent_renderer;
mod students;
#[cfg(test)]
mod tests;
mod text;
mod training;

use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn_distill::ExecutionPath;
use clap::Parser;
use indicatif::MultiProgress;

use batches::BatchSizes;
use curves::Course;
use network::{LanguageModel, LanguageModelConfig};
use options::Options;
use report::Results;
use text::Corpus;
use training::{Run, Schedule, Workplace};

/// The beginning of the text that each model continues at the end.
const OPENING: &str = "Anne had never";

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
    let corpus = Corpus::read(&options.text, options.vocabulary, options.context)?;
    println!(
        "text      {}: {} tokens to train on and {} held out, {} classes",
        options.text.display(),
        text::labels(&corpus.train),
        text::labels(&corpus.held_out),
        corpus.vocabulary,
    );
    let device = devices::device(options.on)?;
    println!(
        "device    {device:?}; the loss: {}",
        ExecutionPath::of(&device)
    );
    check_folder(options)?;

    let (train, held_out) = (Arc::new(corpus.train), Arc::new(corpus.held_out));
    let bars = MultiProgress::new();
    let workplace = Workplace {
        device: &device,
        train: &train,
        held_out: &held_out,
        bars: &bars,
    };
    let size = |hidden, layers, heads, dropout| {
        let (vocabulary, context) = (corpus.vocabulary, options.context);
        LanguageModelConfig::new(hidden, layers, heads, dropout, vocabulary, context)
    };
    let (large, small) = (size(96, 3, 4, 0.1), size(32, 2, 2, 0.0));

    let run = teacher_run(options, &workplace);
    device.seed(options.seed);
    let teacher = run.on_labels(large.init(&device.clone().autodiff()))?;
    let results = Results {
        teacher: Course::read(&run.folder, &run.schedule)?,
        methods: options.methods.clone(),
        students: Vec::new(),
        seeds: (options.seed..options.seed + options.seeds).collect(),
    };
    println!(
        "teacher   {} parameters, {} steps: {:.3} held-out nats a token in {:.0} s",
        teacher.num_params(),
        run.schedule.steps(),
        results.teacher.held_out(),
        results.teacher.time.as_secs_f64(),
    );
    println!(
        "students  {} parameters, {} steps of {} x {} sequences, {} methods x {} seeds, temperature {}",
        small.init(&device).num_params(),
        schedule(options, options.steps, options.seed).steps(),
        options.accumulation,
        options.batch,
        options.methods.len(),
        options.seeds,
        options.temperature,
    );
    let (results, models) = train_students(options, &workplace, &small, &teacher, results)?;
    println!("\n{}\n{}\n", results.table(), explanation(options.seeds));
    fs::write(options.folder.join("curves.csv"), results.csv())?;
    let plot = options.folder.join("curves.svg");
    results.draw(&plot)?;
    println!(
        "plot      {}; curves.csv beside it has the numbers",
        plot.display()
    );

    println!("samples   \"{OPENING}\", continued:");
    let titles = options.methods.iter().map(|method| method.title());
    for (title, model) in ["teacher"].into_iter().chain(titles).zip(&models) {
        let (context, seed) = (options.context, options.seed);
        let text = sample::continue_text(model, &corpus.subwords, OPENING, context, seed, &device)?;
        println!("  {title}: {text}");
    }
    println!("total     {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Refuses to resume a run of other options, and removes checkpoints that are not to be resumed.
fn check_folder(options: &Options) -> Result<(), Box<dyn Error>> {
    let settings = options.settings();
    let file = options.folder.join("settings.txt");
    if options.resume {
        let earlier = fs::read_to_string(&file)
            .map_err(|reason| format!("--resume: {}: {reason}", file.display()))?;
        return match earlier == settings {
            true => Ok(()),
            false => Err(format!(
                "--resume: the run in {} had other options: {earlier}",
                options.folder.display()
            )
            .into()),
        };
    }
    fs::create_dir_all(&options.folder)?;
    for entry in fs::read_dir(&options.folder)? {
        let folder = entry?.path();
        if folder.join(progress::SECONDS).exists() {
            training::clear(&folder)?;
        }
    }
    fs::write(file, settings)?;
    Ok(())
}

fn schedule(options: &Options, steps: usize, seed: u64) -> Schedule {
    let steps_per_epoch = steps.div_ceil(options.evaluations);
    Schedule {
        sizes: BatchSizes {
            micro_batch: options.batch,
            accumulation: options.accumulation,
            steps_per_epoch,
        },
        epochs: steps.div_ceil(steps_per_epoch),
        learning_rate: options.learning_rate,
        seed,
    }
}

fn teacher_run<'a>(options: &Options, workplace: &'a Workplace<'a>) -> Run<'a> {
    let schedule = schedule(options, options.teacher_steps, options.seed);
    Run {
        workplace,
        schedule: Schedule {
            learning_rate: 0.5 * options.learning_rate,
            ..schedule
        },
        folder: options.folder.join("teacher"),
        label: "teacher".to_owned(),
    }
}

/// Trains one student for each method and seed. Students of a seed start from the same weights and see the text in the same order.
///
/// Also returns the models: the teacher, then the last seed's student of each method.
fn train_students(
    options: &Options,
    workplace: &Workplace<'_>,
    small: &LanguageModelConfig,
    teacher: &LanguageModel,
    mut results: Results,
) -> Result<(Results, Vec<LanguageModel>), Box<dyn Error>> {
    let mut models = Vec::new();
    for &seed in &results.seeds {
        models = vec![teacher.clone()];
        let mut courses = Vec::new();
        for &method in &options.methods {
            let run = Run {
                workplace,
                schedule: schedule(options, options.steps, seed),
                folder: options.folder.join(format!("{}-{seed}", method.name())),
                label: format!("seed {seed}, {}", method.title()),
            };
            workplace.device.seed(1000 + seed);
            let network = small.init(&workplace.device.clone().autodiff());
            models.push(match method.loss(options.temperature) {
                None => run.on_labels(network)?,
                Some(loss) => run.distilled(network, teacher, &loss)?,
            });
            let course = Course::read(&run.folder, &run.schedule)?;
            let (nats, seconds) = (course.held_out(), course.time.as_secs_f64());
            workplace.bars.suspend(|| {
                eprintln!("{}: {nats:.3} nats a token in {seconds:.0} s", run.label);
            });
            courses.push(course);
        }
        results.students.push(courses);
    }
    Ok((results, models))
}

/// The explanation of the table.
fn explanation(seeds: u64) -> String {
    let seeds = match seeds {
        1 => "One seed, so no standard error".to_owned(),
        n => format!("Mean of {n} seeds ± standard error; differences are taken seed by seed"),
    };
    format!(
        "{seeds}. Lower is better.\nSeconds: one training, with its measurements of the held-out text."
    )
}
