//! 16-bit gradients whose rows share words. Two workgroups write halves of one word in a varying order.
//!
//! The bits are the same alone, repeatedly, from many threads, and from threads on a context without compiled kernels.

use std::sync::Barrier;

use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use wgpu_distill::{GradWrite, Storage, half, wgpu};

use super::Work;
use crate::adapter;
use crate::cases::is_long;

const THREADS: usize = 8;

/// Destinations of the gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Into {
    Fresh,
    InPlace,
    Added,
}

/// A problem with 16-bit matrices, without gaps, and an odd number of classes.
#[derive(Clone, Copy, Debug)]
struct Case {
    n: usize,
    storage: Storage,
    into: Into,
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for storage in [Storage::F16, Storage::Bf16] {
        for into in [Into::Fresh, Into::InPlace, Into::Added] {
            // 3, 33, 257 and 2,049 classes, each with a different number of rows.
            all.extend([7, 9, 18, 27].map(|n| Case { n, storage, into }));
        }
    }
    all
}

fn in_halves(values: &[f32], storage: Storage) -> Vec<u8> {
    let to = |x: &f32| match storage {
        Storage::F16 => half::f16::from_f32(*x).to_bits(),
        _ => half::bf16::from_f32(*x).to_bits(),
    };
    let halves: Vec<u16> = values.iter().map(to).collect();
    bytemuck::cast_slice(&halves).to_vec()
}

impl Case {
    /// The bytes of the gradient, the row results and the summary.
    fn run(&self, gpu: &Gpu) -> Vec<Vec<u8>> {
        use wgpu::util::DeviceExt;
        let device = gpu.device();
        let work = Work::new(self.n);
        let (rows, classes) = (work.labels.len(), work.classes);
        assert_eq!(classes % 2, 1);
        let buffer = |bytes: &[u8]| {
            let mut contents = bytes.to_vec();
            contents.resize(bytes.len().next_multiple_of(16), 0);
            device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
                label: None,
                contents: &contents,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            })
        };
        let student = buffer(&in_halves(&work.student, self.storage));
        let teacher = buffer(&in_halves(&work.teacher, self.storage));
        let labels = buffer(bytemuck::cast_slice(&work.labels));
        let before = buffer(&in_halves(&work.teacher, self.storage));
        let results = buffer(&vec![0; 16 * rows]);
        let summary = buffer(&[0; size_of::<wgpu_distill::Summary>()]);
        let gradient = match self.into {
            Into::InPlace => &student,
            Into::Fresh | Into::Added => &before,
        };
        let on = |buffer| GpuLogits::new(buffer, self.storage, classes);
        let at = |buffer| GpuSlice { buffer, offset: 0 };
        let batch = GpuBatch {
            rows,
            student_logits: on(&student),
            teacher_logits: on(&teacher),
            labels: at(&labels).into(),
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let outputs = GpuOutputs {
            summary: Some(at(&summary)),
            row_results: Some(at(&results)),
            gradient: Some(on(gradient)),
            row_metrics: None,
        };
        let mut config = work.config;
        if self.into == Into::Added {
            config.grad_write = GradWrite::Accumulate;
        }
        let mut encoder = device.create_command_encoder(&Default::default());
        gpu.encode(&mut encoder, &config, work.progress, &batch, &outputs, None)
            .unwrap_or_else(|e| panic!("{self:?}: {e}"));
        read(gpu, encoder, &[gradient, &results, &summary])
    }
}

/// Submits, waits for this submission only, and reads the buffers.
fn read(gpu: &Gpu, mut encoder: wgpu::CommandEncoder, buffers: &[&wgpu::Buffer]) -> Vec<Vec<u8>> {
    let device = gpu.device();
    let back = |buffer: &&wgpu::Buffer| {
        let back = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: buffer.size(),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        encoder.copy_buffer_to_buffer(buffer, 0, &back, 0, buffer.size());
        back
    };
    let staging: Vec<_> = buffers.iter().map(back).collect();
    gpu.queue().submit([encoder.finish()]);
    let (sender, receiver) = std::sync::mpsc::channel();
    for buffer in &staging {
        let sender = sender.clone();
        buffer
            .slice(..)
            .map_async(wgpu::MapMode::Read, move |done| {
                sender.send(done).expect("somebody waits");
            });
    }
    let waited = device.poll(wgpu::PollType::wait_indefinitely());
    waited.expect("the device works");
    // The poll of another thread may run the callback.
    for _ in &staging {
        let done = receiver.recv().expect("a callback for each");
        done.expect("mapped");
    }
    let bytes = |buffer: &wgpu::Buffer| buffer.slice(..).get_mapped_range().unwrap().to_vec();
    staging.iter().map(bytes).collect()
}

#[test]
fn shared_words_hold_the_same_bits_every_time() {
    let _turn = crate::turn();
    let Some(gpu) = adapter::gpu() else { return };
    for case in cases() {
        let first = case.run(&gpu);
        for run in 1..12 {
            assert_eq!(case.run(&gpu), first, "{case:?}, run {run}");
        }
    }
}

/// All threads start together on contexts without compiled kernels, so that several need the same kernel at once.
#[test]
fn threads_that_come_first_get_the_bits_that_one_gets() {
    let _turn = crate::turn();
    let Some(gpu) = adapter::gpu() else { return };
    let cases = cases();
    let alone: Vec<_> = cases.iter().map(|case| case.run(&gpu)).collect();
    // With the features and the device of the shared context, but without compiled kernels.
    let fresh = || Gpu::new(gpu.device(), gpu.queue());
    for _ in 0..if is_long() { 10 } else { 1 } {
        let context = fresh();
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (context, start, cases, alone) = (&context, &start, &cases, &alone);
                scope.spawn(move || {
                    start.wait();
                    for i in 0..cases.len() {
                        // Two threads start at each case.
                        let i = (i + thread / 2 * 6) % cases.len();
                        assert_eq!(cases[i].run(context), alone[i], "{:?}", cases[i]);
                    }
                });
            }
        });
    }
}
