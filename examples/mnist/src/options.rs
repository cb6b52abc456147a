//! The command line.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use wgpu_distill::{Divergence, Selection, Similarity};

use crate::study::StudyOptions;

/// Trains a teacher on MNIST and small students by six methods: on the labels only, on the teacher only,
/// by plain distillation in two forms, by teacher annealing, and with wgpu-distill's method.
///
/// The repository's 10,000 digits are used unless --data names a folder with other files.
#[derive(Parser)]
#[command(name = "mnist", args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Folder with MNIST's four IDX files, gzipped or not [default: the repository's data/]
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data"), hide_default_value = true)]
    pub data: PathBuf,

    /// Engine for loss and gradient: auto (a hardware GPU if there is one), cpu, or a part of an adapter's name, such as llvmpipe
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub engine: String,

    /// Students per method, each with its own initial weights and order of digits
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub seeds: u64,

    /// Training digits of the students; the teacher has all of them
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub train_size: usize,

    /// Epochs of a student
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub epochs: usize,

    /// Epochs of the teacher
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub teacher_epochs: usize,

    /// Hidden units of a student; several layers as 64,32
    #[arg(
        long,
        value_name = "UNITS",
        value_delimiter = ',',
        default_value = "64"
    )]
    pub student: Vec<usize>,

    /// Hidden units of the teacher
    #[arg(
        long,
        value_name = "UNITS",
        value_delimiter = ',',
        default_value = "512,256"
    )]
    pub teacher: Vec<usize>,

    /// Warp the students' digits, too (the teacher's are always warped). Every method improves, labels only the most: with the other defaults it is then ahead
    #[arg(long)]
    pub warp: bool,

    /// Digits per training step
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub batch: usize,

    /// Temperature of student and teacher in the methods with a teacher
    #[arg(
        long,
        value_name = "T",
        default_value_t = 4.0,
        allow_negative_numbers = true
    )]
    pub temperature: f32,

    /// This method's similarity (KDR)
    #[arg(long, value_name = "NAME", default_value_t = Similarity::default(),
        help = format!("This method's similarity (KDR): {}", list(&Similarity::ALL)))]
    pub similarity: Similarity,

    /// This method's selection of the label's share (TSSR)
    #[arg(long, value_name = "NAME[:W]", default_value_t = Selection::default(),
        help = format!("This method's selection of the label's share (TSSR): {}", list(&Selection::ALL)))]
    pub selection: Selection,

    /// This method's soft part
    #[arg(long, value_name = "NAME[:NUMBER..]", default_value_t = Divergence::default(),
        help = format!("This method's soft part, with example numbers: {}", list(&of_classes())))]
    pub loss: Divergence,

    /// Temperature of the label's part of this method, 1 for Hinton's mix. The soft part then has the factor T^2 [default: T]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub hard_temperature: Option<f32>,

    /// Standardise this method's logits: the temperatures divide the z-scores of each row. For the soft parts soft-cross-entropy and forward-kl
    #[arg(long)]
    pub standardize: bool,

    /// Weight of this method's soft part, besides its share
    #[arg(
        long,
        value_name = "W",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub soft_weight: f32,

    /// Weight of the label's part of this method, besides its share
    #[arg(
        long,
        value_name = "W",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub hard_weight: f32,

    /// Weight of this method's z-loss, the square of the log-sum-exp of the student's logits
    #[arg(
        long,
        value_name = "W",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pub z_loss: f32,

    /// The label's share in plain distillation and in Hinton's mix, 0 to 1
    #[arg(
        long,
        value_name = "W",
        default_value_t = 0.5,
        allow_negative_numbers = true
    )]
    pub fixed: f32,

    /// File for the plot, as SVG [default: target/mnist.svg of the repository]
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/mnist.svg"), hide_default_value = true)]
    pub plot: PathBuf,
}

/// Work other than the example.
#[derive(Subcommand)]
pub enum Command {
    Study(StudyOptions),
}

impl Options {
    /// Refuses values with which no training can start.
    pub fn check(&self) -> Result<(), String> {
        let counts = [
            ("--seeds", self.seeds as usize),
            ("--train-size", self.train_size),
            ("--epochs", self.epochs),
            ("--teacher-epochs", self.teacher_epochs),
            ("--batch", self.batch),
        ];
        for (option, count) in counts {
            if count == 0 {
                return Err(format!("{option} is 0, expected at least 1"));
            }
        }
        for (option, units) in [("--student", &self.student), ("--teacher", &self.teacher)] {
            if units.contains(&0) {
                return Err(format!(
                    "{option} has a layer of 0 units, expected at least 1"
                ));
            }
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(format!(
                "--temperature is {}, expected a finite number above 0",
                self.temperature
            ));
        }
        if !(0.0..=1.0).contains(&self.fixed) {
            return Err(format!("--fixed is {}, expected 0 to 1", self.fixed));
        }
        check_writable(&self.plot)
    }

    /// Inputs, hidden units and outputs of a network with these hidden units.
    pub fn sizes(hidden: &[usize]) -> Vec<usize> {
        let (inputs, outputs) = (crate::data::PIXELS, crate::data::CLASSES);
        [&[inputs], hidden, &[outputs]].concat()
    }
}

/// The choices of an option, with example numbers.
/// The divergences from a teacher's row. Digits are not sampled by the student.
pub fn of_classes() -> Vec<Divergence> {
    let all = Divergence::ALL.into_iter();
    all.filter(|divergence| !divergence.is_sampled()).collect()
}

fn list<T: Display>(all: &[T]) -> String {
    let names: Vec<String> = all.iter().map(T::to_string).collect();
    names.join(", ")
}

/// Checks the plot's folder before the training.
fn check_writable(plot: &Path) -> Result<(), String> {
    let trouble = |e: std::io::Error| format!("--plot {}: {e}", plot.display());
    if let Some(folder) = plot
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(trouble)?;
    }
    let existed = plot.exists();
    std::fs::File::options()
        .append(true)
        .create(true)
        .open(plot)
        .map_err(trouble)?;
    if !existed {
        std::fs::remove_file(plot).map_err(trouble)?;
    }
    Ok(())
}
