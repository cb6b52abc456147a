//! Classes on several devices: the loss and the gradient on each of them are those of one device that has all classes.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, Tensor};
use burn_distill::{
    CoreReduction, DistillationBatch, DistillationLossConfig, Divergence, Error, ExecutionPath,
    Progress, Scope, Standardization, TeacherClasses,
};

use crate::cases::compare::{self, Outcome};
use crate::cases::{self, Case, SoftLabels, TeacherList, Weights};
use crate::inputs::{difference, floats, labels, logits};
use crate::{devices, report, table};

/// The columns of one device.
fn slice(
    batch: &DistillationBatch<2, 1>,
    columns: &Range<usize>,
    device: &Device,
) -> DistillationBatch<2, 1> {
    let cut = |matrix: &Tensor<2>| {
        let [rows, width] = matrix.dims();
        // Sampled tokens have one number a row, the same on each device.
        let columns = if width == 1 { 0..1 } else { columns.clone() };
        matrix.clone().slice([0..rows, columns]).to_device(device)
    };
    let mut own = DistillationBatch::new(
        cut(&batch.student_logits),
        cut(&batch.teacher_logits),
        batch.labels.clone().to_device(device),
    );
    own.row_weights = batch.row_weights.clone().map(|w| w.to_device(device));
    own.soft_labels = batch.soft_labels.as_ref().map(cut);
    own
}

/// Even shards, the last with what is left.
fn cuts(classes: usize, shards: usize) -> Vec<Range<usize>> {
    let width = (classes / shards).max(1);
    let ends = (1..shards).map(|i| i * width).filter(|end| *end < classes);
    let ends: Vec<_> = ends.chain([classes]).collect();
    let starts = [0].into_iter().chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, end)| start..*end).collect()
}

fn run(case: &Case, devices: &[Device], shards: usize) -> Outcome {
    let cuts = cuts(case.classes, shards);
    let whole = table::batch(case, &devices[0]);
    let mut students = Vec::new();
    let own = cuts
        .iter()
        .zip(devices.iter().cycle())
        .map(|(columns, device)| {
            let mut own = slice(&whole, columns, device);
            let student = Tensor::from_inner(own.student_logits).require_grad();
            students.push(student.clone());
            own.student_logits = student;
            own
        });
    let own = own.collect();
    let out = table::loss(case).forward_shards(own, case.progress);
    assert!(out.row_loss.device() == devices[0]);
    // Burn's runtime launches the steps, on the shared device too.
    assert_ne!(out.path, ExecutionPath::SharedDevice);
    let grads = table::backward(case, out.loss.clone());
    let mut gradient = vec![f32::NAN; case.rows * case.classes];
    for ((student, columns), device) in students.iter().zip(&cuts).zip(devices.iter().cycle()) {
        let own = student.grad(&grads).expect("a gradient");
        assert!(own.device() == *device, "the gradient stays on its device");
        let part = table::gradient(case, student, &grads);
        for (row, part) in part.chunks(columns.len()).enumerate() {
            let at = row * case.classes;
            gradient[at + columns.start..at + columns.end].copy_from_slice(part);
        }
    }
    table::outcome(case, out, gradient)
}

/// A case of the table that shards take.
fn for_shards(case: Case, device: &Device) -> Option<Case> {
    let mut case = table::in_burn(case);
    let host = *device == Device::flex();
    let broken = case.bad_labels
        || case.weights == Weights::Broken
        || matches!(case.soft_labels, SoftLabels::Broken(_));
    let stored = case.storage.into_iter().chain(case.soft_labels.storage());
    let known = stored
        .map(table::dtype)
        .all(|dtype| device.supports_dtype(dtype));
    let excluded = case.teacher_list != TeacherList::None
        || case.class_weights != Weights::None
        || case.config.standardization != Standardization::None
        || (host && broken);
    if excluded || !known || case.rows == 0 {
        return None;
    }
    if !case.config.divergence.is_sampled() {
        case.teacher_classes = case.classes;
        case.config.teacher_classes = TeacherClasses::SameAsStudent;
    }
    case.metrics = false;
    Some(case)
}

