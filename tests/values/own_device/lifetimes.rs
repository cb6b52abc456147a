//! Dropped futures and unusable buffers. Nothing hangs or panics, and the context stays usable.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use wgpu_distill::gpu::{GpuBatch, GpuLogits, GpuOutputs, Workspace};
use wgpu_distill::{Config, Decision, Outputs, Storage, wgpu};

use super::losses::{CLASSES, HALFWAY, Work};
use super::{App, at};

/// Futures dropped before they begin and during their work do not affect later calls.
#[test]
fn dropped_futures_leave_the_context_working() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    let work = Work::new();
    let before = work.run(&gpu);
    assert!(before.is_ok(), "{before:?}");
    let config = Config::default();
    let mut under_way = 0;
    for _ in 0..4 {
        let batch = work.batch();
        drop(gpu.run_async(&config, HALFWAY, &batch, Outputs::ALL));
        let mut future = Box::pin(gpu.run_async(&config, HALFWAY, &batch, Outputs::ALL));
        let polled = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        under_way += usize::from(polled.is_pending());
        drop(future);
    }
    assert!(under_way > 0, "none was dropped before its end");
    assert_eq!(work.run(&gpu), before, "the same bits as before");
    app.is_silent();
}

/// Polls a future once and drops it. Returns true if it was not complete.
fn dropped_under_way<T>(future: impl Future<Output = T>) -> bool {
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    polled.is_pending()
}

/// Dropped futures of each step, repeatedly, do not change the results of later calls.
#[test]
fn dropped_steps_leave_the_context_working() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    let work = Work::new();
    let (batch, rows, config) = (work.batch(), work.labels.len(), Config::default());
    let logits = &batch.student_logits;
    let decisions = vec![Decision::default(); rows];
    let stats = gpu.observe(&config, &batch).expect("valid");
    let all = || {
        (
            gpu.softmax(logits, rows, 1.0),
            gpu.observe(&config, &batch),
            gpu.decide(&config, HALFWAY, &stats, CLASSES),
            gpu.apply(&config, &batch, &decisions),
        )
    };
    let before = all();
    let is_ok = [before.0.is_ok(), before.1.is_ok(), before.2.is_ok()];
    assert_eq!((is_ok, before.3.is_ok()), ([true; 3], true));
    let mut under_way = [0; 4];
    for _ in 0..4 {
        drop(gpu.softmax_async(logits, rows, 1.0));
        drop(gpu.observe_async(&config, &batch));
        drop(gpu.decide_async(&config, HALFWAY, &stats, CLASSES));
        drop(gpu.apply_async(&config, &batch, &decisions));
        let now = [
            dropped_under_way(gpu.softmax_async(logits, rows, 1.0)),
            dropped_under_way(gpu.observe_async(&config, &batch)),
            dropped_under_way(gpu.decide_async(&config, HALFWAY, &stats, CLASSES)),
            dropped_under_way(gpu.apply_async(&config, &batch, &decisions)),
        ];
        for (count, now) in under_way.iter_mut().zip(now) {
            *count += u32::from(now);
        }
        assert!(all() == before, "other results after dropped futures");
    }
    assert!(
        under_way.iter().all(|n| *n > 0),
        "dropped at their end: {under_way:?}"
    );
    app.is_silent();
}

/// An error of the application reaches its handler, before, during and after calls of the library.
#[test]
fn the_applications_errors_stay_its_own() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    let work = Work::new();
    let batch = work.batch();
    let config = Config::default();
    let mut future = Box::pin(gpu.run_async(&config, HALFWAY, &batch, Outputs::SUMMARY));
    let polled = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    drop(polled);
    // Larger than the largest allowed buffer.
    let _ = app.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("the application's mistake"),
        size: 1 << 40,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let heard = std::mem::take(&mut *app.heard.lock().unwrap());
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].contains("the application's mistake"), "{heard:?}");
    let done = pollster::block_on(future);
    assert!(done.is_ok(), "{done:?}");
    app.is_silent();
}

