//! The students: one per method and seed. The students of a seed train together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use ndarray::{Array2, ArrayView2};
use wgpu_distill::{Batch, Config, Engine, Error, Outputs, Progress, Summary};

use crate::batches::{self, Batches};
use crate::data::{CLASSES, Digits};
use crate::learner::Learner;
use crate::network::{Activations, Network};
use crate::random::{Purpose, Random};
use crate::schedule::Schedule;

/// Rows of a forward pass for measuring accuracy.
const TEST_ROWS: usize = 500;

/// A method of training a student.
pub struct Method {
    pub name: String,
    pub config: Config,
}

/// The data, the teacher and the settings that all students share.
pub struct School<'a> {
    pub engine: &'a Engine,
    pub train: &'a Digits,
    pub test: &'a TestSet,
    pub teacher: &'a Network,
    /// Inputs, hidden units and outputs of a student.
    pub sizes: Vec<usize>,
    pub schedule: Schedule,
    pub methods: Vec<Method>,
    /// Number of measurements of accuracy during training.
    pub points: u64,
}

/// Digits without warps, for measuring accuracy.
pub struct TestSet {
    images: Array2<f32>, // [len, PIXELS]
    labels: Vec<i32>,    // [len]
}

impl TestSet {
    /// All of `digits`.
    pub fn new(digits: &Digits) -> Self {
        let (images, labels) = batches::unwarped(digits, digits.len());
        Self { images, labels }
    }

    /// The fraction of the digits that `network` classifies correctly.
    pub fn accuracy(&self, network: &Network) -> f64 {
        self.accuracy_with(network, &mut network.activations(TEST_ROWS))
    }

    fn accuracy_with(&self, network: &Network, activations: &mut Activations) -> f64 {
        network.accuracy(self.images.view(), &self.labels, activations)
    }
}

/// A student's state after a number of steps. KDR, TSTR and TSSR are means over the steps since the previous point.
#[derive(Clone, Copy)]
pub struct Point {
    pub step: u64,
    pub accuracy: f64,
    pub kdr: f64,
    pub tstr: f64,
    pub tssr: f64,
}

/// The course of one student's training.
#[derive(Clone, Default)]
pub struct Course {
    pub points: Vec<Point>,
    /// Time of this student alone: both passes, the engine, Adam.
    pub time: Duration,
    /// The engine's part of that time.
    pub engine_time: Duration,
}

/// A student during training.
pub struct Student {
    pub learner: Learner,
    course: Course,
    means: Means,
}

impl Student {
    /// A student before its first step, for batches of up to `rows` rows.
    pub fn new(network: Network, rows: usize) -> Self {
        Self {
            learner: Learner::new(network, rows),
            course: Course::default(),
            means: Means::default(),
        }
    }

    /// One step: logits of student and teacher in, gradient out.
    pub fn step(
        &mut self,
        engine: &Engine,
        config: &Config,
        progress: Progress,
        material: &Material,
        learning_rate: f32,
    ) -> Result<(), Error> {
        let start = Instant::now();
        let student_logits = self.learner.logits(material.images);
        let batch = Batch::new(
            student_logits,
            material.teacher_logits,
            material.labels,
            CLASSES,
        );
        let engine_start = Instant::now();
        let distillation = engine.run(config, progress, &batch, Outputs::GRADIENT)?;
        self.course.engine_time += engine_start.elapsed();
        self.means.add(progress, &distillation.summary);
        let gradient = distillation.into_grad_student_logits();
        self.learner
            .learn(material.images, &gradient, learning_rate);
        self.course.time += start.elapsed();
        Ok(())
    }
}

/// A step's digits.
pub struct Material<'a> {
    pub images: ArrayView2<'a, f32>, // [rows, inputs]
    pub labels: &'a [i32],           // [rows]
    pub teacher_logits: &'a [f32],   // [rows, CLASSES]
}

/// Running sums over the steps since the last point.
#[derive(Default)]
struct Means {
    steps: f64,
    kdr: f64,
    tstr: f64,
    tssr: f64,
}

impl Means {
    fn add(&mut self, progress: Progress, summary: &Summary) {
        self.steps += 1.0;
        self.kdr += summary.kdr as f64;
        self.tstr += progress.tstr() as f64;
        self.tssr += summary.tssr as f64;
    }

