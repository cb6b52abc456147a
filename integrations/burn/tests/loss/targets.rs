//! Soft labels and weights of classes.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor};
use burn_distill::{
    ClassWeighting, CoreReduction, DistillationBatch, DistillationLossConfig, Divergence, Error,
    ExecutionPath, Progress, Selection, Standardization,
};
use wgpu_distill::Error as CoreError;

use crate::devices::{self, TestDevice};
use crate::inputs::{Random, difference, floats, labels, logits, tensor};

const ROWS: usize = 24;
const CLASSES: usize = 37;

fn progress() -> Progress {
    Progress::new(3, 10)
}

/// The hard part alone.
fn hard() -> DistillationLossConfig {
    DistillationLossConfig::new()
        .with_student_temperature(2.0)
        .with_selection(Selection::Fixed(1.0))
        .with_reduction(CoreReduction::None)
}

/// The soft cross-entropy alone.
fn soft() -> DistillationLossConfig {
    hard()
        .with_selection(Selection::Fixed(0.0))
        .with_class_weighting(ClassWeighting::Soft)
}

fn batch(device: &Device) -> DistillationBatch<2, 1> {
    let (student, teacher) = (
        logits(1, ROWS, CLASSES, device),
        logits(2, ROWS, CLASSES, device),
    );
    DistillationBatch::new(student, teacher, labels(ROWS, CLASSES, device))
}

/// Loss of each row, and the gradient.
fn results(
    on: &TestDevice,
    config: &DistillationLossConfig,
    mut batch: DistillationBatch<2, 1>,
) -> [Vec<f32>; 2] {
    let student = Tensor::from_inner(batch.student_logits).require_grad();
    batch.student_logits = student.clone();
    let out = on.loss(config.init()).forward_batch(batch, progress());
    let grads = out.loss.clone().sum().backward();
    [
        floats(out.loss),
        floats(student.grad(&grads).expect("tracked")),
    ]
}

/// Weights that f16 represents, one of them 0.
fn weights() -> Vec<f32> {
    (0..CLASSES).map(|class| class as f32 * 0.25).collect()
}

fn class_weights(device: &Device) -> Tensor<1> {
    tensor(weights(), [CLASSES], device)
}

/// Rows that sum to 1, in eighths that f16 and bf16 represent: two classes each, of which the first is the label.
fn mixed(first: f32) -> Vec<f32> {
    let mut numbers = vec![0.0; ROWS * CLASSES];
    for row in 0..ROWS {
        numbers[row * CLASSES + row * 7 % CLASSES] += first;
        numbers[row * CLASSES + row * 11 % CLASSES] += 1.0 - first;
    }
    numbers
}

fn soft_labels(first: f32, device: &Device) -> Tensor<2> {
    tensor(mixed(first), [ROWS, CLASSES], device)
}

fn each(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect()
}

/// The hard part with labels alone is a product of its weight and the plain one.
#[test]
fn the_weight_of_the_label_multiplies_the_hard_part() {
    for on in devices::all() {
        let plain = results(&on, &hard(), batch(&on.device));
        let weighted = batch(&on.device).with_class_weights(class_weights(&on.device));
        let got = results(&on, &hard(), weighted);
        for (columns, plain, got) in [(1, &plain[0], &got[0]), (CLASSES, &plain[1], &got[1])] {
            let weight = |i: usize| weights()[i / columns * 7 % CLASSES];
            let want: Vec<f32> = (plain.iter().enumerate())
                .map(|(i, x)| x * weight(i))
                .collect();
            assert!(difference(&want, got) < 2e-6, "{}", on.name);
        }
    }
}

