//! Time and memory of forward and backward: the kernels and the same loss written with Burn's operations.
//!
//! `cargo bench -p burn-distill --bench cost` runs on the adapter that `WGPU_DISTILL_ADAPTER` names (default: llvmpipe) and on
//! flex. Each system runs in its own process, so that none reuses another's memory. The gradients are compared first.

#[path = "../tests/devices/mod.rs"]
mod devices;
#[path = "../tests/inputs/mod.rs"]
mod inputs;

use std::process::Command;
use std::time::Instant;

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::wgpu::MemoryConfiguration;
use burn::tensor::{Device, Int, Tensor};
use burn_distill::{DistillationLossConfig, Progress};
use inputs::{difference, floats, labels, logits};

const SHAPES: [(usize, usize); 2] = [(4096, 1000), (1024, 32_000)];
const SYSTEMS: [&str; 5] = [
    "wgpu kernels",
    "wgpu source",
    "wgpu burn",
    "flex kernels",
    "flex burn",
];
const TEMPERATURE: f32 = 2.0;
const PROGRESS: (u64, u64) = (3, 10);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--child") {
        let number = |i: usize| arguments[at + i].parse().expect("a number");
        child(&arguments[at + 1], number(2), number(3));
        return;
    }
    println!("| rows x classes | system | ms, median | extra memory, MiB | of one gradient |");
    println!("|---|---|--:|--:|--:|");
    let mut failed = false;
    for (rows, classes) in SHAPES {
        for system in SYSTEMS {
            let exe = std::env::current_exe().expect("this program");
            let child = Command::new(exe)
                .args(["--child", system, &rows.to_string(), &classes.to_string()])
                .output()
                .expect("it starts");
            let out = String::from_utf8_lossy(&child.stdout);
            match out.lines().find(|l| l.starts_with('|')) {
                Some(line) => println!("{line}"),
                None => {
                    failed = true;
                    println!(
                        "| {rows} x {classes} | {system} | failed: {} | | |",
                        String::from_utf8_lossy(&child.stderr)
                            .lines()
                            .last()
                            .unwrap_or_default()
                    );
                }
            }
        }
    }
    if failed {
        std::process::exit(1);
    }
}

/// The loss in Burn's operations: cosine, min, scope row, mean; the gradient by autodiff.
fn by_hand(student: Tensor<2>, teacher: Tensor<2>, labels: Tensor<1, Int>, tstr: f32) -> Tensor<1> {
    let [rows, _] = student.dims();
    let log_p = log_softmax(student / TEMPERATURE, 1);
    let q = Tensor::from_inner(softmax(teacher / TEMPERATURE, 1));
    let p = log_p.clone().detach().exp();
    let norm = |x: Tensor<2>| (x.clone() * x).sum_dim(1).sqrt();
    let kdr = (p.clone() * q.clone()).sum_dim(1) / (norm(p) * norm(q.clone()));
    let tssr = kdr.clamp_max(tstr);
    let hard = log_p.clone().gather(1, labels.reshape([rows, 1]));
    let soft = (q * log_p).sum_dim(1);
    let loss = hard * tssr.clone() + soft * (tssr.neg() + 1.0);
    loss.neg().mean()
}

fn child(system: &str, rows: usize, classes: usize) {
    let device = match system.split_once(' ') {
        Some(("flex", _)) => Device::flex(),
        Some((_, "source")) => devices::on_application(|options, setup| {
            let options = options.memory_config(MemoryConfiguration::ExclusivePages);
            options.setup(setup).init()
        }),
        _ => devices::on_application(|options, setup| {
            let options = options.memory_config(MemoryConfiguration::ExclusivePages);
            burn_distill::adopt(options, setup)
        }),
    };
    let loss = DistillationLossConfig::new()
        .with_student_temperature(TEMPERATURE)
        .with_teacher_temperature(TEMPERATURE)
        .init();
    let progress = Progress::new(PROGRESS.0, PROGRESS.1);
    let step = |student: &Tensor<2>, teacher: &Tensor<2>, labels: &Tensor<1, Int>| {
        let leaf = Tensor::from_inner(student.clone()).require_grad();
        let (t, l) = (teacher.clone(), labels.clone());
        let out = match system.ends_with("burn") {
            true => by_hand(leaf.clone(), t, l, progress.tstr()),
            false => loss.forward(leaf.clone(), t, l, progress),
        };
        let grads = out.backward();
        leaf.grad(&grads).expect("tracked")
    };
    // First compare the gradient of 64 rows with the CPU kernels.
    let check = |device: &Device| {
        let (s, t) = (
            logits(1, 64, classes, device),
            logits(2, 64, classes, device),
        );
        floats(step(&s, &t, &labels(64, classes, device)))
    };
    let want = {
        let (s, t) = (
            logits(1, 64, classes, &Device::flex()),
            logits(2, 64, classes, &Device::flex()),
        );
        let leaf = Tensor::from_inner(s).require_grad();
        let l = labels(64, classes, &Device::flex());
        let grads = loss.forward(leaf.clone(), t, l, progress).backward();
        floats(leaf.grad(&grads).expect("tracked"))
    };
    let apart = difference(&want, &check(&device));
    assert!(apart < 1e-4, "the gradient of {system} differs by {apart}");

    device.memory_cleanup();
    device.sync().expect("the device works");
    let (s, t) = (
        logits(1, rows, classes, &device),
        logits(2, rows, classes, &device),
    );
    let l = labels(rows, classes, &device);
    device.sync().expect("the device works");
    let reserved = || device.memory_pool_usage().map(|m| m.bytes_reserved);
    let before = reserved();
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 5 || (begin.elapsed().as_secs() < 10 && times.len() < 50) {
        let start = Instant::now();
        let gradient = step(&s, &t, &l);
        device.sync().expect("the device works");
        times.push(start.elapsed().as_secs_f64() * 1e3);
        drop(gradient);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let gradient = (4 * rows * classes) as f64;
    let extra = before
        .zip(reserved())
        .map(|(b, a)| a.saturating_sub(b) as f64);
    let (mib, times_gradient) = match extra {
        Some(extra) => (
            format!("{:.1}", extra / 1048576.0),
            format!("{:.2}", extra / gradient),
        ),
        None => ("not reported".to_owned(), String::new()),
    };
    println!("| {rows} x {classes} | {system} | {median:.1} | {mib} | {times_gradient} |");
}
