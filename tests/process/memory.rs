//! Internal allocations, counted by the device's allocator, are in proportion to the rows and independent of the classes.

use crate::{adapter, report};
use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs, GpuSlice};
use wgpu_distill::{Config, Progress, Scope, Storage, wgpu};

/// Bytes of all allocations on the device.
fn allocated(gpu: &Gpu) -> u64 {
    let report = gpu.device().generate_allocator_report();
    report
        .expect("this backend's allocator reports")
        .total_allocated_bytes
}

/// Bytes that one encoding adds, and the bytes that the plan states.
fn added(gpu: &Gpu, rows: usize, classes: usize, scope: Scope) -> (u64, u64) {
    let buffer = |bytes: usize| {
        gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes as u64,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    };
    let matrix = || buffer(4 * rows * classes);
    let (student, teacher, gradient) = (matrix(), matrix(), matrix());
    let (labels, results) = (buffer(4 * rows), buffer(16 * rows));
    let on = |buffer| GpuLogits::new(buffer, Storage::F32, classes);
    let slice = |buffer| GpuSlice { buffer, offset: 0 };
    let batch = GpuBatch {
        rows,
        student_logits: on(&student),
        teacher_logits: on(&teacher),
        labels: slice(&labels).into(),
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let outputs = GpuOutputs {
        gradient: Some(on(&gradient)),
        row_results: Some(slice(&results)),
        summary: None,
        row_metrics: None,
    };
    let config = Config {
        scope,
        ..Config::default()
    };
    let plan = gpu.plan(&config, &batch, &outputs).expect("valid");
    gpu.prepare(&plan);
    let before = allocated(gpu);
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    gpu.encode(
        &mut encoder,
        &config,
        Progress::new(1, 2),
        &batch,
        &outputs,
        None,
    )
    .expect("valid");
    let after = allocated(gpu);
    gpu.queue().submit([encoder.finish()]);
    let done = gpu.device().poll(wgpu::PollType::wait_indefinitely());
    done.expect("the device works");
    (after.saturating_sub(before), plan.workspace_bytes())
}

/// Room for parameters, alignment and the rounding of the device's allocator.
const SLACK: u64 = 64 << 10;

#[test]
fn extra_memory_is_in_proportion_to_the_rows() {
    let _turn = crate::turn();
    let Some(gpu) = adapter::gpu() else { return };
    for scope in [Scope::Row, Scope::Batch] {
        for rows in [16, 1024] {
            let mut seen = Vec::new();
            for classes in [100, 1000, 8000] {
                let (bytes, planned) = added(&gpu, rows, classes, scope);
                let about =
                    format!("{rows} x {classes}, {scope:?}: {bytes} bytes, {planned} planned");
                assert!(bytes > 0, "nothing was counted: {about}");
                assert!(bytes <= planned + SLACK, "{about}");
                assert!(bytes <= 256 * rows as u64 + SLACK, "{about}");
                seen.push(bytes);
            }
            report::ran(&format!(
                "memory: {rows} rows, {scope:?}: {seen:?} bytes at 100, 1000 and 8000 classes"
            ));
        }
    }
}
