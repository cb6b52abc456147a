//! Denominators of a call: micro-batches add up to their batch, by numbers and by tensors on the device.

use burn::tensor::{DType, Device, Int, Tensor};
use burn_distill::{
    CoreReduction, DistillationBatch, DistillationLossConfig, DistillationOutput, Error, Progress,
};
use wgpu_distill::Error as CoreError;

use crate::devices::{self, TestDevice};
use crate::inputs::{difference, floats, labels, logits, tensor};

const ROWS: usize = 24;
const CLASSES: usize = 37;
const MICRO: usize = 8;

fn progress() -> Progress {
    Progress::new(3, 10)
}

fn config() -> DistillationLossConfig {
    DistillationLossConfig::new().with_student_temperature(2.0)
}

/// The first rows are ignored, so that micro-batches have different numbers of labels. One has none.
fn targets(device: &Device) -> Tensor<1, Int> {
    labels(ROWS, CLASSES, device).slice_fill(0..MICRO + 3, -100)
}

struct Whole {
    student: Tensor<2>,
    teacher: Tensor<2>,
    targets: Tensor<1, Int>,
}

impl Whole {
    fn new(device: &Device) -> Self {
        Self {
            student: Tensor::from_inner(logits(1, ROWS, CLASSES, device)).require_grad(),
            teacher: logits(2, ROWS, CLASSES, device),
            targets: targets(device),
        }
    }

    fn rows(&self, from: usize, to: usize) -> DistillationBatch<2, 1> {
        DistillationBatch::new(
            self.student.clone().slice(from..to),
            self.teacher.clone().slice(from..to),
            self.targets.clone().slice(from..to),
        )
    }

    /// The sum of the losses of the micro-batches, and the gradient of the student's logits.
    fn accumulated(&self, losses: impl Fn(DistillationBatch<2, 1>) -> Tensor<1>) -> [Vec<f32>; 2] {
        let parts = (0..ROWS / MICRO).map(|i| losses(self.rows(i * MICRO, (i + 1) * MICRO)));
        let sum = parts.reduce(Tensor::add).expect("micro-batches");
        let grads = sum.clone().backward();
        let gradient = self.student.grad(&grads).expect("tracked");
        [floats(sum), floats(gradient)]
    }
}

fn gradient(out: DistillationOutput, student: &Tensor<2>) -> [Vec<f32>; 2] {
    let grads = out.loss.clone().backward();
    [
        floats(out.loss),
        floats(student.grad(&grads).expect("tracked")),
    ]
}

#[test]
fn micro_batches_with_the_denominator_of_the_batch_add_up_to_it() {
    for on in devices::all() {
        let loss = on.loss(config().init());
        let whole = Whole::new(&on.device);
        let want = gradient(
            loss.forward_batch(whole.rows(0, ROWS), progress()),
            &whole.student,
        );
        let count = loss.labelled_rows(whole.targets.clone());
        assert_eq!(
            count.clone().into_scalar::<i64>(),
            (ROWS - MICRO - 3) as i64
        );
        let number = (ROWS - MICRO - 3) as f32;
        let on_device = tensor(vec![number], [1], &on.device);
        let with = |of: &dyn Fn(DistillationBatch<2, 1>) -> DistillationBatch<2, 1>| {
            let whole = Whole::new(&on.device);
            whole.accumulated(|batch| loss.forward_batch(of(batch), progress()).loss)
        };
        for [value, grads] in [
            with(&|batch| batch.with_denominator(number)),
            with(&|batch| batch.with_denominator(count.clone())),
            with(&|batch| batch.with_denominator(on_device.clone())),
            // A tensor in a graph is a constant.
            with(&|batch| {
                batch.with_denominator(Tensor::from_inner(on_device.clone()).require_grad())
            }),
        ] {
            assert!(difference(&want[0], &value) < 2e-6, "{}", on.name);
            assert!(difference(&want[1], &grads) < 2e-6, "{}", on.name);
        }
        // Without autodiff.
        let batch = || {
            let (teacher, targets) = (whole.teacher.clone(), whole.targets.clone());
            DistillationBatch::new(whole.student.clone().inner(), teacher, targets)
        };
        let plain = loss.forward_batch(batch().with_denominator(count), progress());
        assert!(!plain.loss.is_tracked());
        assert!(
            difference(&want[0], &floats(plain.loss)) < 2e-6,
            "{}",
            on.name
        );
        // The reduction's own denominator has no effect beside one of the call.
        let sum = on.loss(config().with_reduction(CoreReduction::Sum).init());
        let sum = sum.forward_batch(batch().with_denominator(number), progress());
        assert!(
            difference(&want[0], &floats(sum.loss)) < 2e-6,
            "{}",
            on.name
        );
    }
}

