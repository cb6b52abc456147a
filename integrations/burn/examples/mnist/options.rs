//! The command line.

use std::path::PathBuf;

use burn_distill::Divergence;
use clap::Parser;

use crate::devices::On;

/// Trains a convolutional teacher on MNIST with Burn and distils it into small convolutional students by four methods.
#[derive(Parser)]
#[command(name = "mnist")]
pub struct Options {
    /// Train students with Burn's cross-entropy alone, without this crate
    #[arg(long)]
    pub plain: bool,

    /// Device to train on
    #[arg(long, value_enum, default_value_t = On::Auto)]
    pub on: On,

    /// Folder with the four IDX files of MNIST, gzipped or not [default: the repository's data/]
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data"), hide_default_value = true)]
    pub data: PathBuf,

    /// Students per method, each with its own initial weights and order of digits
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub seeds: u64,

    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Training digits of the students; the teacher has all of them
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub train_size: usize,

    /// Epochs of a student
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub epochs: usize,

    /// Epochs of the teacher
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub teacher_epochs: usize,

    /// Digits per training step
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,

    /// Temperature of student and teacher in the soft part of the three methods with a teacher; the label has temperature 1
    #[arg(long, value_name = "T", default_value_t = 4.0)]
    pub temperature: f32,

    /// Soft part of the three methods with a teacher, for example reverse-kl or jsd:0.5
    #[arg(long, value_name = "NAME", default_value_t = Divergence::SoftCrossEntropy)]
    pub loss: Divergence,

    /// File for the plot, as SVG [default: target/mnist-burn.svg of the repository]
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/mnist-burn.svg"), hide_default_value = true)]
    pub plot: PathBuf,
}

impl Options {
    /// Refuses values with which no training can start.
    pub fn check(&self) -> Result<(), String> {
        for (option, count) in [
            ("--seeds", self.seeds as usize),
            ("--train-size", self.train_size),
            ("--epochs", self.epochs),
            ("--teacher-epochs", self.teacher_epochs),
            ("--batch", self.batch),
        ] {
            if count == 0 {
                return Err(format!("{option} is 0, expected at least 1"));
            }
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            let t = self.temperature;
            return Err(format!(
                "--temperature is {t}, expected a finite number above 0"
            ));
        }
        Ok(())
    }
}
