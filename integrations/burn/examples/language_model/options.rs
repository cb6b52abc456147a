//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::devices::On;
use crate::students::Method;

/// Trains a small language model on a novel and distils it into smaller ones by four methods.
#[derive(Parser)]
#[command(name = "language_model")]
pub struct Options {
    /// Device to train on
    #[arg(long, value_enum, default_value_t = On::Auto)]
    pub on: On,

    /// Text with paragraphs between empty lines; the last tenth of them is held out [default: the novel beside the example]
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/language_model/persuasion.txt"), hide_default_value = true)]
    pub text: PathBuf,

    /// Students per method, each with its own initial weights and order of the text
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub seeds: u64,

    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Methods to train students by
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Method::ALL)]
    pub methods: Vec<Method>,

    /// Optimiser steps of a student
    #[arg(long, value_name = "N", default_value_t = 600)]
    pub steps: usize,

    /// Optimiser steps of the teacher
    #[arg(long, value_name = "N", default_value_t = 900)]
    pub teacher_steps: usize,

    /// Times that the held-out text is measured in a training; each also writes a checkpoint
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub evaluations: usize,

    /// Sequences in a micro-batch
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub batch: usize,

    /// Micro-batches in an optimiser step
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub accumulation: usize,

    /// The most tokens in a sequence
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub context: usize,

    /// Tokens that the models distinguish
    #[arg(long, value_name = "N", default_value_t = 3000)]
    pub vocabulary: usize,

    /// The learning rate after the warm-up
    #[arg(long, value_name = "RATE", default_value_t = 3e-3)]
    pub learning_rate: f64,

    /// Temperature of student and teacher in the soft part of Hinton's mix and of this method; the label has temperature 1
    #[arg(long, value_name = "T", default_value_t = 2.0)]
    pub temperature: f32,

    /// Continue from the checkpoints in the folder; the other options must be those of the run that wrote them
    #[arg(long)]
    pub resume: bool,

    /// Folder for checkpoints, curves, table and plot [default: target/language-model of the repository]
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/language-model"), hide_default_value = true)]
    pub folder: PathBuf,
}

impl Options {
    /// The settings that a resumed run must share with the run that wrote its checkpoints.
    pub fn settings(&self) -> String {
        let (text, vocabulary, context) = (self.text.display(), self.vocabulary, self.context);
        format!(
            "text {text}, vocabulary {vocabulary}, context {context}, seed {}, steps {}, teacher steps {}, evaluations {}, batch {}, accumulation {}, learning rate {}, temperature {}",
            self.seed,
            self.steps,
            self.teacher_steps,
            self.evaluations,
            self.batch,
            self.accumulation,
            self.learning_rate,
            self.temperature,
        )
    }

    /// Refuses values with which no training can start.
    pub fn check(&self) -> Result<(), String> {
        for (option, count) in [
            ("--seeds", self.seeds as usize),
            ("--steps", self.steps),
            ("--teacher-steps", self.teacher_steps),
            ("--evaluations", self.evaluations),
            ("--batch", self.batch),
            ("--accumulation", self.accumulation),
            ("--context", self.context),
        ] {
            if count == 0 {
                return Err(format!("{option} is 0, expected at least 1"));
            }
        }
        // The tokens of single bytes, padding and the break between paragraphs.
        if self.vocabulary < 258 {
            let count = self.vocabulary;
            return Err(format!("--vocabulary is {count}, expected at least 258"));
        }
        for (option, value) in [
            ("--learning-rate", self.learning_rate),
            ("--temperature", f64::from(self.temperature)),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!(
                    "{option} is {value}, expected a finite number above 0"
                ));
            }
        }
        Ok(())
    }
}
