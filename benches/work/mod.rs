//! The measured work: inputs by formula, one call of the whole method, a check of its result, and its time.

// Each bench compiles this module and uses a part of it.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use rayon::prelude::*;
use wgpu_distill::cpu::Cpu;
use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs, GpuSlice, Workspace};
use wgpu_distill::half::{bf16, f16};
use wgpu_distill::plan::{Plan, Tiling};
use wgpu_distill::{
    Batch, Config, Engine, Gradient, GradientMut, Progress, Storage, Summary, Values, reference,
    wgpu,
};

/// Half of the training.
pub const PROGRESS: Progress = Progress { step: 1, total: 2 };

/// Number `index` of a stream of uniform 64-bit numbers. `benches/peers/inputs.py` has the same formula.
fn hash(seed: u64, stream: u64, index: u64) -> u64 {
    let start = (index + 1)
        .wrapping_add(stream << 40)
        .wrapping_add(seed.wrapping_shl(48));
    let z = start.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn logit(seed: u64, stream: u64, index: u64) -> f32 {
    let z = hash(seed, stream, index);
    let unit = (z >> 40) as f32 / (1u32 << 24) as f32;
    let x = (unit - 0.5) * 8.0;
    if z & 0xff == 0 { x * 5.0 } else { x }
}

/// Owned values in one of the storage types.
pub fn stored(storage: Storage, values: Vec<f32>) -> Gradient {
    match storage {
        Storage::F32 => Gradient::F32(values),
        Storage::F16 => Gradient::F16(values.into_par_iter().map(f16::from_f32).collect()),
        Storage::Bf16 => Gradient::Bf16(values.into_par_iter().map(bf16::from_f32).collect()),
    }
}

fn values(stored: &Gradient) -> Values<'_> {
    match stored {
        Gradient::F32(v) => v.into(),
        Gradient::F16(v) => v.into(),
        Gradient::Bf16(v) => v.into(),
    }
}

/// One problem's inputs.
pub struct Work {
    pub rows: usize,
    pub classes: usize,
    pub storage: Storage,
    student: Gradient,
    teacher: Gradient,
    labels: Vec<i32>,
}

impl Work {
    pub fn new(rows: usize, classes: usize, storage: Storage, seed: u64) -> Self {
        let matrix = |stream| {
            let all = (0..(rows * classes) as u64).into_par_iter();
            stored(storage, all.map(|i| logit(seed, stream, i)).collect())
        };
        let label = |row| ((hash(seed, 2, row) >> 33) % classes as u64) as i32;
        Self {
            rows,
            classes,
            storage,
            student: matrix(0),
            teacher: matrix(1),
            labels: (0..rows as u64).map(label).collect(),
        }
    }

    pub fn batch(&self) -> Batch<'_> {
        let (student, teacher) = (values(&self.student), values(&self.teacher));
        Batch::new(student, teacher, &self.labels, self.classes)
    }

    /// Bytes by the byte model: both rows read once, one written.
    pub fn model_bytes(&self) -> u64 {
        (3 * self.storage.bytes() * self.rows * self.classes) as u64
    }

    /// Compares the gradient of a few rows with the f64 reference, and checks the summary.
    pub fn check(&self, gradient: &Gradient, summary: &Summary) {
        assert_eq!(summary.valid_rows as usize, self.rows);
        assert!(summary.loss.is_finite() && summary.loss > 0.0);
        let n = self.classes;
        let got = values(gradient);
        for row in [0, self.rows / 2, self.rows - 1] {
            let range = row * n..(row + 1) * n;
            let cut = |stored: &Gradient| -> Vec<f32> {
                range.clone().map(|i| values(stored).get(i)).collect()
            };
            let (student, teacher) = (cut(&self.student), cut(&self.teacher));
            let batch = Batch::new(&student, &teacher, &self.labels[row..=row], n);
            let want = reference::distill(&Config::default(), PROGRESS, &batch).expect("valid");
            let want = &want.grad_student_logits;
            let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            let unit = match self.storage {
                Storage::F32 => 1e-5,
                Storage::F16 => 1e-3,
                Storage::Bf16 => 8e-3,
            };
            for (i, exact) in want.iter().enumerate() {
                let g = f64::from(got.get(row * n + i)) * self.rows as f64;
                let error = (g - exact).abs();
                // Subnormal f16 numbers have a fixed unit, which counts times the number of rows.
                let floor = if self.storage == Storage::F16 {
                    1e-7 * self.rows as f64
                } else {
                    0.0
                };
                let bound = unit * largest + 3e-7 + floor;
                assert!(error <= bound, "row {row}, class {i}: {g}, want {exact}");
            }
        }
    }
}

/// The whole method with a gradient, written to memory that is reused.
pub enum Runner {
    Cpu { cpu: Cpu, gradient: Gradient },
    Gpu(Box<GpuRunner>),
}

impl Runner {
    pub fn new(engine: &Engine, work: &Work) -> Self {
        Self::with_tiling(engine, work, None)
    }