/// Unusable buffers in each argument: destroyed, mapped, or from another device.
///
/// wgpu detects them and reports them to the device's owner. The library neither panics nor hides the error, and the next call succeeds.
#[test]
fn unusable_buffers_are_reported_to_the_application() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    // A device of the same instance. With buffers of another instance wgpu may panic or not notice.
    let other = pollster::block_on(app.adapter.request_device(&Default::default()));
    let (other, _queue) = other.expect("a second device");
    let gpu = app.gpu();
    let (rows, classes) = (2, 4);
    let right = || app.buffer(&[0; 256]);
    // `MAP_WRITE` cannot be combined with `STORAGE`, so the buffer stays mapped from its creation.
    let mapped = || {
        app.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("mapped"),
            size: 256,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: true,
        })
    };
    let destroyed = || {
        let buffer = right();
        buffer.destroy();
        buffer
    };
    let foreign = || {
        other.create_buffer(&wgpu::BufferDescriptor {
            label: Some("foreign"),
            size: 256,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    };
    let step = |buffers: &[wgpu::Buffer; 6], workspace: Option<&Workspace>| {
        let [student, teacher, labels, gradient, results, summary] = buffers;
        let on = |buffer| GpuLogits::new(buffer, Storage::F32, classes);
        let batch = GpuBatch {
            rows,
            student_logits: on(student),
            teacher_logits: on(teacher),
            labels: at(labels, 0).into(),
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let outputs = GpuOutputs {
            gradient: Some(on(gradient)),
            row_results: Some(at(results, 0)),
            summary: Some(at(summary, 0)),
            row_metrics: None,
        };
        let mut encoder = app.encoder();
        let config = Config::default();
        let encoded = gpu.encode(&mut encoder, &config, HALFWAY, &batch, &outputs, workspace);
        app.queue.submit([encoder.finish()]);
        let done = app.device.poll(wgpu::PollType::wait_indefinitely());
        done.expect("the device works");
        encoded
    };
    for (about, wrong) in [
        ("destroyed", &destroyed as &dyn Fn() -> wgpu::Buffer),
        ("mapped", &mapped),
        ("of another device", &foreign),
    ] {
        for place in 0..6 {
            let mut buffers = [(); 6].map(|()| right());
            buffers[place] = wrong();
            let encoded = step(&buffers, None);
            let heard = std::mem::take(&mut *app.heard.lock().unwrap());
            let told = encoded.is_err() || !heard.is_empty();
            assert!(told, "{about}, place {place}: no error was reported");
            let next = step(&[(); 6].map(|()| right()), None);
            assert_eq!(next, Ok(()), "after {about}, place {place}");
            app.is_silent();
        }
    }
    // A workspace from another device, which is then destroyed.
    let own = [(); 6].map(|()| right());
    let workspace = {
        let on = |buffer| GpuLogits::new(buffer, Storage::F32, classes);
        let batch = GpuBatch {
            rows,
            student_logits: on(&own[0]),
            teacher_logits: on(&own[1]),
            labels: at(&own[2], 0).into(),
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let outputs = GpuOutputs {
            gradient: Some(on(&own[3])),
            ..GpuOutputs::default()
        };
        let plan = gpu.plan(&Config::default(), &batch, &outputs);
        let plan = plan.expect("nothing is wrong with these");
        let [ours, theirs] = [&app.device, &other].map(|d| Workspace::new(d, &plan));
        assert_eq!(step(&own, Some(&ours)), Ok(()));
        app.is_silent();
        theirs
    };
    for about in ["of another device", "of a device that is destroyed"] {
        let encoded = step(&own, Some(&workspace));
        let heard = std::mem::take(&mut *app.heard.lock().unwrap());
        let told = encoded.is_err() || !heard.is_empty();
        assert!(told, "a workspace {about}: no error was reported");
        assert_eq!(step(&own, None), Ok(()), "after a workspace {about}");
        app.is_silent();
        other.destroy();
    }
}