/// The soft cross-entropy is a sum over classes, so the results for weights of parts of the classes add up.
#[test]
fn weights_of_the_soft_part_select_terms() {
    for on in devices::all() {
        let with = |weight: fn(usize) -> f32| {
            let weights = (0..CLASSES).map(weight).collect();
            let weights = tensor(weights, [CLASSES], &on.device);
            results(&on, &soft(), batch(&on.device).with_class_weights(weights))
        };
        let whole = results(&on, &soft(), batch(&on.device));
        let even = with(|class| (class % 2) as f32);
        let odd = with(|class| 1.0 - (class % 2) as f32);
        for i in [0, 1] {
            let sum = each(&even[i], &odd[i], |a, b| a + b);
            assert!(difference(&whole[i], &sum) < 2e-6, "{}", on.name);
            assert!(difference(&whole[i], &even[i]) > 0.1, "{}", on.name);
        }
    }
}

/// The hard part is linear in the soft label, and a soft label of one class is a label.
#[test]
fn a_soft_label_mixes_labels() {
    for on in devices::all() {
        let with = |first: f32| {
            let batch = batch(&on.device).with_soft_labels(soft_labels(first, &on.device));
            results(&on, &hard(), batch)
        };
        let (first, second, both) = (with(1.0), with(0.0), with(0.625));
        let label = results(&on, &hard(), batch(&on.device));
        for i in [0, 1] {
            assert!(difference(&label[i], &first[i]) < 2e-6, "{}", on.name);
            let want = each(&first[i], &second[i], |a, b| 0.625 * a + 0.375 * b);
            assert!(difference(&want, &both[i]) < 2e-6, "{}", on.name);
            assert!(difference(&label[i], &both[i]) > 0.01, "{}", on.name);
        }
    }
}

#[test]
fn targets_of_any_type_layout_and_graph() {
    for on in devices::all() {
        let run = |batch: DistillationBatch<2, 1>| {
            let out = on.loss(hard().init()).forward_batch(batch, progress());
            assert!(!out.loss.is_tracked(), "{}", on.name);
            floats(out.loss)
        };
        let of_classes = |w: Tensor<1>| run(batch(&on.device).with_class_weights(w));
        let plain = class_weights(&on.device);
        let want = of_classes(plain.clone());
        for dtype in [FloatDType::F16, FloatDType::BF16, FloatDType::F64] {
            if on.device.supports_dtype(dtype) {
                assert_eq!(of_classes(plain.clone().cast(dtype)), want, "{}", on.name);
            }
        }
        let longer = Tensor::cat(vec![plain.clone() * 2.0, plain.clone()], 0);
        assert_eq!(of_classes(longer.slice(CLASSES..2 * CLASSES)), want);
        let pairs: Tensor<2> = Tensor::stack(vec![plain.clone(), plain.clone() + 1.0], 1);
        let column = pairs.slice([0..CLASSES, 0..1]).reshape([CLASSES]);
        assert_eq!(of_classes(column), want, "{}", on.name);
        assert_eq!(
            of_classes(Tensor::from_inner(plain).require_grad()),
            want,
            "{}",
            on.name
        );
        let half = Tensor::<1>::full([1], 0.5, (&on.device, DType::F32)).expand([CLASSES]);
        let unweighted: Vec<f32> = run(batch(&on.device)).iter().map(|x| 0.5 * x).collect();
        assert!(difference(&unweighted, &of_classes(half)) < 1e-6);

        let of_rows = |y: Tensor<2>| run(batch(&on.device).with_soft_labels(y));
        let plain = soft_labels(0.625, &on.device);
        let want = of_rows(plain.clone());
        for dtype in [FloatDType::F16, FloatDType::BF16] {
            if on.device.supports_dtype(dtype) {
                assert_eq!(of_rows(plain.clone().cast(dtype)), want, "{}", on.name);
            }
        }
        let twice = Tensor::cat(vec![plain.clone() * 2.0, plain.clone()], 1);
        let right = twice.slice([0..ROWS, CLASSES..2 * CLASSES]);
        assert_eq!(of_rows(right), want, "{}", on.name);
        let columns = Tensor::from_data(plain.clone().transpose().to_data(), &on.device);
        assert_eq!(of_rows(columns.transpose()), want, "{}", on.name);
        assert_eq!(of_rows(Tensor::from_inner(plain).require_grad()), want);
        // One row for all.
        let one = tensor(
            vec![1.0 / CLASSES as f32; CLASSES],
            [1, CLASSES],
            &on.device,
        );
        let smooth = hard().with_label_smoothing(0.999_999);
        let smooth = on.loss(smooth.init());
        let smooth = floats(smooth.forward_batch(batch(&on.device), progress()).loss);
        let uniform = of_rows(one.expand([ROWS, CLASSES]));
        assert!(difference(&smooth, &uniform) < 1e-5, "{}", on.name);
    }
}