    /// Uses the given tiling on a GPU.
    pub fn with_tiling(engine: &Engine, work: &Work, layout: Option<&Tiling>) -> Self {
        match engine {
            Engine::Gpu(gpu) => Self::Gpu(Box::new(GpuRunner::new(gpu, work, layout))),
            _ => {
                let cpu = Cpu::new();
                let gradient = stored(work.storage, vec![0.0; work.rows * work.classes]);
                Self::Cpu { cpu, gradient }
            }
        }
    }

    /// Makes one call. Returns the device's time and the clock's time.
    ///
    /// Without time stamps both are the clock's time.
    pub fn time(&mut self, work: &Work) -> (Duration, Duration) {
        match self {
            Self::Cpu { cpu, gradient } => {
                let gradient = GradientMut::new(gradient, work.classes).into();
                let start = Instant::now();
                let done = cpu.run_into(&Config::default(), PROGRESS, &work.batch(), gradient);
                let wall = start.elapsed();
                done.expect("the work is valid");
                (wall, wall)
            }
            Self::Gpu(runner) => runner.time(),
        }
    }

    /// Runs once more and compares the answer with the reference. Returns the loss.
    pub fn check(&mut self, work: &Work) -> f32 {
        match self {
            Self::Cpu { cpu, gradient } => {
                let target = GradientMut::new(&mut *gradient, work.classes).into();
                let done = cpu.run_into(&Config::default(), PROGRESS, &work.batch(), target);
                let summary = done.expect("the work is valid");
                work.check(gradient, &summary);
                summary.loss
            }
            Self::Gpu(runner) => {
                runner.time();
                let (gradient, summary) = runner.read(work);
                work.check(&gradient, &summary);
                summary.loss
            }
        }
    }

    pub fn plan(&self) -> String {
        match self {
            Self::Cpu { cpu, .. } => cpu.describe(),
            Self::Gpu(runner) => runner.plan.to_string(),
        }
    }

    /// Bytes read and written per second by a plain copy on the same device.
    pub fn copy_bandwidth(&mut self) -> f64 {
        let bytes: u64 = 256 << 20;
        let best = match self {
            Self::Cpu { .. } => {
                let from = vec![1u8; bytes as usize / 2];
                let mut to = vec![0u8; bytes as usize / 2];
                let once = |_| {
                    let start = Instant::now();
                    let part = 1 << 20;
                    to.par_chunks_mut(part)
                        .zip(from.par_chunks(part))
                        .for_each(|(to, from)| to.copy_from_slice(from));
                    start.elapsed()
                };
                (0..12).map(once).min()
            }
            Self::Gpu(runner) => runner.copy_times(bytes / 2).into_iter().min(),
        };
        bytes as f64 / best.expect("there are several").as_secs_f64()
    }
}

/// Buffers, workspace and time stamps for one problem on a GPU.
pub struct GpuRunner {
    gpu: Gpu,
    pub plan: Plan,
    rows: usize,
    classes: usize,
    storage: Storage,
    student: wgpu::Buffer,
    teacher: wgpu::Buffer,
    labels: wgpu::Buffer,
    gradient: wgpu::Buffer,
    summary: wgpu::Buffer,
    workspace: Workspace,
    stamps: Option<Stamps>,
}

struct Stamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readable: wgpu::Buffer,
}