fn check_on(name: &str, devices: &[Device], table: Vec<Case>) {
    let mut count = 0;
    for (n, case) in table
        .into_iter()
        .filter_map(|c| for_shards(c, &devices[0]))
        .enumerate()
    {
        let shards = [2, 3, 8, 1][n % 4];
        let checked = compare::check(&case, &case.reference(), &run(&case, devices, shards));
        checked.unwrap_or_else(|why| panic!("{name}: {} in {shards} shards: {why}", case.name));
        count += 1;
    }
    assert!(count > 10, "few cases apply");
    report::ran(&format!("burn, shards: {count} cases on {name}"));
}

/// Two devices on one machine, if it has any but the CPU: one that Burn and the loss share, and another.
fn two_devices() -> Option<[Device; 2]> {
    Some([devices::shared()?, devices::unshared()?])
}

#[test]
fn on_the_host() {
    check_on(
        "flex",
        &[Device::flex()],
        cases::all().into_iter().step_by(3).collect(),
    );
}

#[test]
fn on_two_devices_with_kernels() {
    if let Some(devices) = two_devices() {
        let table = cases::for_drivers().into_iter().skip(2).step_by(11);
        check_on("two wgpu devices", &devices, table.collect());
    }
}

/// A layer whose classes are cut, one part to a device, trained as the whole layer is.
#[test]
fn a_layer_in_shards_trains_as_the_whole() {
    const ROWS: usize = 10;
    const HIDDEN: usize = 6;
    const CLASSES: usize = 21;
    let pairs = [Some([Device::flex(), Device::flex()]), two_devices()];
    for [first, second] in pairs.into_iter().flatten() {
        let loss = DistillationLossConfig::new()
            .with_divergence(Divergence::Jsd { beta: 0.5 })
            .with_scope(Scope::Batch)
            .with_student_temperature(2.0)
            .init();
        let on = |seed, rows, device: &Device| {
            let data = logits(seed, rows, HIDDEN, &Device::flex()).into_data();
            Tensor::<2>::from_data(data, device)
        };
        let train = |cuts: &[(Range<usize>, Device)]| {
            let part = |seed, columns: &Range<usize>, device: &Device| {
                let whole = on(seed, CLASSES, &Device::flex());
                let part = whole.slice([columns.clone(), 0..HIDDEN]).into_data();
                Tensor::<2>::from_data(part, &device.clone().autodiff()).require_grad()
            };
            let mut weights: Vec<_> = cuts.iter().map(|(c, d)| part(1, c, d)).collect();
            for step in 0..4 {
                let shards = cuts
                    .iter()
                    .zip(&weights)
                    .map(|((columns, device), weights)| {
                        let states = on(2, ROWS, &device.clone().autodiff());
                        let teacher = states.clone().matmul(part(3, columns, device).transpose());
                        let data = labels(ROWS, CLASSES, &Device::flex()).into_data();
                        let labels = Tensor::<1, Int>::from_data(data, &device.clone().autodiff());
                        let student = states.matmul(weights.clone().transpose());
                        DistillationBatch::new(student, teacher.detach(), labels)
                    });
                let out = loss.forward_shards(shards.collect(), Progress::new(step, 4));
                let grads = out.loss.backward();
                for own in &mut weights {
                    let step = own.grad(&grads).expect("a gradient") * 20.0;
                    *own = Tensor::from_inner(own.clone().inner() - step).require_grad();
                }
            }
            weights
                .into_iter()
                .flat_map(|w| floats(w.inner()))
                .collect::<Vec<f32>>()
        };
        let whole = train(&[(0..CLASSES, first.clone())]);
        let parts = train(&[(0..8, first.clone()), (8..CLASSES, second)]);
        assert!(
            difference(&whole, &floats(on(1, CLASSES, &first))) > 0.01,
            "it has changed"
        );
        let apart = difference(&whole, &parts);
        assert!(apart < 1e-5, "{apart}");
    }
}

