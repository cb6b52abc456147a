//! Lost devices: every call ends with an error that names the loss.
//!
//! The application's callbacks and scopes keep working, and other devices are not affected.

use std::future::Future;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::steps::Steps;
use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs};
use wgpu_distill::{
    Batch, Config, Decision, Distillation, Engine, Error, Outputs, Progress, Result, RowStats,
    Storage, wgpu,
};

use super::{App, at, labels, noise};

pub const HALFWAY: Progress = Progress { step: 1, total: 2 };
/// Longer than any call takes on a slow machine. A call that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs work that might hang, and fails if it hangs or panics.
fn in_time<T: Send + 'static>(about: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    match receiver.recv_timeout(PATIENCE) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{about}: hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{about}: panics"),
    }
}

/// A batch large enough that it is still running when the device is lost.
pub struct Work {
    values: [Vec<f32>; 2],
    pub labels: Vec<i32>,
}

pub const CLASSES: usize = 1000;

impl Work {
    pub fn new() -> Self {
        let rows = 2000;
        Self {
            values: [1, 2].map(|seed| noise(rows * CLASSES, seed)),
            labels: labels(rows, CLASSES),
        }
    }

    pub fn batch(&self) -> Batch<'_> {
        let [student, teacher] = &self.values;
        Batch::new(student, teacher, &self.labels, CLASSES)
    }

    pub fn run(&self, gpu: &Gpu) -> Result<Distillation> {
        gpu.run(&Config::default(), HALFWAY, &self.batch(), Outputs::ALL)
    }
}

fn is_loss<T: std::fmt::Debug>(about: &str, result: Result<T>) {
    match result {
        Err(Error::DeviceLost(reason)) => {
            assert!(!reason.is_empty(), "{about}");
            // Mapping is internal: the text must not send the user there.
            assert!(!reason.contains("map"), "{about}: {reason}");
        }
        // Another error would mislead the user: `OutOfMemory` towards memory, an internal error towards a bug report.
        other => panic!("{about}: {other:?}, expected the loss of the device"),
    }
}

/// Every call of a context on a lost device.
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
    let lost = Arc::<Mutex<Vec<wgpu::DeviceLostReason>>>::default();
    let sink = lost.clone();
    app.device
        .set_device_lost_callback(move |reason, _| sink.lock().unwrap().push(reason));
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
            let rows = work.labels.len();
            e.softmax(&work.batch().student_logits, rows, 1.0).map(drop)
        }),
        ("observe", |e| {
            e.observe(&Config::default(), &Work::new().batch())
                .map(drop)
        }),
        ("decide", |e| {
            e.decide(&Config::default(), HALFWAY, &[RowStats::default(); 3], 4)
                .map(drop)
        }),
        ("apply", |e| {
            let work = Work::new();
            let decisions = vec![Decision::default(); work.labels.len()];
            e.apply(&Config::default(), &work.batch(), &decisions)
                .map(drop)
        }),
    ];
    for (about, call) in calls {
        let engine = Engine::Gpu(gpu.clone());
        let device = app.device.clone();
        let (result, heard) = in_time(about, move || {
            let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
            let result = call(engine);
            (result, pollster::block_on(scope.pop()))
        });
        is_loss(about, result);
        assert!(
            heard.is_none(),
            "{about}: the application's scope: {heard:?}"
        );
    }
    app.is_silent();
    // The application's callback is still set and was called once.
    let _ = app.device.poll(wgpu::PollType::Poll);
    assert_eq!(*lost.lock().unwrap(), [wgpu::DeviceLostReason::Destroyed]);
    // A new context on the same adapter works.
    let next = App::new(wgpu::Limits::default()).expect("as before");
    let done = Work::new().run(&next.gpu());
    assert!(done.is_ok(), "{done:?}");
    next.is_silent();
}

/// The device is lost during a call. The future returns the loss, and a context on another device is not affected.
#[test]
fn a_device_destroyed_under_way_ends_the_future() {
    let apps = [(); 2].map(|()| App::new(wgpu::Limits::default()));
    let [Some(app), Some(healthy)] = apps else {
        return;
    };
    let before = Work::new().run(&healthy.gpu());
    assert!(before.is_ok(), "{before:?}");
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
        assert!(
            polled.is_pending(),
            "it was done before the device could go"
        );
        device.destroy();
        pollster::block_on(future).map(drop)
    });
    is_loss("under way", result);
    app.is_silent();
    assert_eq!(Work::new().run(&healthy.gpu()), before, "on another device");
    healthy.is_silent();
}

/// `encode` on a lost device returns an error without a panic or a hang. The application's handler receives nothing.
#[test]
fn encoding_for_a_destroyed_device_is_an_error() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    let buffer = app.buffer(&[0; 1024]);
    let device = app.device.clone();
    app.device.destroy();
    let done = in_time("encode", move || {
        let mut encoder = device.create_command_encoder(&Default::default());
        let logits = GpuLogits::new(&buffer, Storage::F32, 4);
        let batch = GpuBatch {
            rows: 2,
            student_logits: logits,
            teacher_logits: logits,
            labels: at(&buffer, 512).into(),
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let config = Config::default();
        let outputs = GpuOutputs::default();
        gpu.encode(&mut encoder, &config, HALFWAY, &batch, &outputs, None)
    });
    assert!(matches!(done, Err(Error::DeviceLost(_))), "{done:?}");
    app.is_silent();
}

/// Error scopes of the application around calls of the library catch the application's errors and none of the library's.
#[test]
fn the_applications_scopes_stay_its_own() {
    let Some(app) = App::new(wgpu::Limits::default()) else {
        return;
    };
    let gpu = app.gpu();
    let work = Work::new();
    let mistake = || {
        let _ = app.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("the application's mistake"),
            size: 1 << 40,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
    };
    for (first, second) in [(false, false), (true, false), (false, true)] {
        let scope = app.device.push_error_scope(wgpu::ErrorFilter::Validation);
        if first {
            mistake();
        }
        let done = work.run(&gpu);
        if second {
            mistake();
        }
        let heard = pollster::block_on(scope.pop());
        assert!(done.is_ok(), "{done:?}");
        assert_eq!(heard.is_some(), first || second, "{heard:?}");
    }
    app.is_silent();
}