impl GpuRunner {
    fn new(gpu: &Gpu, work: &Work, layout: Option<&Tiling>) -> Self {
        use wgpu::BufferUsages as Usage;
        let device = gpu.device();
        let make = |size: u64, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: size.next_multiple_of(16),
                usage,
                mapped_at_creation: false,
            })
        };
        let upload = |bytes: &[u8]| {
            let buffer = make(bytes.len() as u64, Usage::STORAGE | Usage::COPY_DST);
            gpu.queue().write_buffer(&buffer, 0, bytes);
            buffer
        };
        let student = upload(values(&work.student).as_bytes());
        let teacher = upload(values(&work.teacher).as_bytes());
        let labels = upload(bytemuck::cast_slice(&work.labels));
        let bytes = (work.rows * work.classes * work.storage.bytes()) as u64;
        let gradient = make(bytes, Usage::STORAGE | Usage::COPY_SRC);
        let summary = make(256, Usage::STORAGE | Usage::COPY_SRC);
        let inside = wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        let stamps = device.features().contains(inside).then(|| Stamps {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: make(16, Usage::QUERY_RESOLVE | Usage::COPY_SRC),
            readable: make(16, Usage::COPY_DST | Usage::MAP_READ),
        });
        let on = |buffer| GpuLogits::new(buffer, work.storage, work.classes);
        let batch = GpuBatch {
            rows: work.rows,
            student_logits: on(&student),
            teacher_logits: on(&teacher),
            labels: GpuSlice {
                buffer: &labels,
                offset: 0,
            },
            row_weights: None,
        };
        let outputs = GpuOutputs {
            gradient: Some(on(&gradient)),
            ..Default::default()
        };
        let config = Config::default();
        let plan = match layout {
            None => gpu.plan(&config, &batch, &outputs),
            Some(layout) => gpu.plan_with_tiling(&config, &batch, &outputs, layout),
        };
        let plan = plan.expect("the work is valid");
        gpu.prepare(&plan);
        let workspace = Workspace::new(device, &plan);
        Self {
            gpu: gpu.clone(),
            plan,
            rows: work.rows,
            classes: work.classes,
            storage: work.storage,
            student,
            teacher,
            labels,
            gradient,
            summary,
            workspace,
            stamps,
        }
    }

    /// Measures the time of the commands that `record` puts into an encoder.
    fn timed(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) -> (Duration, Duration) {
        let start = Instant::now();
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        if let Some(s) = &self.stamps {
            encoder.write_timestamp(&s.queries, 0);
        }
        record(&mut encoder);
        if let Some(s) = &self.stamps {
            encoder.write_timestamp(&s.queries, 1);
            encoder.resolve_query_set(&s.queries, 0..2, &s.resolved, 0);
            encoder.copy_buffer_to_buffer(&s.resolved, 0, &s.readable, 0, 16);
        }
        self.gpu.queue().submit([encoder.finish()]);
        self.wait();
        let wall = start.elapsed();
        let Some(s) = &self.stamps else {
            return (wall, wall);
        };
        let bytes = self.mapped(&s.readable, 16);
        let ticks: [u64; 2] = bytemuck::pod_read_unaligned(&bytes);
        // Some drivers return zeros or decreasing time stamps. The clock's time is then used.
        let elapsed = ticks[1].saturating_sub(ticks[0]);
        if ticks[0] == 0 || elapsed == 0 {
            return (wall, wall);
        }
        let period = f64::from(self.gpu.queue().get_timestamp_period());
        (Duration::from_nanos((elapsed as f64 * period) as u64), wall)
    }

    fn wait(&self) {
        let done = self.gpu.device().poll(wgpu::PollType::wait_indefinitely());
        done.expect("the device works");
    }

    fn mapped(&self, buffer: &wgpu::Buffer, bytes: u64) -> Vec<u8> {
        let slice = buffer.slice(..bytes);
        slice.map_async(wgpu::MapMode::Read, |done| {
            done.expect("mapping for reading")
        });
        self.wait();
        let out = slice.get_mapped_range().expect("mapped").to_vec();
        buffer.unmap();
        out
    }

    fn time(&self) -> (Duration, Duration) {
        self.timed(|encoder| self.record(encoder))
    }

    fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        let on = |buffer| GpuLogits::new(buffer, self.storage, self.classes);
        let batch = GpuBatch {
            rows: self.rows,
            student_logits: on(&self.student),
            teacher_logits: on(&self.teacher),
            labels: GpuSlice {
                buffer: &self.labels,
                offset: 0,
            },
            row_weights: None,
        };
        let outputs = GpuOutputs {
            summary: Some(GpuSlice {
                buffer: &self.summary,
                offset: 0,
            }),
            row_results: None,
            gradient: Some(on(&self.gradient)),
        };
        let (config, space) = (Config::default(), Some(&self.workspace));
        let gpu = &self.gpu;
        let done = gpu.encode_plan(
            encoder, &self.plan, &config, PROGRESS, &batch, &outputs, space,
        );
        done.expect("the work is valid");
    }

    /// The time that encoding takes on the CPU.
    pub fn encoding(&self) -> Duration {
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        let start = Instant::now();
        self.record(&mut encoder);
        start.elapsed()
    }

    fn copy_times(&self, bytes: u64) -> Vec<Duration> {
        let bytes = bytes.min(self.gpu.device().limits().max_buffer_size / 2);
        let make = || {
            self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes,
                usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let (from, to) = (make(), make());
        let copy = |encoder: &mut wgpu::CommandEncoder| {
            encoder.copy_buffer_to_buffer(&from, 0, &to, 0, bytes);
        };
        (0..12).map(|_| self.timed(copy).0).collect()
    }

    fn read(&self, work: &Work) -> (Gradient, Summary) {
        let fetch = |buffer: &wgpu::Buffer, bytes: u64| {
            let staging = self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes.next_multiple_of(4),
                usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
                mapped_at_creation: false,
            });
            let mut encoder = self
                .gpu
                .device()
                .create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, bytes.next_multiple_of(4));
            self.gpu.queue().submit([encoder.finish()]);
            self.mapped(&staging, bytes)
        };
        let summary = bytemuck::pod_read_unaligned(&fetch(&self.summary, 32));
        let bytes = fetch(&self.gradient, work.model_bytes() / 3);
        let gradient = match self.storage {
            Storage::F32 => Gradient::F32(bytemuck::pod_collect_to_vec(&bytes)),
            Storage::F16 => Gradient::F16(bytemuck::pod_collect_to_vec(&bytes)),
            Storage::Bf16 => Gradient::Bf16(bytemuck::pod_collect_to_vec(&bytes)),
        };
        (gradient, summary)
    }
}

/// The engine with this name: `cpu`, `auto`, or a part of an adapter's name.
pub fn engine(name: &str) -> Engine {
    match name {
        "cpu" => Engine::cpu(),
        "auto" => Engine::auto(),
        name => Engine::gpu(name).unwrap_or_else(|e| {
            eprintln!("{e}");
            std::process::exit(1);
        }),
    }
}