#[test]
fn sequences_have_soft_labels_and_class_weights() {
    for on in devices::all() {
        let shape = [4, ROWS / 4, CLASSES];
        let loss = on.loss(hard().init());
        let three = || {
            let two = batch(&on.device);
            let labels = two.labels.reshape([4, ROWS / 4]);
            let (student, teacher) = (two.student_logits, two.teacher_logits);
            DistillationBatch::new(student.reshape(shape), teacher.reshape(shape), labels)
        };
        let soft = soft_labels(0.625, &on.device);
        let of_classes = class_weights(&on.device);
        for (two, three) in [
            (
                batch(&on.device).with_soft_labels(soft.clone()),
                three().with_soft_labels(soft.reshape(shape)),
            ),
            (
                batch(&on.device).with_class_weights(of_classes.clone()),
                three().with_class_weights(of_classes),
            ),
        ] {
            let want = loss.forward_batch(two, progress());
            let got = loss.forward_batch(three, progress());
            assert_eq!(floats(want.loss), floats(got.loss), "{}", on.name);
        }
    }
}

#[test]
fn no_rows_have_targets() {
    for on in devices::all() {
        let empty = || Tensor::<2>::zeros([0, CLASSES], (&on.device, DType::F32));
        let none = Tensor::<1, Int>::zeros([0], (&on.device, DType::I32));
        let batch = DistillationBatch::new(empty(), empty(), none);
        let loss = on.loss(hard().with_reduction(CoreReduction::Mean).init());
        for batch in [
            batch.clone().with_soft_labels(empty()),
            batch.with_class_weights(class_weights(&on.device)),
        ] {
            let out = loss.forward_batch(batch, progress());
            assert_eq!(floats(out.loss), [0.0], "{}", on.name);
        }
    }
}

fn refusal(
    on: &TestDevice,
    config: &DistillationLossConfig,
    batch: DistillationBatch<2, 1>,
) -> Error {
    on.loss(config.init())
        .try_forward_batch(batch, progress())
        .expect_err("it is refused")
}

#[test]
fn targets_that_do_not_fit_are_refused_by_name() {
    for on in devices::all() {
        let batch = || batch(&on.device);
        let refuse = |batch| refusal(&on, &hard(), batch);
        let fewer = tensor(vec![1.0; CLASSES - 1], [CLASSES - 1], &on.device);
        let error = refuse(batch().with_class_weights(fewer));
        let want = Error::ClassWeights {
            class_weights: vec![CLASSES - 1],
            expected: vec![CLASSES],
            student: vec![ROWS, CLASSES],
        };
        assert_eq!(error, want);
        assert!(error.to_string().contains("one weight per class"));
        for shape in [[ROWS, CLASSES - 1], [ROWS - 1, CLASSES]] {
            let numbers = vec![0.0; shape[0] * shape[1]];
            let error = refuse(batch().with_soft_labels(tensor(numbers, shape, &on.device)));
            let want = Error::SoftLabels {
                soft_labels: shape.to_vec(),
                student: vec![ROWS, CLASSES],
            };
            assert_eq!(error, want);
            assert!(error.to_string().contains("a number for each class"));
        }
        if on.device.supports_dtype(DType::F64) {
            let wide = soft_labels(1.0, &on.device).cast(DType::F64);
            let want = Error::LogitsType {
                name: "soft_labels",
                dtype: DType::F64,
            };
            assert_eq!(refuse(batch().with_soft_labels(wide)), want);
        }
        if on.device != Device::flex() {
            let elsewhere = Device::flex();
            for (name, batch) in [
                (
                    "soft_labels",
                    batch().with_soft_labels(soft_labels(1.0, &elsewhere)),
                ),
                (
                    "class_weights",
                    batch().with_class_weights(class_weights(&elsewhere)),
                ),
            ] {
                let error = refuse(batch);
                assert!(
                    matches!(error, Error::Devices { name: other, .. } if other == name),
                    "{error}"
                );
            }
        }
    }
}

