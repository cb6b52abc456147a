//! The loss from hidden states (fused linear distillation) beside the plain way: time and peak memory.
//!
//! The plain way holds all logits: a product for each of student and teacher, the loss, two products for the gradients. Its products are
//! those of the same crate, cut into as many tasks on as many threads.
//!
//! `cargo run --release --no-default-features --features linear --example linear [rows hidden classes [MiB [runs]]]`

#[path = "../tests/allocator/mod.rs"]
mod allocator;

use std::time::{Duration, Instant};

use allocator::peak_of;
use rayon::prelude::*;
use wgpu_distill::cpu::Cpu;
use wgpu_distill::linear::{FusedLinear, Linear, LinearBatch, LinearOutputs, Teacher};
use wgpu_distill::{Batch, Config, Error, GradientMut, Progress};

/// Classes of a tile.
const TILE: usize = 512;

/// Parts of the sum over the classes.
const PARTS: usize = 16;

/// Pointer to a matrix of which each task writes other elements.
#[derive(Clone, Copy)]
struct Target(*mut f32);
// SAFETY: tasks write disjoint tiles.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    fn at(&self, element: usize) -> *mut f32 {
        self.0.wrapping_add(element)
    }
}

/// `[rows, classes]` logits.
fn logits(linear: &Linear<'_>, out: &mut [f32]) {
    let (hidden, classes) = (linear.hidden, linear.classes);
    let rows = out.len() / classes;
    let target = Target(out.as_mut_ptr());
    (0..classes.div_ceil(TILE))
        .into_par_iter()
        .for_each(|tile| {
            let class = tile * TILE;
            let columns = TILE.min(classes - class);
            let weights = &linear.weights[class * hidden..];
            // SAFETY: rows of `hidden` elements in both operands; this task has the columns from `class` of the result.
            unsafe {
                matrixmultiply::sgemm(
                    rows,
                    hidden,
                    columns,
                    1.0,
                    linear.hidden_states.as_ptr(),
                    hidden as isize,
                    1,
                    weights.as_ptr(),
                    1,
                    hidden as isize,
                    0.0,
                    target.at(class),
                    classes as isize,
                    1,
                );
            }
        });
}

/// `[rows, hidden]` and `[classes, hidden]` from the gradient of the logits.
fn gradients(
    linear: &Linear<'_>,
    grad: &[f32],
    parts: &mut [f32],
    states: &mut [f32],
    weights: &mut [f32],
) {
    let (hidden, classes) = (linear.hidden, linear.classes);
    let rows = grad.len() / classes;
    let length = classes.div_ceil(PARTS);
    let tasks = parts.par_chunks_mut(states.len()).enumerate();
    tasks.for_each(|(part, out)| {
        let class = part * length;
        let columns = length.min(classes.saturating_sub(class));
        // SAFETY: `columns` classes from `class` are in both operands; the result is this task's.
        unsafe {
            matrixmultiply::sgemm(
                rows,
                columns,
                hidden,
                1.0,
                grad.as_ptr().wrapping_add(class),
                classes as isize,
                1,
                linear.weights.as_ptr().wrapping_add(class * hidden),
                hidden as isize,
                1,
                0.0,
                out.as_mut_ptr(),
                hidden as isize,
                1,
            );
        }
    });
    states.fill(0.0);
    for part in parts.chunks_exact(states.len()) {
        states.iter_mut().zip(part).for_each(|(s, p)| *s += p);
    }
    let tasks = weights.par_chunks_mut(TILE * hidden).enumerate();
    tasks.for_each(|(tile, out)| {
        // SAFETY: the classes of `out` are columns of the gradient; the result is this task's.
        unsafe {
            matrixmultiply::sgemm(
                out.len() / hidden,
                rows,
                hidden,
                1.0,
                grad.as_ptr().wrapping_add(tile * TILE),
                1,
                classes as isize,
                linear.hidden_states.as_ptr(),
                hidden as isize,
                1,
                0.0,
                out.as_mut_ptr(),
                hidden as isize,
                1,
            );
        }
    });
}

/// The matrices of the plain way.
struct Matrices {
    student: Vec<f32>,
    teacher: Vec<f32>,
    gradient: Vec<f32>,
    parts: Vec<f32>,
}

impl Matrices {
    fn new(rows: usize, hidden: usize, classes: usize) -> Self {
        let matrix = || vec![0.0f32; rows * classes];
        Self {
            student: matrix(),
            teacher: matrix(),
            gradient: matrix(),
            parts: vec![0.0; PARTS * rows * hidden],
        }
    }
}

