//! Calls on buffers: any offsets, strides and buffers are refused before anything is recorded, or recorded without a wgpu error.
//!
//! Nothing is submitted.

use std::sync::OnceLock;

use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use wgpu_distill::{Config, GradWrite, Scope, TeacherClasses, wgpu};

use super::bytes::{self, Bytes};
use crate::{adapter, buffers};

/// A context and its buffers. All inputs share three contexts: with the adapter's limits, with default limits, with a browser's rules.
struct World {
    gpu: Gpu,
    buffers: Vec<wgpu::Buffer>,
}

fn worlds() -> Option<&'static [World]> {
    static WORLDS: OnceLock<Option<Vec<World>>> = OnceLock::new();
    let make = || {
        let own = buffers::gpu()?;
        let default = adapter::with_default_limits(wgpu::Features::empty())?;
        let browser = default.with_browser_rules();
        Some([own, default, browser].map(World::new).into())
    };
    WORLDS.get_or_init(make).as_deref()
}

impl World {
    fn new(gpu: Gpu) -> Self {
        let storage = wgpu::BufferUsages::STORAGE;
        let kinds = [
            (1 << 16, storage),
            (1 << 16, storage),
            (4096, storage),
            (1026, storage),
            (4, storage),
            (4096, wgpu::BufferUsages::COPY_DST),
        ];
        let make = |(size, usage)| {
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let buffers = kinds.map(make).into();
        Self { gpu, buffers }
    }

    fn buffer(&self, from: &mut Bytes<'_>) -> &wgpu::Buffer {
        let n = match from.byte() {
            0..240 => from.below(3),
            _ => from.below(self.buffers.len()),
        };
        &self.buffers[n]
    }

    fn logits(&self, from: &mut Bytes<'_>, classes: usize) -> GpuLogits<'_> {
        let storage = bytes::storage(from);
        let buffer = self.buffer(from);
        let element = storage.bytes() as u64;
        GpuLogits {
            buffer,
            storage,
            classes,
            offset: match from.byte() {
                0..200 => 256 * from.below(64) as u64,
                200..250 => element * from.below(9000) as u64,
                250..253 => from.below(9000) as u64,
                _ => from.u64(),
            },
            row_stride: match from.byte() {
                0..250 => classes.saturating_add(from.below(9)),
                _ => from.size(),
            },
        }
    }

    fn slice(&self, from: &mut Bytes<'_>, alignment: usize) -> GpuSlice<'_> {
        GpuSlice {
            buffer: self.buffer(from),
            offset: match from.byte() {
                0..245 => (alignment * from.below(16384 / alignment)) as u64,
                245..252 => from.below(9000) as u64,
                _ => from.u64(),
            },
        }
    }
}

fn config(from: &mut Bytes<'_>) -> Config {
    Config {
        scope: from.of(&[Scope::Row, Scope::Row, Scope::Batch]),
        grad_write: from.of(&[GradWrite::Overwrite, GradWrite::Accumulate]),
        teacher_classes: from.of(&[TeacherClasses::SameAsStudent, TeacherClasses::CommonPrefix]),
        ..Config::default()
    }
}

/// Returns true if the call was recorded.
pub fn check(bytes: &[u8]) -> Result<bool, String> {
    let worlds = worlds().ok_or("no GPU to test")?;
    let from = &mut Bytes::new(bytes);
    let world = &worlds[from.below(worlds.len())];
    let config = config(from);
    let progress = match from.rarely(60) {
        true => bytes::progress(from),
        false => wgpu_distill::Progress::new(1, 2),
    };
    let rows = match from.byte() {
        0..250 => from.below(5),
        _ => from.size(),
    };
    let classes = match from.byte() {
        0..250 => from.of(&[1, 2, 3, 4, 5, 8, 33, 200]),
        _ => from.size(),
    };
    let theirs = if from.rarely(8) {
        from.below(40)
    } else {
        classes
    };
    let student_logits = world.logits(from, classes);
    let batch = GpuBatch {
        rows,
        student_logits,
        teacher_logits: world.logits(from, theirs),
        labels: world.slice(from, 4).into(),
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let gradient = match from.byte() {
        0..40 => None,
        40..90 => Some(student_logits),
        90..250 => Some(world.logits(from, classes)),
        _ => Some(world.logits(from, theirs)),
    };
    let outputs = GpuOutputs {
        summary: (!from.rarely(4)).then(|| world.slice(from, 256)),
        row_results: (!from.rarely(4)).then(|| world.slice(from, 16)),
        gradient,
        row_metrics: None,
    };

    let device = world.gpu.device();
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let mut encoder = device.create_command_encoder(&Default::default());
    let encoded = world
        .gpu
        .encode(&mut encoder, &config, progress, &batch, &outputs, None);
    drop(encoder.finish());
    let objection = pollster::block_on(scope.pop());
    let about = || format!("{config:?}\n{batch:?}\n{outputs:?}");
    match (encoded, objection) {
        (Ok(()), None) => Ok(true),
        (Err(_), None) => Ok(false),
        (encoded, Some(objection)) => Err(format!("{encoded:?}, but {objection}\n{}", about())),
    }
}
