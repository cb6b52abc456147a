//! Bad input: an error that says what to do, never a wrong number.

mod devices;
mod inputs;

use burn::backend::{Backend, Dispatch};
use burn::config::Config;
use burn::tensor::{DType, Device, Int, Tensor};
use burn_distill::{
    DistillationLoss, DistillationLossConfig, Error, Path, Progress, Reduction, Scope, Selection,
    Similarity, TeacherClasses,
};
use inputs::{floats, labels, logits};
use wgpu_distill::Error as CoreError;
use wgpu_distill::wgpu::{Features, Limits};

fn loss() -> DistillationLoss {
    DistillationLossConfig::new().init()
}

fn refusal<const D: usize, const L: usize>(
    student: Tensor<D>,
    teacher: Tensor<D>,
    labels: Tensor<L, Int>,
) -> Error {
    loss()
        .try_forward(student, teacher, labels, Progress::new(0, 1))
        .expect_err("it is refused")
}

#[test]
fn shapes() {
    for way in devices::ways() {
        let d = &way.device;
        let (s, t, l) = (logits(1, 4, 5, d), logits(2, 4, 5, d), labels(4, 5, d));
        let fewer = logits(2, 3, 5, d);
        assert!(matches!(
            refusal(s.clone(), fewer, l.clone()),
            Error::Rows { .. }
        ));
        let error = refusal(s.clone(), logits(2, 4, 6, d), l.clone());
        assert_eq!(
            error,
            Error::Distill(CoreError::ShapeMismatch {
                student: 5,
                teacher: 6
            })
        );
        assert!(matches!(
            refusal(s.clone(), t.clone(), labels(3, 5, d)),
            Error::Labels { .. }
        ));
        assert!(matches!(
            refusal(s.clone(), t.clone(), l.clone().reshape([4, 1])),
            Error::Labels { .. }
        ));
        let error = refusal(
            s.clone().reshape([20]),
            t.clone().reshape([20]),
            Tensor::<1, Int>::zeros([20], d),
        );
        assert!(matches!(error, Error::LogitsRank { .. }));
        let error = refusal(
            s.clone().reshape([1, 2, 2, 5]),
            t.reshape([1, 2, 2, 5]),
            l.reshape([1, 2, 2]),
        );
        assert!(matches!(error, Error::LogitsRank { .. }), "{error}");
        let none = Tensor::<2>::zeros([4, 0], d);
        assert!(matches!(
            refusal(none.clone(), none, labels(4, 5, d)),
            Error::Distill(CoreError::ZeroClasses { .. })
        ));
    }
}

#[test]
fn types_and_devices() {
    let flex = Device::flex();
    let (s, t, l) = (
        logits(1, 4, 5, &flex),
        logits(2, 4, 5, &flex),
        labels(4, 5, &flex),
    );
    let wide = s.clone().cast(DType::F64);
    assert_eq!(
        refusal(wide, t.clone(), l.clone()),
        Error::LogitsType {
            name: "student_logits",
            dtype: DType::F64
        }
    );
    if let Some(device) = devices::shared() {
        let elsewhere = logits(2, 4, 5, &device);
        assert!(matches!(
            refusal(s.clone(), elsewhere, l.clone()),
            Error::Devices {
                name: "teacher_logits",
                ..
            }
        ));
        assert!(matches!(
            refusal(s, t, labels(4, 5, &device)),
            Error::Devices { name: "labels", .. }
        ));
    }
}