/// Uniform numbers in [-scale, scale).
fn numbers(n: usize, scale: f32, mut state: u64) -> Vec<f32> {
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| scale * next()).collect()
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration, usize) {
    let start = Instant::now();
    let (done, peak) = peak_of(work);
    (done, start.elapsed(), peak)
}

fn main() -> Result<(), Error> {
    let given: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    // 0 MiB: the default.
    let mut sizes = [1024, 256, 32_000, 0, 9];
    sizes
        .iter_mut()
        .zip(given)
        .for_each(|(size, given)| *size = given);
    let [rows, hidden, classes, budget, runs] = sizes;
    let cpu = Cpu::new();
    println!(
        "{}; {rows} rows, hidden size {hidden}, {classes} classes",
        cpu.describe()
    );
    let states = [1, 2].map(|seed| numbers(rows * hidden, 1.0, seed));
    let weights = [3, 4].map(|seed| numbers(classes * hidden, 3.0 / (hidden as f32).sqrt(), seed));
    let labels: Vec<i32> = (0..rows).map(|row| (row * 31 % classes) as i32).collect();
    let [student, teacher] = [0, 1].map(|i| Linear::new(&states[i], &weights[i], hidden, classes));
    let config = Config::default();
    let progress = Progress::new(30, 100);

    let new = || (vec![0.0f32; rows * hidden], vec![0.0f32; classes * hidden]);
    let ((mut plain_states, mut plain_weights), (mut fused_states, mut fused_weights)) =
        (new(), new());
    let batch = LinearBatch::new(student, Teacher::Linear(teacher), &labels);
    let mut fused = FusedLinear::on(cpu.clone());
    if budget > 0 {
        fused = fused.with_memory_budget(budget << 20);
    }
    println!("chunks of {} rows", fused.chunk_rows(&batch));
    let (kept, kept_bytes) = peak_of(|| Matrices::new(rows, hidden, classes));
    let mut kept = Some(kept);
    let mut times = [const { Vec::new() }; 3];
    let (mut peaks, mut losses) = ([0; 3], [0.0; 3]);
    // They take turns, after a run of each that warms up.
    for run in 0..=runs {
        for way in 0..3 {
            let (loss, time, peak) = timed(|| -> Result<f32, Error> {
                if way == 2 {
                    let outputs = LinearOutputs {
                        grad_hidden_states: Some(&mut fused_states),
                        grad_weights: Some(&mut fused_weights),
                        ..LinearOutputs::default()
                    };
                    let summary = fused.run_into(&config, progress, &batch, outputs)?;
                    return Ok(summary.loss);
                }
                let mut new = (way == 0).then(|| Matrices::new(rows, hidden, classes));
                let memory = new.as_mut().or(kept.as_mut()).expect("one of both");
                logits(&student, &mut memory.student);
                logits(&teacher, &mut memory.teacher);
                let batch = Batch::new(&memory.student, &memory.teacher, &labels, classes);
                let outputs = GradientMut::new(&mut memory.gradient, classes).into();
                let summary = cpu.run_into(&config, progress, &batch, outputs)?;
                let (gradient, parts) = (&memory.gradient, &mut memory.parts);
                gradients(
                    &student,
                    gradient,
                    parts,
                    &mut plain_states,
                    &mut plain_weights,
                );
                Ok(summary.loss)
            });
            losses[way] = loss?;
            // Memory that is kept was new in the first run.
            let peak = if way == 1 { kept_bytes + peak } else { peak };
            peaks[way] = peak.max(peaks[way]);
            if run > 0 {
                times[way].push(time);
            }
        }
    }
    let pairs = [
        (&plain_states, &fused_states),
        (&plain_weights, &fused_weights),
    ];
    for (plain, fused) in pairs {
        let largest = plain.iter().fold(0.0, |most: f32, g| most.max(g.abs()));
        let off = plain.iter().zip(fused.iter()).map(|(p, f)| (p - f).abs());
        let off = off.fold(0.0, f32::max);
        assert!(off <= 1e-5 * largest, "{off:e} beside {largest:e}");
    }
    let off = (losses[1] - losses[2]).abs();
    assert!(off <= 1e-5 * losses[1].abs(), "{losses:?}");
    let medians = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e3
    });
    let names = ["plain, new memory", "plain, memory kept", "fused"];
    for (i, name) in names.into_iter().enumerate() {
        let mib = peaks[i] as f64 / f64::from(1 << 20);
        println!("{name}: median {:.1} ms, peak {mib:.1} MiB", medians[i]);
    }
    let memory = peaks[2] as f64 / peaks[1] as f64;
    let [new, kept] = [0, 1].map(|i| medians[2] / medians[i]);
    println!(
        "fused over plain: time {new:.2} (new memory), {kept:.2} (memory kept); bytes {memory:.3}"
    );
    Ok(())
}