    fn take(&mut self, step: u64, accuracy: f64) -> Point {
        let sums = std::mem::take(self);
        Point {
            step,
            accuracy,
            kdr: sums.kdr / sums.steps,
            tstr: sums.tstr / sums.steps,
            tssr: sums.tssr / sums.steps,
        }
    }
}

impl School<'_> {
    /// Trains the students of the seeds `1..=seeds`. Returns one course per method for each seed.
    pub fn train(&self, seeds: u64, bar: &ProgressBar) -> Result<Vec<Vec<Course>>, Error> {
        // Digits that are not warped are the same in every epoch, and so are the teacher's logits.
        let known = (!self.schedule.warp).then(|| {
            let (images, _) = batches::unwarped(self.train, self.schedule.digits);
            self.teacher.all_logits(images.view(), TEST_ROWS)
        });
        let threads = thread::available_parallelism().map_or(1, |n| n.get());
        each_seed(seeds, threads, |seed| {
            self.train_seed(seed, known.as_ref(), bar)
        })
    }

    /// Trains one student per method.
    ///
    /// All students start from the same weights and see the same digits at every step, with the same warps if any.
    /// The teacher's logits are `known` or computed once per step for all. Only the gradient differs.
    fn train_seed(
        &self,
        seed: u64,
        known: Option<&Array2<f32>>,
        bar: &ProgressBar,
    ) -> Result<Vec<Course>, Error> {
        let schedule = &self.schedule;
        let network = Network::new(&self.sizes, &mut Random::new(seed, Purpose::Weights));
        let mut students: Vec<Student> = self
            .methods
            .iter()
            .map(|_| Student::new(network.clone(), schedule.batch))
            .collect();
        let mut teacher_activations = self.teacher.activations(schedule.batch);
        let mut test_activations = network.activations(TEST_ROWS);
        let random = Random::new(seed, Purpose::Batches);
        let mut batches = Batches::new(self.train, schedule, random);
        let mut teacher_logits = Vec::new();
        let total = schedule.steps();
        for step in 0..total {
            let progress = Progress::new(step, total);
            batches.advance();
            teacher_logits.clear();
            match known {
                Some(known) => rows(known, batches.indices(), &mut teacher_logits),
                None => {
                    self.teacher
                        .forward(batches.images(), &mut teacher_activations);
                    teacher_logits.extend_from_slice(teacher_activations.logits());
                }
            }
            let material = Material {
                images: batches.images(),
                labels: batches.labels(),
                teacher_logits: &teacher_logits,
            };
            let rate = schedule.rate(progress);
            for (student, method) in students.iter_mut().zip(&self.methods) {
                student.step(self.engine, &method.config, progress, &material, rate)?;
                if self.is_point(step, total) {
                    let network = &student.learner.network;
                    let accuracy = self.test.accuracy_with(network, &mut test_activations);
                    let point = student.means.take(step + 1, accuracy);
                    student.course.points.push(point);
                }
            }
            bar.inc(1);
        }
        Ok(students.into_iter().map(|student| student.course).collect())
    }

    /// Returns true if accuracy is measured after this step: `points` times at equal distances, and after the last step.
    fn is_point(&self, step: u64, total: u64) -> bool {
        step * self.points / total != (step + 1) * self.points / total
    }
}

/// Appends the rows of `matrix` at `indices` to `out`.
pub fn rows(matrix: &Array2<f32>, indices: &[usize], out: &mut Vec<f32>) {
    for &index in indices {
        out.extend(matrix.row(index));
    }
}

/// The results of `work` for the seeds `1..=seeds`, in their order. Each of the threads takes a seed at a time.
pub fn each_seed<T: Send, E: Send>(
    seeds: u64,
    threads: usize,
    work: impl Fn(u64) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicU64::new(1);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > seeds {
                return Ok(done);
            }
            done.push((seed, work(seed)?));
        }
    };
    let mut results = Vec::new();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..seeds.min(threads as u64))
            .map(|_| scope.spawn(worker))
            .collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => results.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })?;
    results.sort_by_key(|(seed, _)| *seed);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}