fn of_one_denominator(on: &TestDevice, denominator: f32, ignored: bool) -> [Vec<f32>; 2] {
    let student = Tensor::from_inner(logits(1, 3, 5, &on.device)).require_grad();
    let targets = match ignored {
        true => Tensor::<1, Int>::from_data([-100; 3], (&on.device, DType::I32)),
        false => labels(3, 5, &on.device),
    };
    let batch = DistillationBatch::new(student.clone(), logits(2, 3, 5, &on.device), targets);
    let batch = batch.with_denominator(tensor(vec![denominator], [1], &on.device));
    let loss = on.loss(config().init());
    gradient(loss.forward_batch(batch, progress()), &student)
}

/// A tensor is not read, so that a wrong one gives NaN instead of an error.
#[test]
fn denominators_on_the_device_that_are_no_counts() {
    for on in devices::all() {
        let [value, grads] = of_one_denominator(&on, 0.0, true);
        assert_eq!(value, [0.0], "{}", on.name);
        assert_eq!(grads, [0.0; 15], "{}", on.name);
        for wrong in [0.0, -2.0, f32::NAN, f32::INFINITY] {
            let [value, grads] = of_one_denominator(&on, wrong, false);
            assert!(value[0].is_nan(), "{wrong} on {}", on.name);
            assert!(grads.iter().all(|g| g.is_nan()), "{wrong} on {}", on.name);
        }
    }
}

#[test]
fn denominators_that_do_not_fit_are_refused_by_name() {
    for on in devices::all() {
        let whole = Whole::new(&on.device);
        let refusal = |config: DistillationLossConfig, batch| {
            let loss = on.loss(config.init());
            loss.try_forward_batch(batch, progress())
                .expect_err("refused")
        };
        let batch = || whole.rows(0, ROWS);
        let two = Tensor::<1>::ones([2], (&on.device, DType::F32));
        let error = refusal(config(), batch().with_denominator(two));
        assert_eq!(error, Error::DenominatorShape { shape: vec![2] });
        let error = refusal(config(), batch().with_denominator(-1.0));
        assert!(error.to_string().contains("SumOver"), "{error}");
        let none = config().with_reduction(CoreReduction::None);
        let error = refusal(none, batch().with_denominator(3.0));
        assert_eq!(error, Error::DenominatorWithoutSum);
        if on.device != Device::flex() {
            let elsewhere = Tensor::<1>::ones([1], (&Device::flex(), DType::F32));
            let error = refusal(config(), batch().with_denominator(elsewhere));
            assert!(
                matches!(error, Error::Devices { name, .. } if name == "denominator"),
                "{error}"
            );
        }
        if on.path == burn_distill::ExecutionPath::Host {
            // The batch has labels.
            let error = refusal(config(), batch().with_denominator(0.0));
            assert!(
                matches!(error, Error::Distill(CoreError::ZeroDenominator { .. })),
                "{error}"
            );
        }
    }
}

/// A 16-bit gradient waits in f32 if the backward still multiplies it by numbers of the rows, and is rounded once.
#[test]
fn gradients_of_16_bits_are_rounded_once() {
    use burn::tensor::FloatDType;
    for on in devices::all() {
        if !on.device.supports_dtype(DType::F16) {
            continue;
        }
        let weights: Vec<f32> = (0..ROWS).map(|row| (row as f32 * 0.37).sin()).collect();
        let run = |dtype: DType, late: bool| -> Vec<f32> {
            let narrow = |seed| logits(seed, ROWS, CLASSES, &on.device).cast(DType::F16);
            let student = Tensor::<2>::from_inner(narrow(1).cast(dtype)).require_grad();
            let targets = labels(ROWS, CLASSES, &on.device);
            let batch = DistillationBatch::new(student.clone(), narrow(2), targets);
            let root = match late {
                false => {
                    let loss = on.loss(config().with_reduction(CoreReduction::None).init());
                    let weights = tensor(weights.clone(), [ROWS], &on.device);
                    let each = loss.forward_batch(batch, progress()).loss;
                    (each * Tensor::from_inner(weights)).sum()
                }
                true => {
                    let denominator = tensor(vec![7.3], [1], &on.device);
                    let loss = on.loss(config().init());
                    let batch = batch.with_denominator(denominator);
                    loss.forward_batch(batch, progress()).loss
                }
            };
            let grads = root.backward();
            let gradient = student.grad(&grads).expect("tracked");
            assert_eq!(gradient.dtype(), dtype, "{}", on.name);
            floats(gradient.cast(FloatDType::F32))
        };
        for late in [false, true] {
            let (want, got) = (run(DType::F32, late), run(DType::F16, late));
            for (want, got) in want.iter().zip(&got) {
                // The distance of f16 numbers around `want`.
                let exponent = want.abs().max(6.2e-5).log2().floor();
                let ulp = (exponent - 10.0).exp2();
                let apart = (want - got).abs() / ulp;
                assert!(
                    apart < 0.505,
                    "{got}, want {want}: {apart} ulp on {}",
                    on.name
                );
            }
        }
    }
}
