//! The course of a training, read from the files that Burn's learner wrote.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use burn::train::logger::{FileMetricLogger, MetricLogger};
use burn::train::metric::NumericEntry;
use burn::train::metric::store::Split;

use crate::progress;
use crate::training::Schedule;

/// A model after an epoch. KDR and TSSR are means over the epoch's batches, `None` without a teacher.
#[derive(Clone, Copy)]
pub struct Point {
    pub step: usize,
    /// Cross-entropy with the held-out tokens, in nats a token.
    pub held_out: f64,
    pub kdr: Option<f64>,
    pub tssr: Option<f64>,
    /// The share of the held-out tokens for which student and teacher choose the same next token.
    pub agreement: Option<f64>,
}

/// The course of one training.
#[derive(Clone)]
pub struct Course {
    pub points: Vec<Point>,
    pub time: Duration,
}

impl Course {
    /// The course of a finished training.
    pub fn read(folder: &Path, schedule: &Schedule) -> Result<Self, Box<dyn Error>> {
        let mut files = FileMetricLogger::new(folder);
        let mut mean = |name: &str, epoch: usize, split: Split| {
            let entries = files.read_numeric(name, epoch, &split).ok()?;
            entries.iter().find_map(|entry| match entry {
                NumericEntry::Final(value) => Some(*value),
                _ => None,
            })
        };
        let mut points = Vec::new();
        for epoch in 1..=schedule.epochs {
            let perplexity = mean("Perplexity", epoch, Split::Valid);
            points.push(Point {
                step: epoch * schedule.sizes.steps_per_epoch,
                held_out: perplexity
                    .ok_or_else(|| format!("{}: no epoch {epoch}", folder.display()))?
                    .ln(),
                kdr: mean("KDR", epoch, Split::Train),
                tssr: mean("TSSR", epoch, Split::Train),
                agreement: mean("Agreement", epoch, Split::Valid).map(|percent| percent / 100.0),
            });
        }
        Ok(Self {
            points,
            time: progress::seconds(folder, schedule.epochs)?,
        })
    }

    /// The held-out nats a token at the end.
    pub fn held_out(&self) -> f64 {
        self.points.last().map_or(f64::NAN, |point| point.held_out)
    }
}
