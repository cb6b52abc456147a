//! The training of one seed: its teachers, then every student in every condition.

use indicatif::ProgressBar;
use ndarray::Array2;
use wgpu_distill::{Config, Engine, Error, Progress};

use super::design::{Arm, Design, Teacher};
use super::digits::{Exam, INPUTS, halved, mislabelled};
use crate::batches;
use crate::data::{CLASSES, Digits, Mnist, PIXELS};
use crate::network::Network;
use crate::random::{Purpose, Random};
use crate::schedule::Schedule;
use crate::students::{Material, Student, rows};
use crate::train;

/// Rows of a forward pass for measuring accuracy.
const EXAM_ROWS: usize = 500;
/// The learning rate of a teacher's first step.
const TEACHER_RATE: f32 = 2e-3;

/// Accuracies on the validation digits and on the test digits, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracy {
    pub validation: f64,
    pub test: f64,
}

/// The accuracies of one seed.
pub struct Outcome {
    pub teachers: Vec<Accuracy>,
    /// `[cells][arms]`
    pub students: Vec<Vec<Accuracy>>,
}

/// Engine, design, methods and digits, for all seeds.
pub struct Study<'a> {
    pub engine: &'a Engine,
    pub design: &'a Design,
    pub arms: &'a [Arm],
    train: Digits,
    validation: Digits,
    test: Digits,
    validation_exam: Exam,
    test_exam: Exam,
}

impl<'a> Study<'a> {
    /// Splits the training digits: the last ones are the validation digits.
    pub fn new(engine: &'a Engine, design: &'a Design, arms: &'a [Arm], digits: &Mnist) -> Self {
        let split = digits.train.len() - design.validation;
        let part = |from, to| digits.train.select(&(from..to).collect::<Vec<_>>());
        let all: Vec<usize> = (0..digits.test.len()).collect();
        let (validation, test) = (part(split, digits.train.len()), digits.test.select(&all));
        Self {
            engine,
            design,
            arms,
            train: part(0, split),
            validation_exam: Exam::new(&validation),
            test_exam: Exam::new(&test),
            validation,
            test,
        }
    }

    /// The number of students of a seed.
    pub fn students(&self) -> u64 {
        let courses = self.design.sizes.len() * self.design.wrong.len();
        (courses * self.distinct().len()) as u64
    }

    /// Trains the seed's teachers and students. Seeds differ in the teachers, in the choice and order of the digits, in the wrong labels
    /// and in the initial weights.
    pub fn train_seed(&self, seed: u64, bar: &ProgressBar) -> Result<Outcome, Error> {
        let design = self.design;
        let mut order: Vec<usize> = (0..self.train.len()).collect();
        Random::new(seed, Purpose::Choice).shuffle(&mut order);
        let train = self.train.select(&order);
        let mut teachers = Vec::new();
        let mut teacher_logits = Vec::new();
        let (images, _) = batches::unwarped(&train, train.len());
        for (index, teacher) in design.teachers.iter().enumerate() {
            // Seeds of their own, so that teachers and students have different random numbers.
            let network = self.teacher(teacher, &train, 1000 * (index as u64 + 1) + seed)?;
            teachers.push(Accuracy {
                validation: teacher_accuracy(&network, &self.validation),
                test: teacher_accuracy(&network, &self.test),
            });
            teacher_logits.push(network.all_logits(images.view(), EXAM_ROWS));
        }

        let images = halved(&train);
        let cells = design.cells();
        let distinct = self.distinct();
        let blank = Accuracy {
            validation: f64::NAN,
            test: f64::NAN,
        };
        let mut students = vec![vec![blank; self.arms.len()]; cells.len()];
        for (wrong, &share) in design.wrong.iter().enumerate() {
            let mut random = Random::new(seed, Purpose::WrongLabels);
            let labels = mislabelled(&train.labels(), share, &mut random);
            for (size, &digits) in design.sizes.iter().enumerate() {
                for (teacher, config) in &distinct {
                    let course = Course {
                        images: &images,
                        labels: &labels,
                        teacher_logits: &teacher_logits[teacher.unwrap_or(0)],
                        digits,
                    };
                    let accuracy = self.student(seed, &course, config)?;
                    bar.inc(1);
                    for (cell, students) in cells.iter().zip(&mut students) {
                        if (cell.size, cell.wrong) != (size, wrong) {
                            continue;
                        }
                        let temperature = design.temperatures[cell.temperature];
                        for (arm, student) in self.arms.iter().zip(students) {
                            let of_arm = arm.has_teacher().then_some(cell.teacher);
                            if (of_arm, arm.config(temperature)) == (*teacher, *config) {
                                *student = accuracy;
                            }
                        }
                    }
                }
            }
        }
        Ok(Outcome { teachers, students })
    }

