//! Bad input gives an error with a remedy, never a wrong number.

use burn::tensor::{DType, Device, Int, Tensor};
use burn_distill::{
    CoreReduction, DistillationLoss, DistillationLossConfig, Divergence, Error, ExecutionPath,
    Progress, Scope, Selection, SmoothedClasses, TrainingSteps, TssrGradient,
};
use wgpu_distill::{Error as CoreError, GradWrite};

use crate::devices;
use crate::inputs::{floats, labels, logits};

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
    for on in devices::all() {
        let d = &on.device;
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

/// Labels of each integer type give the same loss, or an error before anything is queued.
#[test]
fn integer_types_of_labels() {
    use DType::{I8, I16, I32, I64, U8, U16, U32, U64};
    for on in devices::all() {
        let run = |dtype: DType| {
            let (s, t) = (logits(1, 4, 5, &on.device), logits(2, 4, 5, &on.device));
            let data = labels(4, 5, &Device::flex()).into_data();
            let labels =
                Tensor::<1, Int>::from_data(data.convert_dtype(dtype), (&on.device, dtype));
            assert_eq!(labels.dtype(), dtype);
            let loss = on.loss(DistillationLossConfig::new().init());
            loss.try_forward(s, t, labels, Progress::new(1, 2))
        };
        let want = floats(run(I32).expect("i32 is every device's"));
        for dtype in [I8, I16, I64, U8, U16, U32, U64] {
            match run(dtype) {
                Ok(loss) => assert_eq!(floats(loss), want, "{dtype:?} on {}", on.name),
                Err(error) => {
                    assert!(!on.device.supports_dtype(dtype));
                    assert!(matches!(error, Error::TypeOnDevice { name: "labels", .. }));
                    assert!(error.to_string().contains("DType::I32"), "{error}");
                }
            }
        }
        // A refused call leaves no error behind for the next one.
        assert_eq!(floats(run(I32).expect("as before")), want, "{}", on.name);
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
    for progress in [Progress::new(1, 0), Progress::new(3, 2)] {
        let error = loss().try_forward(s.clone(), t.clone(), l.clone(), progress);
        assert!(matches!(
            error,
            Err(Error::Distill(CoreError::InvalidProgress { .. }))
        ));
    }
    // Only selections that do not depend on training time accept `Progress::NONE`.
    for selection in Selection::ALL {
        let loss = DistillationLossConfig::new()
            .with_selection(selection)
            .init();
        let result = loss.try_forward(s.clone(), t.clone(), l.clone(), Progress::NONE);
        assert_eq!(result.is_err(), selection.needs_progress(), "{selection}");
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
        (
            new().with_reduction(CoreReduction::SumOver(-1.0)),
            "reduction",
        ),
        (new().with_grad_scale(0.0), "grad_scale"),
        (new().with_grad_scale(-1.0), "grad_scale"),
        (new().with_grad_scale(f32::NAN), "grad_scale"),
        (new().with_grad_scale(f32::INFINITY), "grad_scale"),
        (new().with_grad_scale(9e-31), "grad_scale"),
        (new().with_grad_scale(1.1e30), "grad_scale"),
        (
            new().with_divergence(Divergence::Jsd { beta: 1.0 }),
            "ReverseKl",
        ),
        (
            DistillationLossConfig::from(wgpu_distill::Config {
                grad_write: GradWrite::Accumulate,
                ..Default::default()
            }),
            "`grad_write` is Accumulate, expected Overwrite",
        ),
    ] {
        let error = config.try_init().expect_err(field);
        assert!(error.to_string().contains(field), "{error}");
    }
}

/// The kernels have choices that Burn's operations lack. The configuration is valid, so the call refuses, also without rows.
#[test]
fn the_composed_path_refuses_by_name() {
    let new = DistillationLossConfig::new;
    let dkd = Divergence::Dkd {
        alpha: 1.0,
        beta: 8.0,
    };
    let nkd = Divergence::Nkd { gamma: 1.5 };
    let k3 = Divergence::K3 { clamp: 20.0 };
    let alone = Selection::Fixed(0.0);
    let attached = TssrGradient::Attached;
    for (config, field, value) in [
        (
            new().with_tssr_gradient(attached),
            "tssr_gradient",
            "Attached",
        ),
        (new().with_divergence(dkd), "divergence", "dkd:1:8"),
        (new().with_divergence(nkd), "divergence", "nkd:1.5"),
        (
            new().with_divergence(Divergence::Wsld),
            "divergence",
            "wsld",
        ),
        (
            new().with_selection(Selection::Margin(0.5)),
            "selection",
            "margin:0.5",
        ),
        (
            new().with_smoothed_classes(SmoothedClasses::Unmasked),
            "smoothed_classes",
            "Unmasked",
        ),
        (
            new().with_loss_clamp(Some([0.0, 10.0])),
            "loss_clamp",
            "[0.0,10.0]",
        ),
        (
            new().with_divergence(k3).with_selection(alone),
            "divergence",
            "k3:20",
        ),
    ] {
        for on in devices::all() {
            let loss = on.loss(config.init());
            for rows in [4, 0] {
                let student = Tensor::from_inner(logits(1, rows, 5, &on.device)).require_grad();
                let sampled = config.core.divergence.is_sampled();
                let teacher = logits(2, rows, if sampled { 1 } else { 5 }, &on.device);
                let labels = labels(rows, 5, &on.device);
                let done = loss.try_forward(student, teacher, labels, Progress::new(0, 1));
                if on.path != ExecutionPath::Composed {
                    done.expect("the kernels have it");
                    continue;
                }
                let error = done.expect_err("Burn's operations lack it");
                let want = Error::NotComposed {
                    field: field.to_owned(),
                    value: value.to_owned(),
                };
                assert_eq!(error, want);
                let start = format!("`{field}` is {value}, which Burn's operations");
                assert!(error.to_string().starts_with(&start), "{error}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "the student has 5 classes and the teacher 6")]
fn forward_panics_with_the_error_text() {
    let flex = Device::flex();
    loss().forward(
        logits(1, 4, 5, &flex),
        logits(2, 4, 6, &flex),
        labels(4, 5, &flex),
        Progress::new(0, 1),
    );
}

/// On the host an error names the label. On a GPU the row gets NaN and is counted, since reading the labels would block.
#[test]
fn labels_out_of_range() {
    for on in devices::all() {
        let d = &on.device;
        let (s, t) = (logits(1, 4, 5, d), logits(2, 4, 5, d));
        let bad = Tensor::<1, Int>::from_data([0, 5, -100, 2], (d, DType::I32));
        let loss = on.loss(DistillationLossConfig::new().init());
        let progress = Progress::new(0, 1);
        let done = loss.try_forward_with_metrics(s.clone(), t.clone(), bad, progress);
        if on.path == ExecutionPath::Host {
            let want = CoreError::LabelOutOfRange {
                row: 1,
                label: 5,
                classes: 5,
            };
            assert_eq!(done.expect_err("refused"), Error::Distill(want));
        } else {
            let done = done.expect("labels are not read");
            assert!(floats(done.loss)[0].is_nan());
            assert_eq!(done.invalid_labels.into_scalar::<i64>(), 1);
            assert_eq!(done.valid_rows.into_scalar::<i64>(), 2);
            let rows = floats(done.row_loss);
            assert!(rows[1].is_nan() && rows[0].is_finite() && rows[2] == 0.0);
        }
        // A 64-bit label beyond 32 bits is out of range, even if its lower 32 bits are a class.
        if d.supports_dtype(DType::I64) {
            let wide = Tensor::<1, Int>::from_data([0i64, 1 << 32, 1, 2], (d, DType::I64));
            assert_eq!(wide.dtype(), DType::I64);
            let done = loss.try_forward_with_metrics(s, t, wide, progress);
            match done {
                Ok(done) => assert_eq!(done.invalid_labels.into_scalar::<i64>(), 1),
                // The error has the label as it was, not as i32.
                Err(error) => {
                    let want = Error::ClassOutOfRange {
                        name: "labels",
                        row: 1,
                        value: 1 << 32,
                        classes: 5,
                    };
                    assert_eq!(error, want);
                    assert!(error.to_string().contains("4294967296"), "{error}");
                }
            }
        }
    }
}

/// 10 rows in batches of 4 are 3 steps, but an integer division gives 2.
#[test]
fn a_schedule_that_rounds_down_does_not_stop_the_training() {
    const EPOCHS: u64 = 2;
    let device = Device::flex();
    let loss = DistillationLossConfig::new()
        .with_selection(Selection::Tstr)
        .init();
    let steps = TrainingSteps::new(EPOCHS * (10 / 4));
    let mut tssr = Vec::new();
    for step in 0..EPOCHS * 3 {
        let (s, t) = (logits(step, 4, 5, &device), logits(9, 4, 5, &device));
        let out = loss.try_forward_with_metrics(s, t, labels(4, 5, &device), steps.advance());
        tssr.extend(floats(out.expect("no step is refused").tssr));
    }
    assert_eq!(tssr, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]);
}

/// With a denominator of 0 no row may have a label.
#[test]
fn a_denominator_of_0_is_for_batches_without_a_label() {
    for on in devices::all() {
        let d = &on.device;
        let config = DistillationLossConfig::new().with_reduction(CoreReduction::SumOver(0.0));
        let loss = on.loss(config.init());
        let run = |labels: [i32; 3]| {
            let student = Tensor::from_inner(logits(1, 3, 5, d)).require_grad();
            let labels = Tensor::<1, Int>::from_data(labels, (d, DType::I32));
            let teacher = logits(2, 3, 5, d);
            let progress = Progress::new(1, 2);
            let out = loss.try_forward_with_metrics(student.clone(), teacher, labels, progress)?;
            let grads = out.loss.clone().backward();
            let gradient = floats(student.grad(&grads).expect("tracked"));
            Ok::<_, Error>((out, gradient))
        };
        let (out, gradient) = run([-100; 3]).expect("no row has a label");
        assert_eq!(floats(out.loss), [0.0], "{}", on.name);
        assert_eq!(gradient, [0.0; 15], "{}", on.name);

        match run([-100, 2, -100]) {
            Err(error) => {
                let want = CoreError::ZeroDenominator { row: 1, label: 2 };
                assert_eq!(error, Error::Distill(want));
                assert_eq!(on.path, ExecutionPath::Host);
            }
            Ok((out, gradient)) => {
                assert_ne!(on.path, ExecutionPath::Host);
                assert!(floats(out.loss)[0].is_nan(), "{}", on.name);
                assert_eq!(out.invalid_labels.into_scalar::<i64>(), 1, "{}", on.name);
                let nan: Vec<bool> = gradient.iter().map(|g| g.is_nan()).collect();
                let want: Vec<bool> = (0..15).map(|i| i / 5 == 1).collect();
                assert_eq!(nan, want, "{}", on.name);
            }
        }
    }
}
