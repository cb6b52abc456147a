//! Time and memory of forward and backward: the kernels, `Composed`, and the same loss written by hand with Burn's operations.
//!
//! `cargo bench -p burn-distill --bench cost` runs on the adapter that `WGPU_DISTILL_ADAPTER` names (default: llvmpipe) and on
//! flex. Each system runs in its own process, so that none reuses another's memory. The gradients are compared first. A shape, a loss
//! or a part of a system's name as an argument selects: `-- 1024x4096 hinton composed`.

#[path = "../tests/devices/mod.rs"]
mod devices;
#[path = "../tests/inputs/mod.rs"]
mod inputs;

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::wgpu::MemoryConfiguration;
use burn::tensor::{Device, Int, Tensor};
use burn_distill::{DistillationLossConfig, Progress, presets};
use inputs::{difference, floats, labels, logits};

const SHAPES: [(usize, usize); 3] = [(4096, 1000), (1024, 4096), (1024, 32_000)];
/// The method, Hinton's mix, and the teacher alone by two other divergences.
const LOSSES: [&str; 4] = ["method", "hinton", "reverse-kl", "jsd"];
const SYSTEMS: [&str; 8] = [
    "wgpu kernels",
    "wgpu kernels, default pools",
    "wgpu source",
    "wgpu composed",
    "wgpu by hand",
    "flex kernels",
    "flex composed",
    "flex by hand",
];
const TEMPERATURE: f32 = 2.0;
const PROGRESS: (u64, u64) = (3, 10);

/// The reverse KL divergence at temperature 1.
fn reverse_kl(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let log_p = log_softmax(student, 1);
    let log_q = Tensor::from_inner(log_softmax(teacher, 1));
    let terms = log_p.clone().exp() * (log_p - log_q);
    terms.sum_dim(1).mean()
}

/// The generalised Jensen-Shannon divergence with equal shares at temperature 1.
fn jsd(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let log_p = log_softmax(student, 1);
    let log_q = Tensor::from_inner(log_softmax(teacher, 1));
    let (p, q) = (log_p.clone().exp(), log_q.clone().exp());
    let log_m = ((p.clone() + q.clone()) * 0.5).log();
    let terms = q * (log_q - log_m.clone()) + p * (log_p - log_m);
    terms.sum_dim(1).mean() * 0.5
}

/// The heap of this process: the bytes in use and the most since the last mark. Flex has its tensors there.
struct Heap;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: Each call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        // SAFETY: As above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: As above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static HEAP: Heap = Heap;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|a| a == "--child") {
        let number = |i: usize| arguments[at + i].parse().expect("a number");
        child(
            &arguments[at + 1],
            &arguments[at + 2],
            [number(3), number(4)],
        );
        return;
    }
    // Cargo adds an option.
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let mut failed = false;
    println!(
        "| rows x classes | loss | system | ms, median | processor ms, mean | extra memory, MiB | of one gradient |"
    );
    println!("|---|---|---|--:|--:|--:|--:|");
    for (rows, classes) in SHAPES {
        for loss in LOSSES {
            for system in SYSTEMS {
                let shape = format!("{rows}x{classes}");
                let names = [shape.as_str(), loss, system];
                let selects =
                    |word: &&String| names.iter().any(|name| name.contains(word.as_str()));
                if !wanted.iter().all(selects) {
                    continue;
                }
                let exe = std::env::current_exe().expect("this program");
                let sizes = [rows.to_string(), classes.to_string()];
                let child = Command::new(exe)
                    .args(["--child", system, loss])
                    .args(sizes)
                    .output()
                    .expect("it starts");
                let out = String::from_utf8_lossy(&child.stdout);
                match out.lines().find(|l| l.starts_with('|')) {
                    Some(line) => println!("{line}"),
                    None => {
                        failed = true;
                        let errors = String::from_utf8_lossy(&child.stderr);
                        let last = errors.lines().last().unwrap_or_default();
                        println!(
                            "| {rows} x {classes} | {loss} | {system} | failed: {last} | | | |"
                        );
                    }
                }
            }
        }
    }
    if failed {
        std::process::exit(1);
    }
}

