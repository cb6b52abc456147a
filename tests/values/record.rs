//! Buffers of a test, one step recorded on them, and their contents afterwards.

// Each test binary compiles this module and uses a part of it.
#![allow(dead_code)]

use wgpu_distill::gpu::{Gpu, GpuBatch, GpuOutputs, GpuSlice};
use wgpu_distill::wgpu::util::DeviceExt;
use wgpu_distill::{Config, Progress, Result, RowResult, Summary, wgpu};

use crate::cases::compare::Outcome;

/// Creates a buffer with these bytes.
pub fn filled(gpu: &Gpu, bytes: &[u8]) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let descriptor = wgpu::util::BufferInitDescriptor {
        label: None,
        contents: bytes,
        usage,
    };
    gpu.device().create_buffer_init(&descriptor)
}

pub fn at(buffer: &wgpu::Buffer, offset: u64) -> GpuSlice<'_> {
    GpuSlice { buffer, offset }
}

/// Returns row results and summary of a step with the given other outputs, and the bytes of `buffers` after it.
pub fn run(
    gpu: &Gpu,
    config: &Config,
    progress: Progress,
    batch: &GpuBatch<'_>,
    outputs: GpuOutputs<'_>,
    buffers: &[&wgpu::Buffer],
) -> Result<(Outcome, Vec<Vec<u8>>)> {
    let results = filled(gpu, &vec![0xa5; 16 * batch.rows]);
    let summary = filled(gpu, &[0xa5; size_of::<Summary>()]);
    let outputs = GpuOutputs {
        summary: Some(at(&summary, 0)),
        row_results: Some(at(&results, 0)),
        ..outputs
    };
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    gpu.encode(&mut encoder, config, progress, batch, &outputs, None)?;
    let mut staged = Vec::new();
    for buffer in [&results, &summary]
        .into_iter()
        .chain(buffers.iter().copied())
    {
        let staging = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: buffer.size(),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
        staged.push(staging);
    }
    gpu.queue().submit([encoder.finish()]);
    for staging in &staged {
        staging
            .slice(..)
            .map_async(wgpu::MapMode::Read, |done| done.expect("mapping"));
    }
    let done = gpu.device().poll(wgpu::PollType::wait_indefinitely());
    done.expect("the device works");
    let read = |s: &wgpu::Buffer| s.slice(..).get_mapped_range().expect("mapped").to_vec();
    let mut bytes: Vec<Vec<u8>> = staged.iter().map(read).collect();
    let rest = bytes.split_off(2);
    let outcome = Outcome {
        summary: bytemuck::pod_read_unaligned::<Summary>(&bytes[1]),
        rows: bytemuck::pod_collect_to_vec::<u8, RowResult>(&bytes[0]),
        gradient: Vec::new(),
        metrics: Vec::new(),
    };
    Ok((outcome, rest))
}
