//! Calls that are refused, by name and with numbers, before anything is queued.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_distill::{
    CoreError, DistillationLossConfig, Error, LinearDistillationBatch, LinearDistillationLoss,
    LinearLogits, LinearTeacher, presets,
};

use super::{CLASSES, HIDDEN, Kind, Problem, ROWS, progress};
use crate::devices;
use crate::inputs::{logits, tensor};

type Batch<'a> = LinearDistillationBatch<'a, 2, 1>;

fn text(loss: &LinearDistillationLoss, batch: Batch<'_>) -> String {
    let done = loss.try_forward_batch(batch, progress());
    done.expect_err("refused").to_string()
}

#[test]
fn shapes_types_and_devices_that_do_not_fit() {
    let on = devices::all().remove(0);
    let device = &on.device;
    let problem = Problem::new(&on, true);
    let loss = LinearDistillationLoss::from(on.loss(DistillationLossConfig::new().init()));
    let chunk = |rows: std::ops::Range<usize>| problem.chunk(rows.start..rows.end - 1);
    let batch = || {
        let teacher = problem.teacher(Kind::Head, &chunk);
        Batch::new(problem.student(), teacher, problem.labels.clone())
    };
    let zeros = |shape: [usize; 2]| Tensor::<2>::zeros(shape, (device, DType::F32));
    let list = |n: usize| Tensor::<1>::zeros([n], (device, DType::F32));
    let student = |student: LinearLogits<2>| {
        let mut changed = batch();
        changed.student = student;
        changed
    };
    let teacher = |teacher: LinearTeacher<'static, 2>| {
        let mut changed = batch();
        changed.teacher = teacher;
        changed
    };
    let few_labels = {
        let mut changed = batch();
        changed.labels = problem.labels.clone().slice(0..9);
        changed
    };
    let few_rows = {
        let mut changed = batch();
        changed.teacher = problem.teacher(Kind::Chunks, &chunk);
        changed
    };
    let own = || problem.student();
    let cases = [
        (
            student(LinearLogits {
                weights: zeros([CLASSES, 3]),
                ..own()
            }),
            "`student.weights` has shape [37, 3], expected [classes, 19] for student.hidden_states of shape [52, 19]",
        ),
        (
            student(LinearLogits {
                bias: Some(list(4)),
                ..own()
            }),
            "`student.bias` has shape [4], expected [37]",
        ),
        (
            student(LinearLogits {
                weights: zeros([CLASSES, HIDDEN]).cast(DType::F16),
                ..own()
            }),
            "`student.weights` is F16, expected F32, the type of `student.hidden_states`; cast it",
        ),
        (
            teacher(LinearLogits::new(zeros([ROWS - 1, 4]), zeros([CLASSES, 4])).into()),
            "`teacher.hidden_states` has shape [51, 4], expected [52, 4]",
        ),
        (
            teacher(LinearTeacher::Logits(zeros([ROWS - 1, CLASSES]))),
            "`teacher logits` has shape [51, 37], expected [52, 37]",
        ),
        (
            teacher(LinearTeacher::Logits(zeros([ROWS, CLASSES - 1]))),
            "student has 37 classes",
        ),
        (
            teacher(LinearTeacher::TopK {
                log_probabilities: zeros([ROWS, 3]),
                ids: Tensor::zeros([ROWS, 2], (device, DType::I32)),
            }),
            "`teacher ids` has shape [52, 2], expected [52, 3]",
        ),
        (
            few_rows,
            "`a chunk of teacher logits` has shape [51, 37], expected [52, classes] for the rows 0..52",
        ),
        (few_labels, "`labels` has shape [9], expected [52]"),
        (
            batch().with_row_weights(list(9)),
            "`row_weights` has shape [9], expected [52]",
        ),
        (
            batch().with_class_weights(list(9)),
            "`class_weights` has shape [9], expected [37]",
        ),
        (
            batch().with_soft_labels(zeros([ROWS, 9])),
            "`soft_labels` has shape [52, 9], expected [52, 37]",
        ),
        (
            batch().with_denominator(list(2)),
            "denominator has shape [2]",
        ),
    ];
    for (batch, want) in cases {
        let got = text(&loss, batch);
        assert!(got.contains(want), "{got}\nexpected {want}");
    }
    // Choices of the configuration that need other inputs.
    let sampled = DistillationLossConfig::from(presets::low_var_kl()).init();
    let sampled = LinearDistillationLoss::from(on.loss(sampled));
    let got = text(&sampled, batch());
    assert!(got.contains("the teacher has 37 classes"), "{got}");
    let Some(other) = devices::shared() else {
        return;
    };
    let far = LinearLogits::new(logits(1, ROWS, 4, &other), logits(1, CLASSES, 4, &other));
    let got = text(&loss, teacher(far.into()));
    assert!(got.contains("student.hidden_states is on"), "{got}");
    assert!(got.contains("`teacher.weights` is on"), "{got}");
}

/// The host names the row of the whole batch, and the label as it was given.
#[test]
fn a_label_out_of_range_in_a_later_chunk() {
    let device = Device::flex();
    let on = devices::all().remove(0);
    assert_eq!(on.device, device);
    let problem = Problem::new(&on, false);
    let loss = LinearDistillationLoss::from(DistillationLossConfig::new().init());
    let loss = loss.with_memory_budget(4096);
    let with = |row: usize, label: i64, dtype| {
        let mut labels = vec![1i64; ROWS];
        labels[row] = label;
        let labels = TensorData::new(labels, [ROWS]);
        let labels = Tensor::<1, Int>::from_data(labels, (&device, dtype));
        let teacher = LinearTeacher::Logits(problem.teacher_logits());
        let batch = Batch::new(problem.student(), teacher, labels);
        assert!(loss.chunk_rows(&batch) < 40);
        loss.try_forward_batch(batch, progress()).err()
    };
    let want = CoreError::LabelOutOfRange {
        row: 45,
        label: 37,
        classes: CLASSES,
    };
    assert_eq!(with(45, 37, DType::I32), Some(Error::Distill(want)));
    let beyond = 1i64 << 40;
    let want = Error::ClassOutOfRange {
        name: "labels",
        row: 44,
        value: i128::from(beyond),
        classes: CLASSES,
    };
    assert_eq!(with(44, beyond, DType::I64), Some(want));
    let teacher = LinearTeacher::Logits(problem.teacher_logits());
    let weights = tensor(vec![1.0; ROWS], [ROWS], &device).slice_fill(41..42, f32::NAN);
    let batch = Batch::new(problem.student(), teacher, problem.labels.clone());
    let got = text(&loss, batch.with_row_weights(weights));
    assert!(got.starts_with("the weight of row 41 is NaN"), "{got}");
}