/// The configuration of a loss.
fn config(loss: &str) -> DistillationLossConfig {
    match loss {
        "hinton" => DistillationLossConfig::from(presets::hinton(TEMPERATURE, 0.5)),
        "reverse-kl" => DistillationLossConfig::from(presets::gkd(1.0)),
        "jsd" => DistillationLossConfig::from(presets::gkd(0.5)),
        _ => DistillationLossConfig::new()
            .with_student_temperature(TEMPERATURE)
            .with_teacher_temperature(TEMPERATURE),
    }
}

/// The method in Burn's operations: cosine, min, scope row, mean; the gradient by autodiff.
fn method(student: Tensor<2>, teacher: Tensor<2>, labels: Tensor<1, Int>, tstr: f32) -> Tensor<1> {
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

/// Hinton's mix in Burn's operations: half the cross-entropy with the label at temperature 1, half the KL divergence times the square of
/// the temperature.
fn hinton(student: Tensor<2>, teacher: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let [rows, _] = student.dims();
    let log_h = log_softmax(student.clone(), 1);
    let hard = log_h.gather(1, labels.reshape([rows, 1])).neg();
    let log_p = log_softmax(student / TEMPERATURE, 1);
    let log_q = Tensor::from_inner(log_softmax(teacher / TEMPERATURE, 1));
    let soft = (log_q.clone().exp() * (log_q - log_p)).sum_dim(1);
    (hard * 0.5 + soft * (0.5 * TEMPERATURE * TEMPERATURE)).mean()
}

/// The processor time of this process, in ms, where the system tells it (Linux). Other work on the machine does not count.
fn processor_ms() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    // Of the program and of the kernel for it, in hundredths of a second.
    Some(10.0 * (ticks.next()?.ok()? + ticks.next()?.ok()?))
}

fn child(system: &str, of: &str, [rows, classes]: [usize; 2]) {
    let by_hand = |student, teacher, labels, tstr| match of {
        "hinton" => hinton(student, teacher, labels),
        "reverse-kl" => reverse_kl(student, teacher),
        "jsd" => jsd(student, teacher),
        _ => method(student, teacher, labels, tstr),
    };
    let device = match system.split_once(' ') {
        Some(("flex", _)) => Device::flex(),
        Some((_, "source")) => devices::on_application(|options, setup| {
            let options = options.memory_config(MemoryConfiguration::ExclusivePages);
            options.setup(setup).init()
        }),
        Some((_, "kernels, default pools")) => devices::on_application(burn_distill::adopt),
        _ => devices::on_application(|options, setup| {
            let options = options.memory_config(MemoryConfiguration::ExclusivePages);
            burn_distill::adopt(options, setup)
        }),
    };
    let kernels = config(of).init();
    let loss = match system.ends_with("composed") {
        true => kernels.clone().composed(),
        false => kernels.clone(),
    };
    let progress = Progress::new(PROGRESS.0, PROGRESS.1);
    let step = |student: &Tensor<2>, teacher: &Tensor<2>, labels: &Tensor<1, Int>| {
        let leaf = Tensor::from_inner(student.clone()).require_grad();
        let (t, l) = (teacher.clone(), labels.clone());
        let out = match system.ends_with("by hand") {
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
        let grads = kernels.forward(leaf.clone(), t, l, progress).backward();
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
    let heap = IN_USE.load(Relaxed);
    MOST.store(heap, Relaxed);
    let mut times = Vec::new();
    let begin = Instant::now();
    let busy = processor_ms();
    while times.len() < 5 || (begin.elapsed().as_secs() < 5 && times.len() < 50) {
        let start = Instant::now();
        let gradient = step(&s, &t, &l);
        device.sync().expect("the device works");
        times.push(start.elapsed().as_secs_f64() * 1e3);
        drop(gradient);
    }
    let busy = match busy.zip(processor_ms()) {
        Some((before, after)) => format!("{:.1}", (after - before) / times.len() as f64),
        None => "not reported".to_owned(),
    };
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let gradient = (4 * rows * classes) as f64;
    let extra = match before.zip(reserved()) {
        Some((before, after)) => after.saturating_sub(before) as f64,
        None => (MOST.load(Relaxed) - heap) as f64,
    };
    let (mib, gradients) = (extra / 1048576.0, extra / gradient);
    println!(
        "| {rows} x {classes} | {of} | {system} | {median:.1} | {busy} | {mib:.1} | {gradients:.2} |"
    );
}
