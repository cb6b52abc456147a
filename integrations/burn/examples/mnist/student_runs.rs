//! Training of all students: one for each method and seed.

use std::error::Error;
use std::sync::Arc;

use burn::tensor::Device;

use crate::data::Digits;
use crate::learner::{self, Schedule};
use crate::networks::{Network, NetworkConfig};
use crate::students::{Course, Method};

/// The students to train. They share everything but method and seed.
pub struct StudentRuns<'a> {
    pub device: &'a Device,
    pub train: &'a Arc<Digits>,
    pub test: &'a Arc<Digits>,
    pub teacher: &'a Network,
    pub student: NetworkConfig,
    pub schedule: Schedule,
    pub methods: Vec<Method>,
}

impl StudentRuns<'_> {
    /// For each seed, one course per method. Students of a seed start from the same weights and see the digits in the same order.
    pub fn train_all(&self, seeds: u64) -> Result<Vec<Vec<Course>>, Box<dyn Error>> {
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
                        learner::distilled(device, network, teacher, loss, train, test, &schedule)?
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
