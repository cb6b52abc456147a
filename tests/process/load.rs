//! Long use in short form: many threads, calls and processes. Results keep the same bits and memory does not grow.
//!
//! `WGPU_DISTILL_DEPTH=long` makes as many calls as docs/RELIABILITY.md reports.

mod failures;
mod halves;

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::cases::is_long;
use crate::steps::Steps;
use crate::{adapter, report};
use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use wgpu_distill::{
    Batch, Config, Distillation, Engine, Outputs, Progress, Scope, Similarity, Storage, wgpu,
};

/// A problem for each number, with different shapes, similarities, scopes and progress.
struct Work {
    config: Config,
    progress: Progress,
    classes: usize,
    student: Vec<f32>,
    teacher: Vec<f32>,
    labels: Vec<i32>,
}

impl Work {
    fn new(n: usize) -> Self {
        const CLASSES: [usize; 7] = [3, 10, 33, 100, 257, 1000, 2049];
        let (rows, classes) = (1 + n * 5 % 23, CLASSES[n % CLASSES.len()]);
        // Sine waves whose period is not a whole number of elements, so that no values repeat.
        let wave =
            |seed: f32| (0..rows * classes).map(move |i| 8.0 * (seed + 0.7 * i as f32).sin());
        Self {
            config: Config {
                similarity: Similarity::ALL[n % Similarity::ALL.len()],
                scope: if n.is_multiple_of(3) {
                    Scope::Batch
                } else {
                    Scope::Row
                },
                ..Config::default()
            },
            progress: Progress::new(n as u64 % 10, 10),
            classes,
            student: wave(n as f32).collect(),
            teacher: wave(n as f32 + 0.5).collect(),
            labels: (0..rows).map(|r| (r * 7 % classes) as i32).collect(),
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch::new(&self.student, &self.teacher, &self.labels, self.classes)
    }

    fn run(&self, engine: &Engine) -> Distillation {
        let done = engine.run(&self.config, self.progress, &self.batch(), Outputs::ALL);
        let done = done.expect("a valid problem");
        assert!(done.summary.loss.is_finite());
        done
    }
}

/// A hash of the bits of all results.
fn bits(done: &Distillation) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytemuck::bytes_of(&done.summary).hash(&mut hasher);
    bytemuck::cast_slice::<_, u8>(&done.rows).hash(&mut hasher);
    let gradient = done.clone().into_grad_student_logits();
    bytemuck::cast_slice::<_, u8>(&gradient).hash(&mut hasher);
    hasher.finish()
}

fn engines() -> Vec<Engine> {
    let gpu = adapter::gpu().map(Engine::Gpu);
    gpu.into_iter().chain([Engine::cpu()]).collect()
}

#[test]
fn eight_threads_get_the_bits_that_one_gets() {
    let _turn = crate::turn();
    const THREADS: usize = 8;
    const EACH: usize = 24;
    for engine in engines() {
        let alone: Vec<u64> = (0..THREADS * EACH)
            .map(|n| bits(&Work::new(n).run(&engine)))
            .collect();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (engine, alone) = (&engine, &alone);
                scope.spawn(move || {
                    let own = alone.iter().enumerate().skip(thread * EACH).take(EACH);
                    for (n, want) in own {
                        let got = bits(&Work::new(n).run(engine));
                        assert_eq!(got, *want, "{}: problem {n}", engine.describe());
                    }
                });
            }
        });
    }
}

#[test]
fn a_hundred_runs_give_the_same_bits() {
    let _turn = crate::turn();
    for engine in engines() {
        for n in 0..7 {
            let work = Work::new(n);
            let first = bits(&work.run(&engine));
            for run in 1..100 {
                assert_eq!(
                    bits(&work.run(&engine)),
                    first,
                    "{}: problem {n}, run {run}",
                    engine.describe()
                );
            }
        }
    }
}

/// The start of the line that a child process prints for its parent.
const MARK: &str = "bits of all problems: ";

#[test]
fn fresh_processes_give_the_same_bits() {
    let _turn = crate::turn();
    const CHILD: &str = "WGPU_DISTILL_FRESH_PROCESS";
    let own: Vec<u64> = engines()
        .iter()
        .flat_map(|engine| (0..14).map(|n| bits(&Work::new(n).run(engine))))
        .collect();
    let own = format!("{MARK}{own:x?}");
    if std::env::var_os(CHILD).is_some() {
        println!("{own}");
        return;
    }
    let program = std::env::current_exe().expect("a test is a program");
    for _ in 0..3 {
        let child = std::process::Command::new(&program)
            .args([
                "--exact",
                &crate::exact(module_path!(), "fresh_processes_give_the_same_bits"),
                "--nocapture",
            ])
            .env(CHILD, "1")
            .output()
            .expect("it ran once already");
        let words = String::from_utf8_lossy(&child.stdout);
        let line = words.lines().find_map(|l| l.find(MARK).map(|at| &l[at..]));
        assert_eq!(line, Some(own.as_str()), "{words}");
    }
}

