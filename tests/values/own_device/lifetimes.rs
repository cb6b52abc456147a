//! Ends: futures that nobody waits for, buffers that are gone. Nothing hangs, nothing panics, what remains works on.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use wgpu_distill::gpu::{GpuBatch, GpuLogits, GpuOutputs, Workspace};
use wgpu_distill::{Config, Decision, Outputs, Storage, wgpu};

use super::losses::{CLASSES, HALFWAY, Work};
use super::{App, at};

/// Futures dropped before they began and while their work is under way: the context does the next work as if nothing had been.
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

/// Polls a future once and drops it. Returns true if it was still under way.
fn dropped_under_way<T>(future: impl Future<Output = T>) -> bool {
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    polled.is_pending()
}

/// The same of each step on its own, again and again: nothing piles up that would give the next call other results.
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

/// An error of the application's own reaches its handler, also while our work is prepared and after.
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
    // More than any buffer may have.
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

/// Buffers that cannot be used, in each place that takes one: destroyed, mapped, or of another device. wgpu finds that out, and says so to whoever owns the device; we neither panic nor hide it, and the next work with the right buffers is done.
#[test]
fn unusable_buffers_are_reported_to_the_application() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    // Of the same instance: buffers of another one wgpu cannot tell from its own, or panics.
    let other = pollster::block_on(app.adapter.request_device(&Default::default()));
    let (other, _queue) = other.expect("a second device");
    let gpu = app.gpu();
    let (rows, classes) = (2, 4);
    let right = || app.buffer(&[0; 256]);
    // Mapping needs a usage that storage may not have: a buffer still mapped from its creation will do.
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
            labels: at(labels, 0),
        };
        let outputs = GpuOutputs {
            gradient: Some(on(gradient)),
            row_results: Some(at(results, 0)),
            summary: Some(at(summary, 0)),
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
            assert!(told, "{about}, place {place}: nobody was told");
            let next = step(&[(); 6].map(|()| right()), None);
            assert_eq!(next, Ok(()), "after {about}, place {place}");
            app.is_silent();
        }
    }
    // A workspace of another device, which then goes as well.
    let own = [(); 6].map(|()| right());
    let workspace = {
        let on = |buffer| GpuLogits::new(buffer, Storage::F32, classes);
        let batch = GpuBatch {
            rows,
            student_logits: on(&own[0]),
            teacher_logits: on(&own[1]),
            labels: at(&own[2], 0),
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
        assert!(told, "a workspace {about}: nobody was told");
        assert_eq!(step(&own, None), Ok(()), "after a workspace {about}");
        app.is_silent();
        other.destroy();
    }
}
