//! The loss from hidden states (fused linear distillation) beside the plain way on flex: time and peak memory of a step.
//!
//! Both compute loss, gradient of the hidden states and gradient of the weights from the same tensors and take turns. The plain way holds
//! all logits: a product for each of student and teacher, the loss of logits, and the products of Burn's autodiff.
//!
//! `cargo run --release -p burn-distill --example linear [rows hidden classes [MiB]]`

#[path = "../../../tests/allocator/mod.rs"]
mod allocator;
#[path = "../tests/inputs/mod.rs"]
mod inputs;

use std::time::Instant;

use allocator::peak_of;
use burn::tensor::{Device, Int, Tensor};
use burn_distill::{
    DistillationLoss, DistillationLossConfig, LinearDistillationBatch, LinearDistillationLoss,
    LinearLogits, Progress,
};
use inputs::{Random, difference, floats, labels, tensor};

const RUNS: usize = 3;
const MIB: f64 = 1048576.0;

/// The tensors of a step.
struct Step {
    states: Tensor<2>,
    weights: Tensor<2>,
    teacher_states: Tensor<2>,
    teacher_weights: Tensor<2>,
    labels: Tensor<1, Int>,
}

impl Step {
    fn new(rows: usize, hidden: usize, classes: usize) -> Self {
        let device = &Device::flex();
        let scale = 2.0 / (hidden as f32).sqrt();
        let matrix = |seed: u64, rows: usize, scale: f32| {
            let values = Random(seed).values(rows * hidden, scale);
            tensor(values, [rows, hidden], device)
        };
        Self {
            states: Tensor::from_inner(matrix(1, rows, 2.0)).require_grad(),
            weights: Tensor::from_inner(matrix(2, classes, scale)).require_grad(),
            teacher_states: matrix(3, rows, 2.0),
            teacher_weights: matrix(4, classes, scale),
            labels: labels(rows, classes, device),
        }
    }

    fn batch(&self) -> LinearDistillationBatch<'static, 2, 1> {
        let student = LinearLogits::new(self.states.clone(), self.weights.clone());
        let teacher = LinearLogits::new(self.teacher_states.clone(), self.teacher_weights.clone());
        LinearDistillationBatch::new(student, teacher, self.labels.clone())
    }

    fn in_chunks(&self, loss: &LinearDistillationLoss, progress: Progress) -> Tensor<1> {
        loss.forward_batch(self.batch(), progress).loss
    }

    fn plain(&self, loss: &DistillationLoss, progress: Progress) -> Tensor<1> {
        let logits = |states: &Tensor<2>, weights: &Tensor<2>| {
            states.clone().matmul(weights.clone().transpose())
        };
        let student = logits(&self.states, &self.weights);
        let teacher = logits(&self.teacher_states, &self.teacher_weights);
        loss.forward(student, teacher, self.labels.clone(), progress)
    }

    /// The gradients of hidden states and weights.
    fn gradients(&self, loss: Tensor<1>) -> [Tensor<2>; 2] {
        let gradients = loss.backward();
        [&self.states, &self.weights].map(|t| t.grad(&gradients).expect("tracked"))
    }
}

/// The processor time of this process, in ms, where the system tells it (Linux). Other work on the machine does not count.
fn processor_ms() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    // Of the program and of the kernel for it, in hundredths of a second.
    Some(10.0 * (ticks.next()?.ok()? + ticks.next()?.ok()?))
}

/// The cost of the steps of one way.
#[derive(Default)]
struct Cost {
    /// Wall-clock time of each, ms.
    times: Vec<f64>,
    /// Processor time of all, ms.
    processor: Option<f64>,
    /// The most bytes besides the inputs.
    peak: usize,
}

impl Cost {
    /// Takes a step and adds what it costs.
    fn add<R>(&mut self, step: impl FnOnce() -> R) -> R {
        let (start, busy) = (Instant::now(), processor_ms());
        let (done, peak) = peak_of(step);
        self.times.push(start.elapsed().as_secs_f64() * 1e3);
        let own = busy
            .zip(processor_ms())
            .map(|(before, after)| after - before);
        self.processor = own.map(|own| own + self.processor.unwrap_or_default());
        self.peak = self.peak.max(peak);
        done
    }

    fn print(mut self, name: &str) {
        self.times.sort_by(f64::total_cmp);
        let median = self.times[RUNS / 2];
        let processor = self
            .processor
            .map(|all| format!("{:.0}", all / RUNS as f64));
        let processor = processor.unwrap_or_else(|| "not reported".to_owned());
        println!(
            "| {name} | {median:.0} | {processor} | {:.1} |",
            self.peak as f64 / MIB
        );
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .map(|word| word.parse().expect("rows, hidden, classes, MiB"))
        .collect();
    let (rows, hidden, classes) = match numbers[..] {
        [rows, hidden, classes, ..] => (rows, hidden, classes),
        _ => (2048, 256, 32_000),
    };
    let plain = DistillationLossConfig::new().init();
    let mut loss = LinearDistillationLoss::from(plain.clone());
    if let Some(mib) = numbers.get(3) {
        loss = loss.with_memory_budget(mib << 20);
    }
    let progress = Progress::new(3, 10);
    let step = Step::new(rows, hidden, classes);
    println!(
        "{rows} rows, hidden {hidden}, {classes} classes, f32, chunks of {} rows",
        loss.chunk_rows(&step.batch())
    );
    let (mut chunks, mut whole) = (Cost::default(), Cost::default());
    for run in 0..RUNS {
        let got = chunks.add(|| step.gradients(step.in_chunks(&loss, progress)));
        let want = whole.add(|| step.gradients(step.plain(&plain, progress)));
        if run == 0 {
            for (want, got) in want.into_iter().zip(got) {
                let apart = difference(&floats(want), &floats(got));
                assert!(apart < 1e-5, "the gradients differ by {apart:e}");
            }
        }
    }
    println!(
        "| | ms, median of {RUNS} | processor ms, mean | peak memory besides the inputs, MiB |"
    );
    println!("|---|--:|--:|--:|");
    chunks.print("hidden states, in chunks");
    whole.print("the plain way");
}
