//! The whole method on a GPU, in buffers that are reused.

use std::time::{Duration, Instant};

use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs, GpuSlice, Workspace};
use wgpu_distill::plan::{Plan, Tiling};
use wgpu_distill::{Config, Gradient, Result, Storage, Summary, wgpu};

use super::timer::Timer;
use super::{PROGRESS, Work, values};

/// One problem's buffers, a plan and time stamps.
pub struct GpuRunner {
    gpu: Gpu,
    buffers: Buffers,
    pub planned: Planned,
    timer: Timer,
}

/// One problem's inputs and outputs on a GPU.
struct Buffers {
    rows: usize,
    classes: usize,
    storage: Storage,
    student: wgpu::Buffer,
    teacher: wgpu::Buffer,
    /// The teacher's log-probability of each label.
    tokens: wgpu::Buffer,
    labels: wgpu::Buffer,
    gradient: wgpu::Buffer,
    summary: wgpu::Buffer,
}

impl Buffers {
    fn on<'a>(&self, buffer: &'a wgpu::Buffer) -> GpuLogits<'a> {
        GpuLogits::new(buffer, self.storage, self.classes)
    }

    fn batch(&self, config: &Config) -> GpuBatch<'_> {
        GpuBatch {
            rows: self.rows,
            student_logits: self.on(&self.student),
            teacher_logits: match config.divergence.is_sampled() {
                true => GpuLogits::new(&self.tokens, self.storage, 1),
                false => self.on(&self.teacher),
            },
            labels: GpuSlice {
                buffer: &self.labels,
                offset: 0,
            }
            .into(),
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        }
    }

    fn outputs(&self) -> GpuOutputs<'_> {
        GpuOutputs {
            summary: Some(GpuSlice {
                buffer: &self.summary,
                offset: 0,
            }),
            row_results: None,
            gradient: Some(self.on(&self.gradient)),
            row_metrics: None,
        }
    }
}

/// A plan for a configuration with compiled kernels, and its workspace.
pub struct Planned {
    pub plan: Plan,
    config: Config,
    workspace: Workspace,
}

impl Planned {
    fn new(gpu: &Gpu, buffers: &Buffers, config: &Config, tiling: Option<&Tiling>) -> Result<Self> {
        let (batch, outputs) = (buffers.batch(config), buffers.outputs());
        let plan = match tiling {
            None => gpu.plan(config, &batch, &outputs),
            Some(tiling) => gpu.plan_with_tiling(config, &batch, &outputs, tiling),
        }?;
        gpu.prepare(&plan);
        let workspace = Workspace::new(gpu.device(), &plan);
        Ok(Self {
            plan,
            config: *config,
            workspace,
        })
    }
}

impl GpuRunner {
    pub(super) fn new(gpu: &Gpu, work: &Work, tiling: Option<&Tiling>) -> Result<Self> {
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
        let tokens = upload(values(&work.tokens).as_bytes());
        let labels = upload(bytemuck::cast_slice(&work.labels));
        let bytes = (work.rows * work.classes * work.storage.bytes()) as u64;
        let gradient = make(bytes, Usage::STORAGE | Usage::COPY_SRC);
        let summary = make(256, Usage::STORAGE | Usage::COPY_SRC);
        let buffers = Buffers {
            rows: work.rows,
            classes: work.classes,
            storage: work.storage,
            student,
            teacher,
            tokens,
            labels,
            gradient,
            summary,
        };
        let planned = Planned::new(gpu, &buffers, &work.config, tiling)?;
        let timer = Timer::new(gpu, &buffers.labels);
        Ok(Self {
            gpu: gpu.clone(),
            buffers,
            planned,
            timer,
        })
    }

    /// Another plan for the same buffers and configuration.
    ///
    /// # Errors
    /// Those of a tiling that the device cannot run.
    pub fn planned(&self, tiling: &Tiling) -> Result<Planned> {
        self.planned_for(&self.planned.config, Some(tiling))
    }

    /// A plan for the same buffers and another configuration.
    ///
    /// # Errors
    /// Those of a tiling that the device cannot run.
    pub fn planned_for(&self, config: &Config, tiling: Option<&Tiling>) -> Result<Planned> {
        Planned::new(&self.gpu, &self.buffers, config, tiling)
    }

    /// Makes one call. Returns the device's time, without time stamps the clock's time.
    pub fn time(&self, planned: &Planned) -> Duration {
        self.timer.time(|encoder| self.record(encoder, planned))
    }

    /// Makes one call. Returns the clock's time until the result is there.
    pub(super) fn wall(&self) -> Duration {
        let record = |encoder: &mut wgpu::CommandEncoder| self.record(encoder, &self.planned);
        self.timer.wall(record)
    }

    /// Bytes read and written per second by a large copy.
    pub(super) fn copy_bandwidth(&self) -> f64 {
        self.timer.copy_bandwidth()
    }

    fn record(&self, encoder: &mut wgpu::CommandEncoder, planned: &Planned) {
        let Planned {
            plan,
            config,
            workspace,
        } = planned;
        let (batch, outputs) = (self.buffers.batch(&planned.config), self.buffers.outputs());
        let (gpu, space) = (&self.gpu, Some(workspace));
        let done = gpu.encode_plan(encoder, plan, config, PROGRESS, &batch, &outputs, space);
        done.expect("the work is valid");
    }

    /// The time that encoding takes on the CPU.
    pub fn encoding(&self) -> Duration {
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        let start = Instant::now();
        self.record(&mut encoder, &self.planned);
        start.elapsed()
    }

    /// Runs once more and compares the answer with the reference. Returns the loss.
    pub fn check(&self, planned: &Planned, work: &Work) -> f32 {
        self.time(planned);
        let summary: Summary = bytemuck::pod_read_unaligned(&self.read(
            &self.buffers.summary,
            0,
            size_of::<Summary>() as u64,
        ));
        let storage = self.buffers.storage;
        let bytes = self.buffers.classes * storage.bytes();
        let row_of = |row: usize| {
            let start = row * bytes;
            let bytes = self.read(&self.buffers.gradient, start as u64, bytes as u64);
            match storage {
                Storage::F32 => Gradient::F32(bytemuck::pod_collect_to_vec(&bytes)),
                Storage::F16 => Gradient::F16(bytemuck::pod_collect_to_vec(&bytes)),
                Storage::Bf16 => Gradient::Bf16(bytemuck::pod_collect_to_vec(&bytes)),
            }
        };
        work.check(row_of, &summary);
        summary.loss
    }

    /// A part of a buffer. Copies start and end at multiples of 4 bytes.
    fn read(&self, buffer: &wgpu::Buffer, start: u64, bytes: u64) -> Vec<u8> {
        let first = start / 4 * 4;
        let size = (start + bytes).next_multiple_of(4) - first;
        let staging = self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, first, &staging, 0, size);
        self.gpu.queue().submit([encoder.finish()]);
        let from = (start - first) as usize;
        self.timer.mapped(&staging, size)[from..from + bytes as usize].to_vec()
    }
}
