//! Ends: futures that nobody waits for, devices that are destroyed. Nothing hangs, nothing panics, what remains works on.

use std::future::Future;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::Duration;

use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs};
use wgpu_distill::{
    Batch, Config, Decision, Distillation, Engine, Error, Outputs, Progress, Result, RowStats,
    Storage, wgpu,
};

use crate::{App, at, labels, noise};

const HALFWAY: Progress = Progress { step: 1, total: 2 };
/// Longer than anything here takes on the slowest machine: whoever is not back by then hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs something that might hang, and fails if it does or panics.
fn in_time<T: Send + 'static>(about: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    match receiver.recv_timeout(PATIENCE) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{about}: hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{about}: panics"),
    }
}

/// A batch large enough that it is not done at once.
struct Work {
    values: [Vec<f32>; 2],
    labels: Vec<i32>,
}

const CLASSES: usize = 1000;

impl Work {
    fn new() -> Self {
        let rows = 2000;
        Self {
            values: [1, 2].map(|seed| noise(rows * CLASSES, seed)),
            labels: labels(rows, CLASSES),
        }
    }

    fn batch(&self) -> Batch<'_> {
        let [student, teacher] = &self.values;
        Batch::new(student, teacher, &self.labels, CLASSES)
    }

    fn run(&self, gpu: &Gpu) -> Result<Distillation> {
        gpu.run(&Config::default(), HALFWAY, &self.batch(), Outputs::ALL)
    }
}

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

fn is_loss<T: std::fmt::Debug>(about: &str, result: Result<T>) {
    match result {
        Err(Error::DeviceLost(reason) | Error::Gpu { reason, .. }) => {
            assert!(!reason.is_empty(), "{about}");
        }
        // Out of memory, say, would send its reader to look for memory.
        other => panic!("{about}: {other:?}, expected the loss of the device"),
    }
}

/// Everything that a context offers, on a device that is gone.
#[test]
fn a_destroyed_device_gives_an_error() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    in_time("before", {
        let gpu = gpu.clone();
        move || Work::new().run(&gpu).map(drop)
    })
    .expect("a device that works");
    app.device.destroy();
    type Call = (&'static str, fn(Engine) -> Result<()>);
    let calls: [Call; 5] = [
        ("run", |e| {
            let work = Work::new();
            e.run(&Config::default(), HALFWAY, &work.batch(), Outputs::ALL)
                .map(drop)
        }),
        ("softmax", |e| {
            let work = Work::new();
            e.softmax(&work.batch().student_logits, 3, 1.0).map(drop)
        }),
        ("row_stats", |e| {
            e.row_stats(&Config::default(), &Work::new().batch())
                .map(drop)
        }),
        ("select", |e| {
            e.select(&Config::default(), HALFWAY, &[RowStats::default(); 3], 4)
                .map(drop)
        }),
        ("weighted_cross_entropy", |e| {
            let work = Work::new();
            let decisions = vec![Decision::default(); work.labels.len()];
            e.weighted_cross_entropy(&Config::default(), &work.batch(), &decisions)
                .map(drop)
        }),
    ];
    for (about, call) in calls {
        let engine = Engine::Gpu(gpu.clone());
        let result = in_time(about, move || call(engine));
        is_loss(about, result);
    }
}

/// The device goes while work is under way: the future ends, well or with the loss.
#[test]
fn a_device_destroyed_under_way_ends_the_future() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    let device = app.device.clone();
    let result = in_time("under way", move || {
        let work = Work::new();
        let batch = work.batch();
        let config = Config::default();
        let mut future = Box::pin(gpu.run_async(&config, HALFWAY, &batch, Outputs::ALL));
        let polled = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        device.destroy();
        match polled {
            std::task::Poll::Ready(result) => result.map(drop),
            std::task::Poll::Pending => pollster::block_on(future).map(drop),
        }
    });
    if result.is_err() {
        is_loss("under way", result);
    }
}

/// `encode` on a device that is gone: an error or a command buffer that will never run, but no panic and no hang. What wgpu says goes to the application, whose device it is.
#[test]
fn encoding_for_a_destroyed_device_does_not_panic() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    let buffer = app.buffer(&[0; 1024]);
    let device = app.device.clone();
    app.device.destroy();
    in_time("encode", move || {
        let mut encoder = device.create_command_encoder(&Default::default());
        let logits = GpuLogits::new(&buffer, Storage::F32, 4);
        let batch = GpuBatch {
            rows: 2,
            student_logits: logits,
            teacher_logits: logits,
            labels: at(&buffer, 512),
        };
        let config = Config::default();
        let outputs = GpuOutputs::default();
        let done = gpu.encode(&mut encoder, &config, HALFWAY, &batch, &outputs, None);
        match done {
            Ok(()) | Err(Error::DeviceLost(_) | Error::Gpu { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    });
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
    let step = |buffers: &[wgpu::Buffer; 5]| {
        let [student, teacher, labels, gradient, results] = buffers;
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
            summary: None,
        };
        let mut encoder = app.encoder();
        let config = Config::default();
        let encoded = gpu.encode(&mut encoder, &config, HALFWAY, &batch, &outputs, None);
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
        for place in 0..5 {
            let mut buffers = [(); 5].map(|()| right());
            buffers[place] = wrong();
            let encoded = step(&buffers);
            let heard = std::mem::take(&mut *app.heard.lock().unwrap());
            let told = encoded.is_err() || !heard.is_empty();
            assert!(told, "{about}, place {place}: nobody was told");
            let next = step(&[(); 5].map(|()| right()));
            assert_eq!(next, Ok(()), "after {about}, place {place}");
            app.is_silent();
        }
    }
}