#[test]
fn progress_and_configuration() {
    let flex = Device::flex();
    let (s, t, l) = (
        logits(1, 4, 5, &flex),
        logits(2, 4, 5, &flex),
        labels(4, 5, &flex),
    );
    for progress in [Progress::new(0, 0), Progress::new(3, 2)] {
        let error = loss().try_forward(s.clone(), t.clone(), l.clone(), progress);
        assert!(matches!(
            error,
            Err(Error::Distill(CoreError::InvalidProgress { .. }))
        ));
    }
    let new = DistillationLossConfig::new;
    for (config, field) in [
        (new().with_student_temperature(0.0), "student_temperature"),
        (
            new().with_teacher_temperature(f32::NAN),
            "teacher_temperature",
        ),
        (new().with_label_smoothing(1.0), "label_smoothing"),
        (new().with_selection(Selection::Fixed(1.5)), "selection"),
        (new().with_scope(Scope::Given(-0.1)), "scope"),
        (new().with_reduction(Reduction::SumOver(0.0)), "reduction"),
        (new().with_grad_scale(0.0), "grad_scale"),
    ] {
        let error = config.try_init().expect_err(field);
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
#[should_panic(expected = "the student has 5 classes and the teacher 6")]
fn forward_panics_with_the_same_words() {
    let flex = Device::flex();
    loss().forward(
        logits(1, 4, 5, &flex),
        logits(2, 4, 6, &flex),
        labels(4, 5, &flex),
        Progress::new(0, 1),
    );
}

/// On the host the label is named; on a GPU, where looking would mean waiting, its row is NaN and counted.
#[test]
fn labels_out_of_range() {
    for way in devices::ways() {
        let d = &way.device;
        let (s, t) = (logits(1, 4, 5, d), logits(2, 4, 5, d));
        let bad = Tensor::<1, Int>::from_data([0, 5, -100, 2], (d, DType::I32));
        let loss = way.loss(DistillationLossConfig::new().init());
        let progress = Progress::new(0, 1);
        let done = loss.try_forward_with_metrics(s.clone(), t.clone(), bad, progress);
        if way.path == Path::Host {
            let want = CoreError::LabelOutOfRange {
                row: 1,
                label: 5,
                classes: 5,
            };
            assert_eq!(done.expect_err("refused"), Error::Distill(want));
        } else {
            let done = done.expect("it cannot know");
            assert!(floats(done.loss)[0].is_nan());
            assert_eq!(done.invalid_labels.into_scalar::<i64>(), 1);
            assert_eq!(done.valid_rows.into_scalar::<i64>(), 2);
            let rows = floats(done.row_loss);
            assert!(rows[1].is_nan() && rows[0].is_finite() && rows[2] == 0.0);
        }
        // A 64-bit label beyond 32 bits is no class, even where its low half would be one.
        if d.supports_dtype(DType::I64) {
            let wide = Tensor::<1, Int>::from_data([0i64, 1 << 32, 1, 2], (d, DType::I64));
            assert_eq!(wide.dtype(), DType::I64);
            let done = loss.try_forward_with_metrics(s, t, wide, progress);
            match done {
                Ok(done) => assert_eq!(done.invalid_labels.into_scalar::<i64>(), 1),
                Err(error) => assert!(error.to_string().contains("row 1"), "{error}"),
            }
        }
    }
}

#[test]
fn configuration_is_saved_and_loaded() {
    let config = DistillationLossConfig::new()
        .with_student_temperature(2.5)
        .with_similarity(Similarity::JensenShannon)
        .with_selection(Selection::Fixed(0.25))
        .with_scope(Scope::Given(0.5))
        .with_reduction(Reduction::SumOver(7.0))
        .with_teacher_classes(TeacherClasses::CommonPrefix)
        .with_ignore_index(3);
    let text = config.to_string();
    let back = DistillationLossConfig::load_binary(text.as_bytes()).expect("what was saved");
    assert_eq!(config, back);
}

/// With fusion the work runs later, and the error is met at the read; without it at the loss. Neither panics.
#[test]
fn a_lost_device_is_an_error() {
    let Some(setup) = devices::application() else {
        return;
    };
    let lost = setup.device.clone();
    let device = burn_distill::adopt(Device::wgpu_options(), setup).expect("a fresh setup");
    let (s, t, l) = (
        logits(1, 4, 5, &device),
        logits(2, 4, 5, &device),
        labels(4, 5, &device),
    );
    let before = loss().forward(s.clone(), t.clone(), l.clone(), Progress::new(0, 1));
    assert!(floats(before)[0].is_finite());
    lost.destroy();
    let _ = lost.poll(wgpu_distill::wgpu::PollType::Poll);
    let after = std::panic::catch_unwind(|| {
        let after = loss().try_forward(s, t, l, Progress::new(0, 1))?;
        let read = after.try_into_data();
        Ok::<_, Error>(read.map(|_| ()).map_err(|error| error.to_string()))
    });
    let at_the_read = match after {
        Ok(Ok(Ok(()))) => panic!("a number was read from a lost device"),
        Ok(Ok(Err(error))) => {
            println!("at the read: {error}");
            true
        }
        Ok(Err(error)) => {
            println!("at the loss: {error}");
            false
        }
        Err(_) => panic!("it panicked instead of giving an error"),
    };
    assert_eq!(at_the_read, cfg!(feature = "fusion"));
}

/// While Burn records a graph our submission would be missing from it.
#[test]
fn a_captured_graph_is_refused() {
    let Some(device) = devices::shared() else {
        return;
    };
    let (s, t, l) = (
        logits(1, 4, 5, &device),
        logits(2, 4, 5, &device),
        labels(4, 5, &device),
    );
    let burn::backend::DispatchDevice::Cube(cube) = device.as_dispatch() else {
        panic!("a wgpu device");
    };
    device.sync().expect("the device is well");
    let client = cube.client();
    client.graph_prepare().expect("wgpu records graphs");
    client.start_capture().expect("wgpu records graphs");
    assert!(client.is_capturing());
    assert_eq!(refusal(s.clone(), t.clone(), l.clone()), Error::Capturing);
    drop(client.stop_capture());
    assert!(loss().try_forward(s, t, l, Progress::new(0, 1)).is_ok());
}

/// Burn's own operations are recorded like any others.
#[test]
fn a_captured_graph_takes_the_composed_path() {
    let Some(setup) = devices::application() else {
        return;
    };
    let device = burn_distill::adopt(Device::wgpu_options(), setup).expect("a fresh setup");
    let on = device.as_dispatch();
    let (s, t, l) = (
        logits(1, 4, 5, &device),
        logits(2, 4, 5, &device),
        labels(4, 5, &device),
    );
    let run = || {
        let (s, t, l) = (s.clone(), t.clone(), l.clone());
        let loss = loss().composed();
        loss.try_forward(s, t, l, Progress::new(0, 1))
            .expect("it is recorded")
    };
    let want = floats(run());
    Dispatch::graph_prepare(on).expect("wgpu records graphs");
    drop(run());
    Dispatch::graph_start_capture(on).expect("wgpu records graphs");
    let recorded = run();
    let graph = Dispatch::graph_stop_capture(on).expect("nothing was missing from it");
    // SAFETY: every tensor of the graph is alive, and no other thread uses the device.
    unsafe { Dispatch::graph_replay(on, &graph) }.expect("it is replayed");
    assert_eq!(floats(recorded), want);
}

/// Logits that Burn can hold on the device but not compute with.
#[test]
fn sixteen_bits_that_the_device_has_not() {
    let without_f16 = |f: &mut Features, _: &mut _| f.remove(Features::SHADER_F16);
    let Some(setup) = devices::application_with(without_f16) else {
        return;
    };
    let device = burn_distill::adopt(Device::wgpu_options(), setup).expect("a fresh setup");
    let plain = logits(1, 4, 5, &device);
    for dtype in [DType::BF16, DType::F16] {
        if device.supports_dtype(dtype) {
            assert_ne!(dtype, DType::BF16, "WGSL has no bf16");
            continue;
        }
        let data = logits(2, 4, 5, &Device::flex()).into_data();
        let narrow = Tensor::<2>::from_data(data.convert_dtype(dtype), (&device, dtype));
        for (name, student, teacher) in [
            ("student_logits", narrow.clone(), plain.clone()),
            ("teacher_logits", plain.clone(), narrow),
        ] {
            let error = refusal(student, teacher, labels(4, 5, &device));
            let device = format!("{device:?}");
            let want = Error::TypeOnDevice {
                name,
                dtype,
                device,
            };
            assert_eq!(error, want);
            assert!(error.to_string().contains("convert_dtype"), "{error}");
        }
    }
}

/// Before anything is queued: with fusion an error from within the queue would come at some later read.
#[test]
fn a_row_longer_than_the_device_can_bind() {
    const LIMIT: u64 = 1 << 20;
    let narrow = |_: &mut _, l: &mut Limits| l.max_storage_buffer_binding_size = LIMIT as _;
    let shared = devices::application_with(narrow)
        .map(|setup| burn_distill::adopt(Device::wgpu_options(), setup));
    let unshared =
        devices::application_with(narrow).map(|setup| Device::wgpu_options().setup(setup).init());
    for device in [shared, unshared].into_iter().flatten() {
        let device = device.expect("a fresh setup");
        let path = Path::of(&device);
        let row = |classes| Tensor::<2>::zeros([1, classes], (&device, DType::F32));
        let label = || Tensor::<1, Int>::zeros([1], (&device, DType::I32));
        // A binding starts at a multiple of the device's alignment before the row.
        let most = LIMIT as usize / 4;
        let fits = most - 256;
        let done = loss().try_forward(row(fits), row(fits), label(), Progress::new(0, 1));
        assert!(floats(done.expect("it fits"))[0].is_finite(), "{path}");
        let error = refusal(row(most + 4), row(most + 4), label());
        assert!(
            matches!(
                error,
                Error::Distill(CoreError::LimitExceeded { limit, .. }) if limit <= LIMIT
            ),
            "{path}: {error}"
        );
    }
}
