//! The students: one for each method and seed.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use burn::tensor::Device;
use burn_distill::DistillationLossConfig;

use crate::data::Digits;
use crate::learner::{self, Schedule};
use crate::networks::{Network, NetworkConfig};

/// One way to teach a student; without a loss of ours, Burn's cross-entropy.
pub struct Method {
    pub name: String,
    pub loss: Option<DistillationLossConfig>,
}

/// What all students share.
pub struct School<'a> {
    pub device: &'a Device,
    pub train: &'a Arc<Digits>,
    pub test: &'a Arc<Digits>,
    pub teacher: &'a Network,
    pub student: NetworkConfig,
    pub schedule: Schedule,
    pub methods: Vec<Method>,
}

/// Where a student stands after an epoch; KDR, TSTR and TSSR are means over its steps.
#[derive(Clone, Copy)]
pub struct Point {
    pub step: u64,
    pub accuracy: f64,
    pub kdr: f64,
    pub tstr: f64,
    pub tssr: f64,
    /// On the test digits, where there is a teacher to agree with.
    pub agreement: Option<f64>,
}

/// The course of one student's training.
#[derive(Clone)]
pub struct Course {
    pub points: Vec<Point>,
    pub time: Duration,
}

impl School<'_> {
    /// For each seed, one course for each method. Students of a seed start from the same weights and see the digits in the same order.
    pub fn train(&self, seeds: u64) -> Result<Vec<Vec<Course>>, Box<dyn Error>> {
        let mut all = Vec::new();
        for seed in 0..seeds {
            let schedule = Schedule {
                seed: self.schedule.seed + seed,
                ..self.schedule.clone()
            };
            let mut courses = Vec::new();
            for method in &self.methods {
                self.device.seed(1000 + schedule.seed);
                let network = self.student.init(&self.device.clone().autodiff());
                let (device, train, test) = (self.device, self.train, self.test);
                let course = match &method.loss {
                    None => learner::classifier(device, network, train, test, &schedule)?.1,
                    Some(loss) => {
                        let teacher = self.teacher;
                        learner::pupil(device, network, teacher, loss, train, test, &schedule)?
                    }
                };
                eprintln!("seed {}, {}: done", schedule.seed, method.name);
                courses.push(course);
            }
            all.push(courses);
        }
        Ok(all)
    }
}
