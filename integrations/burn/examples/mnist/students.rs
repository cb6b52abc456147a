//! A student's method and the course of its training.

use std::time::Duration;

use burn_distill::DistillationLossConfig;

/// A method of training a student. Without a distillation loss it uses Burn's cross-entropy.
pub struct Method {
    pub name: String,
    pub loss: Option<DistillationLossConfig>,
}

/// A student after an epoch. KDR, TSTR and TSSR are means over the steps of the epoch.
#[derive(Clone, Copy)]
pub struct Point {
    pub step: u64,
    pub accuracy: f64,
    pub kdr: f64,
    pub tstr: f64,
    pub tssr: f64,
    /// The share of the test digits on which student and teacher agree; `None` without a teacher.
    pub agreement: Option<f64>,
}

/// The course of one student's training.
#[derive(Clone)]
pub struct Course {
    pub points: Vec<Point>,
    pub time: Duration,
}