/// Resident memory of this process in KiB, as the system counts it. None if the system does not report it.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A caller's buffers for one shape, reused from call to call as in a training loop.
struct OnDevice {
    matrices: [wgpu::Buffer; 3],
    labels: wgpu::Buffer,
}

impl OnDevice {
    fn new(gpu: &Gpu, work: &Work) -> Self {
        let buffer = |bytes: &[u8]| {
            use wgpu::util::DeviceExt;
            gpu.device()
                .create_buffer_init(&wgpu::util::BufferInitDescriptor {
                    label: None,
                    contents: bytes,
                    usage: wgpu::BufferUsages::STORAGE,
                })
        };
        let [student, teacher] = [&work.student, &work.teacher].map(|v| bytemuck::cast_slice(v));
        Self {
            matrices: [student, teacher, student].map(buffer),
            labels: buffer(bytemuck::cast_slice(&work.labels)),
        }
    }

    /// Encodes and submits without waiting.
    fn step(&self, gpu: &Gpu, work: &Work) {
        let on = |buffer| GpuLogits::new(buffer, Storage::F32, work.classes);
        let [student, teacher, gradient] = &self.matrices;
        let batch = GpuBatch {
            rows: work.labels.len(),
            student_logits: on(student),
            teacher_logits: on(teacher),
            labels: GpuSlice {
                buffer: &self.labels,
                offset: 0,
            }
            .into(),
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let outputs = GpuOutputs {
            gradient: Some(on(gradient)),
            ..GpuOutputs::default()
        };
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let done = gpu.encode(
            &mut encoder,
            &work.config,
            work.progress,
            &batch,
            &outputs,
            None,
        );
        done.expect("a valid problem");
        gpu.queue().submit([encoder.finish()]);
    }
}

/// Slices, single steps and buffers with changing shapes.
///
/// After a tenth of the calls all kernels, pools and reserves of the allocator exist, and memory must not grow further.
#[test]
fn memory_stays_flat() {
    let _turn = crate::turn();
    let calls = if is_long() { 20_000 } else { 2_000 };
    for engine in engines() {
        let problems: Vec<_> = (0..105).map(Work::new).collect();
        let gpu = match &engine {
            Engine::Gpu(gpu) => Some(gpu.clone()),
            _ => None,
        };
        let on_device: Vec<_> = gpu
            .iter()
            .flat_map(|gpu| problems.iter().map(|work| OnDevice::new(gpu, work)))
            .collect();
        // Bytes in use on the device when no work is pending.
        let allocated = || {
            let gpu = gpu.as_ref()?;
            let idle = gpu.device().poll(wgpu::PollType::wait_indefinitely());
            idle.expect("the device works");
            Some(
                gpu.device()
                    .generate_allocator_report()?
                    .total_allocated_bytes,
            )
        };
        let mut settled = None;
        for call in 0..calls {
            if call == calls / 10 {
                settled = Some((allocated(), resident_kib()));
            }
            // 105 and 4 are coprime, so every problem meets every kind of call.
            let (n, kind) = (call % problems.len(), call % 4);
            let work = &problems[n];
            match (kind, &gpu) {
                (0, _) => drop(work.run(&engine)),
                (1, _) => {
                    let rows = work.labels.len();
                    let p = engine.softmax(&work.batch().student_logits, rows, 1.0);
                    assert_eq!(p.expect("valid").len(), work.student.len());
                }
                (2, _) => {
                    let stats = engine.observe(&work.config, &work.batch()).expect("valid");
                    let decisions =
                        engine.decide(&work.config, work.progress, &stats, work.classes);
                    let gradient =
                        engine.apply(&work.config, &work.batch(), &decisions.expect("valid"));
                    assert_eq!(gradient.expect("valid").len(), work.student.len());
                }
                (_, Some(gpu)) => on_device[n].step(gpu, work),
                (_, None) => drop(work.run(&engine)),
            }
        }
        let (device_then, host_then) = settled.expect("a tenth of the calls");
        let (device, host) = (allocated(), resident_kib());
        report::ran(&format!(
            "load: {}, {calls} calls; device memory {device_then:?} to {device:?} bytes, process {host_then:?} to {host:?} KiB",
            engine.describe()
        ));
        assert_eq!(device, device_then, "memory of the device");
        if let (Some(then), Some(now)) = (host_then, host) {
            // Less than 1 KiB per call over nine tenths of the short run. A leak of buffers would be far larger.
            assert!(now < then + 2048, "{then} KiB, then {now} KiB");
        }
    }
}