    /// The students that differ: their teacher, if it has an influence, and their loss.
    fn distinct(&self) -> Vec<(Option<usize>, Config)> {
        let mut distinct = Vec::new();
        for cell in self.design.cells() {
            for arm in self.arms {
                let teacher = arm.has_teacher().then_some(cell.teacher);
                let config = arm.config(self.design.temperatures[cell.temperature]);
                if !distinct.contains(&(teacher, config)) {
                    distinct.push((teacher, config));
                }
            }
        }
        distinct
    }

    fn teacher(&self, teacher: &Teacher, train: &Digits, seed: u64) -> Result<Network, Error> {
        let mut random = Random::new(seed, Purpose::WrongLabels);
        let labels = mislabelled(&train.labels(), teacher.wrong, &mut random);
        let schedule = Schedule {
            digits: teacher.digits.min(train.len()),
            epochs: teacher.epochs,
            batch: self.design.batch,
            warp: teacher.warp,
            learning_rate: TEACHER_RATE,
        };
        let sizes = [&[PIXELS], &teacher.hidden[..], &[CLASSES]].concat();
        let bar = ProgressBar::hidden();
        let digits = train.relabelled(&labels);
        train::teacher(self.engine, &digits, &sizes, &schedule, seed, &bar)
    }

    /// Trains a student and measures it. All students of a seed have the same initial weights, and of a course the same batches.
    fn student(&self, seed: u64, course: &Course, config: &Config) -> Result<Accuracy, Error> {
        let design = self.design;
        let sizes = [&[INPUTS], &design.hidden[..], &[CLASSES]].concat();
        let network = Network::new(&sizes, &mut Random::new(seed, Purpose::Weights));
        let mut student = Student::new(network, design.batch);
        let mut random = Random::new(seed, Purpose::Batches);
        let mut order: Vec<usize> = (0..course.digits).collect();
        let mut next = order.len();
        let (mut images, mut labels, mut teacher_logits) = (Vec::new(), Vec::new(), Vec::new());
        for step in 0..design.steps {
            // An incomplete batch at the end of an epoch is left out.
            if next + design.batch > order.len() {
                random.shuffle(&mut order);
                next = 0;
            }
            let indices = &order[next..order.len().min(next + design.batch)];
            next += design.batch;
            images.clear();
            rows(course.images, indices, &mut images);
            teacher_logits.clear();
            rows(course.teacher_logits, indices, &mut teacher_logits);
            labels.clear();
            labels.extend(indices.iter().map(|&index| course.labels[index]));
            let shape = (indices.len(), INPUTS);
            let material = Material {
                images: ndarray::ArrayView2::from_shape(shape, &images).expect("whole rows"),
                labels: &labels,
                teacher_logits: &teacher_logits,
            };
            let progress = Progress::new(step, design.steps);
            let rate = design.learning_rate * (1.0 - progress.tstr());
            student.step(self.engine, config, progress, &material, rate)?;
        }
        let network = &student.learner.network;
        let accuracy = |exam: &Exam| {
            let mut activations = network.activations(EXAM_ROWS);
            100.0 * network.accuracy(exam.images.view(), &exam.labels, &mut activations)
        };
        Ok(Accuracy {
            validation: accuracy(&self.validation_exam),
            test: accuracy(&self.test_exam),
        })
    }
}

/// The digits of a student.
struct Course<'a> {
    images: &'a Array2<f32>,         // [len, INPUTS]
    labels: &'a [i32],               // [len]
    teacher_logits: &'a Array2<f32>, // [len, CLASSES]
    /// The first ones are used.
    digits: usize,
}

/// The accuracy of a network with whole images as inputs.
fn teacher_accuracy(network: &Network, digits: &Digits) -> f64 {
    let (images, labels) = batches::unwarped(digits, digits.len());
    100.0 * network.accuracy(images.view(), &labels, &mut network.activations(EXAM_ROWS))
}