/// The core refuses what has no terms of a target, on every path, also without rows.
#[test]
fn choices_without_terms_of_a_target_are_refused_by_name() {
    let dkd = Divergence::Dkd {
        alpha: 1.0,
        beta: 2.0,
    };
    let (new, reverse) = (DistillationLossConfig::new, Divergence::ReverseKl);
    let (soft, classes) = ([true, false], [false, true]);
    for (config, [has_soft_labels, has_class_weights], text) in [
        (new(), [true, true], "`soft_labels` with `class_weights`"),
        (new().with_divergence(dkd), soft, "the divergence `dkd:1:2`"),
        (
            new().with_selection(Selection::Margin(0.5)),
            soft,
            "`soft_labels` with the selection",
        ),
        (
            new().with_standardization(Standardization::ZScore),
            soft,
            "`soft_labels` with `Standardization::ZScore`",
        ),
        (
            new()
                .with_class_weighting(ClassWeighting::Both)
                .with_divergence(reverse),
            classes,
            "class weights in the soft part with the divergence `reverse-kl`",
        ),
        (
            new().with_divergence(dkd).with_label_smoothing(0.1),
            classes,
            "class weights with label smoothing",
        ),
        (
            new().with_standardization(Standardization::ZScore),
            classes,
            "class weights with `Standardization::ZScore`",
        ),
    ] {
        for on in devices::all() {
            for rows in [4, 0] {
                let matrix = |seed| logits(seed, rows, CLASSES, &on.device);
                let labels = labels(rows, CLASSES, &on.device);
                let mut batch = DistillationBatch::new(matrix(1), matrix(2), labels);
                batch.soft_labels = has_soft_labels.then(|| matrix(3).abs());
                batch.class_weights = has_class_weights.then(|| class_weights(&on.device));
                let error = refusal(&on, &config, batch);
                let of_core = matches!(error, Error::Distill(CoreError::Unsupported { .. }));
                assert!(of_core && error.to_string().contains(text), "{error}");
            }
        }
    }
}

/// The rows whose loss is NaN.
fn nan_rows(
    on: &TestDevice,
    config: &DistillationLossConfig,
    batch: DistillationBatch<2, 1>,
) -> Result<Vec<usize>, Error> {
    let loss = on.loss(config.init());
    let done = loss.try_forward_batch(batch, progress())?;
    let losses = floats(done.row_loss);
    let rows: Vec<usize> = (0..ROWS).filter(|row| losses[*row].is_nan()).collect();
    let count = done.non_finite_rows.into_scalar::<i64>();
    assert_eq!(count, rows.len() as i64, "{}", on.name);
    Ok(rows)
}

