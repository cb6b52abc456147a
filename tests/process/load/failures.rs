//! Repeated calls without a result: dropped futures, refusals, lost devices. Memory does not grow.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs, GpuSlice, Workspace};
use wgpu_distill::{Config, Engine, Error, Outputs, Scope, Storage, wgpu};

use super::{Work, resident_kib};
use crate::cases::is_long;
use crate::{adapter, report};

/// Bytes in use on the device when no work is pending.
fn allocated(gpu: &Gpu) -> u64 {
    let idle = gpu.device().poll(wgpu::PollType::wait_indefinitely());
    idle.expect("the device works");
    let report = gpu.device().generate_allocator_report();
    report
        .expect("this backend's allocator reports")
        .total_allocated_bytes
}

/// Polls a future once and drops it. Returns true if it was not complete.
fn drop_begun<T>(future: impl Future<Output = T>) -> bool {
    pin!(future)
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

/// A call of `encode` that is refused at its last check, for its workspace. Its encoder is then dropped.
fn refused_encode(gpu: &Gpu, small: &Workspace, work: &Work) {
    let device = gpu.device();
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4 * work.student.len() as u64 + 256,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let logits = GpuLogits::new(&buffer, Storage::F32, work.classes);
    let batch = GpuBatch {
        rows: work.labels.len(),
        student_logits: logits,
        teacher_logits: logits,
        labels: GpuSlice {
            buffer: &buffer,
            offset: 0,
        }
        .into(),
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let config = Config {
        scope: Scope::Batch,
        ..work.config
    };
    let outputs = GpuOutputs::default();
    let mut encoder = device.create_command_encoder(&Default::default());
    let done = gpu.encode(
        &mut encoder,
        &config,
        work.progress,
        &batch,
        &outputs,
        Some(small),
    );
    assert!(
        matches!(done, Err(Error::WorkspaceTooSmall { .. })),
        "{done:?}"
    );
}

#[test]
fn memory_stays_flat_when_calls_fail() {
    let _turn = crate::turn();
    let Some(gpu) = adapter::gpu() else { return };
    let calls = if is_long() { 20_000 } else { 2_000 };
    let problems: Vec<_> = (0..35).map(Work::new).collect();
    // The workspace of a plan without statistics is too small for all other problems.
    let tiny = Work::new(0);
    let engine = Engine::Gpu(gpu.clone());
    let small = {
        let matrix = wgpu_distill::plan::Matrix {
            storage: Storage::F32,
            row_stride: 1,
            offset: 0,
            buffer_bytes: 64,
        };
        let problem = wgpu_distill::plan::Problem::new(1, (matrix, 1), (matrix, 1), None);
        let plan = wgpu_distill::plan::Plan::new(&Config::default(), &problem, &gpu.limits());
        Workspace::new(gpu.device(), &plan.expect("a plan"))
    };
    tiny.run(&engine);
    let mut settled = None;
    let mut under_way = 0;
    for call in 0..calls {
        if call == calls / 10 {
            settled = Some((allocated(&gpu), resident_kib()));
        }
        if call % 16 == 0 {
            // Drops faster than the device works would pile up work, with a waiting thread for each.
            allocated(&gpu);
        }
        // 35 and 4 are coprime.
        let work = &problems[call % problems.len()];
        let batch = work.batch();
        match call % 4 {
            0 => {
                let run = gpu.run_async(&work.config, work.progress, &batch, Outputs::ALL);
                under_way += u32::from(drop_begun(run));
            }
            1 => {
                let steps = gpu.observe_async(&work.config, &batch);
                under_way += u32::from(drop_begun(steps));
                let rows = work.labels.len();
                let softmax = gpu.softmax_async(&batch.student_logits, rows, 1.0);
                under_way += u32::from(drop_begun(softmax));
            }
            2 => {
                let wrong = vec![-7; work.labels.len()];
                let batch = wgpu_distill::Batch {
                    labels: &wrong,
                    ..batch
                };
                let run = gpu.run(&work.config, work.progress, &batch, Outputs::ALL);
                assert!(matches!(run, Err(Error::LabelOutOfRange { .. })), "{run:?}");
            }
            _ if work.labels.len() > 1 => refused_encode(&gpu, &small, work),
            _ => {}
        }
    }
    assert!(
        under_way > calls as u32 / 4,
        "{under_way} were dropped under way"
    );
    let (device_then, host_then) = settled.expect("a tenth of the calls");
    let (device, host) = (allocated(&gpu), resident_kib());
    report::ran(&format!(
        "load: {calls} calls that fail; device memory {device_then} to {device} bytes, process {host_then:?} to {host:?} KiB"
    ));
    assert_eq!(device, device_then, "memory of the device");
    if let (Some(then), Some(now)) = (host_then, host) {
        assert!(now < then + 2048, "{then} KiB, then {now} KiB");
    }
}

/// Creates a context on a new device and makes a call, then another one during which the device may be lost, and a last one.
///
/// Drops everything at the end.
fn use_a_device(adapter: &wgpu::Adapter, work: &Work, lose: bool) {
    let request = adapter.request_device(&Default::default());
    let (device, queue) = pollster::block_on(request).expect("a device");
    let gpu = Gpu::new(&device, &queue);
    work.run(&Engine::Gpu(gpu.clone()));
    let batch = work.batch();
    let mut run = pin!(gpu.run_async(&work.config, work.progress, &batch, Outputs::ALL));
    let begun = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    if lose {
        device.destroy();
    }
    if begun.is_pending() {
        // The work is complete before the loss, or lost.
        let done = pollster::block_on(run);
        assert!(lose || done.is_ok(), "{done:?}");
    }
    let after = gpu.run(&work.config, work.progress, &batch, Outputs::ALL);
    let is_lost = matches!(after, Err(Error::DeviceLost(_)));
    assert!(is_lost || (after.is_ok() && !lose), "{after:?}");
}

/// Lost devices keep no more memory than dropped devices. The memory that drivers keep is the same for both.
#[test]
fn lost_devices_leave_nothing_behind() {
    let _turn = crate::turn();
    let Some(gpu) = adapter::gpu() else { return };
    let name = gpu.device().adapter_info().name;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let adapter = found.into_iter().find(|a| a.get_info().name == name);
    let adapter = adapter.expect("it was there before");
    let work = Work::new(5);
    let devices: u64 = if is_long() { 40 } else { 12 };
    let growth = |lose: bool| -> Option<u64> {
        let before = resident_kib()?;
        (0..devices).for_each(|_| use_a_device(&adapter, &work, lose));
        Some(resident_kib()?.saturating_sub(before))
    };
    // The first rounds are not measured, since arenas and caches grow.
    growth(true);
    growth(false);
    let (Some(let_go), Some(lost)) = (growth(false), growth(true)) else {
        return;
    };
    report::ran(&format!(
        "load: {devices} devices dropped: {let_go} KiB; lost: {lost} KiB"
    ));
    // A leaked context takes ten MiB on llvmpipe.
    assert!(
        lost < let_go + 256 * devices,
        "{let_go} KiB, then {lost} KiB"
    );
}