/// A denominator on the device divides the losses of all shards, and a student without autodiff gets no gradient.
#[test]
fn denominators_and_untracked_students() {
    let device = Device::flex();
    let loss = DistillationLossConfig::new().init();
    let shards = |tracked: bool| {
        let [student, teacher] = [1, 2].map(|seed| logits(seed, 4, 9, &device));
        let whole = DistillationBatch::new(student, teacher, labels(4, 9, &device));
        let own = [0..4, 4..9].map(|columns| {
            let mut own = slice(&whole, &columns, &device);
            if tracked {
                own.student_logits = Tensor::from_inner(own.student_logits).require_grad();
            }
            own
        });
        (own, whole)
    };
    let (own, whole) = shards(false);
    let mean = loss.forward_shards(own.to_vec(), Progress::new(1, 2));
    let want = loss.forward_batch(whole.clone(), Progress::new(1, 2));
    assert!(difference(&floats(mean.row_loss), &floats(want.row_loss)) < 1e-6);
    assert!(!mean.loss.is_tracked());
    let (own, _) = shards(true);
    let count = Tensor::<1, Int>::from_data([8], (&device, DType::I32));
    let mut halved = own.clone();
    halved[0].denominator = Some(count.into());
    let gradients = |batches: [DistillationBatch<2, 1>; 2]| {
        let students = batches.each_ref().map(|batch| batch.student_logits.clone());
        let out = loss.forward_shards(batches.to_vec(), Progress::new(1, 2));
        let grads = out.loss.backward();
        let all = students.map(|student| floats(student.grad(&grads).expect("a gradient")));
        (floats(out.loss)[0], all.concat())
    };
    let ((mean, of_mean), (half, of_half)) = (gradients(own), gradients(halved));
    assert!((mean - 2.0 * half).abs() < 1e-6);
    let doubled: Vec<f32> = of_half.iter().map(|g| 2.0 * g).collect();
    assert!(difference(&of_mean, &doubled) < 1e-6);
}

#[test]
fn batches_that_do_not_belong_together_are_refused() {
    let device = Device::flex();
    let batch = |rows| {
        let [student, teacher] = [1, 2].map(|seed| logits(seed, rows, 5, &device));
        DistillationBatch::new(student, teacher, labels(rows, 5, &device))
    };
    let loss = DistillationLossConfig::new().init();
    let refused = |loss: &burn_distill::DistillationLoss, shards| {
        let done = loss.try_forward_shards::<2, 1>(shards, Progress::new(1, 2));
        done.expect_err("refused")
    };
    let in_shards =
        |error: &Error, at: usize| matches!(error, Error::Shards { shard, .. } if *shard == at);
    assert!(in_shards(&refused(&loss, vec![]), 0));
    assert!(in_shards(&refused(&loss, vec![batch(3), batch(4)]), 1));
    assert!(in_shards(
        &refused(&loss.clone().composed(), vec![batch(3)]),
        0
    ));
    assert!(in_shards(
        &refused(&loss.clone().with_row_metrics(), vec![batch(3)]),
        0
    ));
    if let Some(gpu) = devices::unshared() {
        let mut other = batch(3);
        other.student_logits = other.student_logits.to_device(&gpu);
        other.teacher_logits = other.teacher_logits.to_device(&gpu);
        other.labels = other.labels.to_device(&gpu);
        assert!(in_shards(&refused(&loss, vec![batch(3), other]), 1));
    }
    let weighted = batch(3).with_class_weights(Tensor::ones([5], &device));
    let error = refused(&loss, vec![weighted]).to_string();
    assert!(error.contains("`class_weights`"), "{error}");
    let z = DistillationLossConfig::new().with_standardization(Standardization::ZScore);
    let error = refused(&z.init(), vec![batch(3)]).to_string();
    assert!(error.contains("`Standardization::ZScore`"), "{error}");
    let none = DistillationLossConfig::new()
        .with_reduction(CoreReduction::None)
        .init();
    let rows = none.forward_shards(vec![batch(3), batch(3)], Progress::new(1, 2));
    assert_eq!(rows.loss.dims(), [3]);
    let empty = loss.forward_shards(vec![batch(0), batch(0)], Progress::new(1, 2));
    assert_eq!(floats(empty.loss), [0.0]);
}