/// On the host an error names the number. On a GPU the rows that use it count as rows with NaN, since reading it would block.
#[test]
fn numbers_out_of_range() {
    for on in devices::all() {
        for wrong in [f32::NAN, -0.25, 2e6, f32::INFINITY] {
            let mut numbers = mixed(0.625);
            numbers[4 * CLASSES + 20] = wrong;
            let soft_labels = tensor(numbers, [ROWS, CLASSES], &on.device);
            match nan_rows(
                &on,
                &hard(),
                batch(&on.device).with_soft_labels(soft_labels),
            ) {
                Ok(rows) => assert_eq!(rows, [4], "{}", on.name),
                Err(error) => {
                    assert_eq!(on.path, ExecutionPath::Host);
                    let Error::Distill(CoreError::SoftLabel { row, class, .. }) = error else {
                        panic!("{error}");
                    };
                    assert_eq!((row, class), (4, 20));
                }
            }
            let mut numbers = weights();
            numbers[3] = wrong;
            let class_weights = tensor(numbers, [CLASSES], &on.device);
            let of_class_3 = (0..ROWS).filter(|row| row * 7 % CLASSES == 3).collect();
            let all: Vec<usize> = (0..ROWS).collect();
            for (config, want) in [
                (hard(), &of_class_3),
                (hard().with_label_smoothing(0.1), &all),
                (soft(), &all),
            ] {
                let batch = batch(&on.device).with_class_weights(class_weights.clone());
                match nan_rows(&on, &config, batch) {
                    Ok(rows) => assert_eq!(rows, *want, "{}", on.name),
                    Err(error) => {
                        assert_eq!(on.path, ExecutionPath::Host);
                        let Error::Distill(CoreError::ClassWeight { class, .. }) = error else {
                            panic!("{error}");
                        };
                        assert_eq!(class, 3);
                    }
                }
            }
        }
    }
}

/// A label out of range uses the weight of no class, not of the nearest one.
#[test]
fn weights_out_of_range_beside_labels_out_of_range() {
    let kernels = |on: &TestDevice| on.path != ExecutionPath::Host;
    for on in devices::all().into_iter().filter(kernels) {
        for (label, class) in [(-1, 0), (CLASSES as i64, CLASSES - 1)] {
            let mut numbers = weights();
            numbers[class] = f32::NAN;
            let mut batch = batch(&on.device);
            batch.class_weights = Some(tensor(numbers, [CLASSES], &on.device));
            let first = Tensor::<1, Int>::full([1], label, (&on.device, DType::I32));
            batch.labels = Tensor::cat(vec![first, batch.labels.slice(1..ROWS)], 0);
            let out = on.loss(hard().init()).forward_batch(batch, progress());
            assert_eq!(out.invalid_labels.into_scalar::<i64>(), 1, "{}", on.name);
            let use_it = (1..ROWS).filter(|row| row * 7 % CLASSES == class).count();
            let counted = out.non_finite_rows.into_scalar::<i64>();
            assert_eq!(counted, use_it as i64, "{}", on.name);
            assert!(floats(out.row_kdr)[0] > 0.0, "{}", on.name);
        }
    }
}

/// A masked class contributes 0 where the target gives it 0.
#[test]
fn a_target_of_0_removes_an_infinite_term() {
    for on in devices::all() {
        let numbers = Random(1).values(ROWS * CLASSES, 4.0);
        let mask = |(i, x): (usize, f32)| match i % CLASSES {
            0 => f32::NEG_INFINITY,
            _ => x,
        };
        let masked: Vec<f32> = numbers.into_iter().enumerate().map(mask).collect();
        // `weights` gives class 0 the weight 0. Row 0 has this label.
        let mut weighted = batch(&on.device).with_class_weights(class_weights(&on.device));
        weighted.student_logits = tensor(masked, [ROWS, CLASSES], &on.device);
        for config in [hard(), hard().with_label_smoothing(0.1), soft()] {
            let [losses, gradient] = results(&on, &config, weighted.clone());
            assert!(losses.iter().chain(&gradient).all(|x| x.is_finite()));
            let mut plain = weighted.clone();
            plain.class_weights = None;
            let [losses, _] = results(&on, &config, plain);
            assert!(losses[0].is_infinite(), "{}", on.name);
        }
        // No row's soft label but row 0's has class 0.
        let mut soft = weighted.clone();
        soft.class_weights = None;
        let [losses, gradient] = results(
            &on,
            &hard(),
            soft.with_soft_labels(soft_labels(0.625, &on.device)),
        );
        let infinite: Vec<usize> = (0..ROWS).filter(|row| losses[*row].is_infinite()).collect();
        assert_eq!(infinite, [0], "{}", on.name);
        assert!(gradient.iter().all(|x| x.is_finite()), "{}", on.name);
    }
}
