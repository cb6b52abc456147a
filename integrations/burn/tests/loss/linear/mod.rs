//! The loss from hidden states and heads, against the loss of logits that a matrix product made.

mod memory;
mod refusals;
mod rows;
mod values;

use std::ops::Range;

use burn::tensor::{DType, Int, Tensor};
use burn_distill::{
    DistillationBatch, DistillationLossConfig, DistillationOutput, LinearDistillationBatch,
    LinearDistillationLoss, LinearLogits, LinearTeacher, Progress,
};

use crate::devices::{self, TestDevice};
use crate::inputs::Random;
use crate::inputs::{difference, floats, labels, tensor};

const ROWS: usize = 52;
const CLASSES: usize = 37;
const HIDDEN: usize = 19;
const TEACHER_HIDDEN: usize = 11;
const CHUNK: usize = 16;
const K: usize = 5;

fn progress() -> Progress {
    Progress::new(3, 10)
}

/// The kernels on flex and on a shared device, and Burn's operations. The launched kernels have a test of their own: each device costs the
/// compilation of Burn's kernels.
fn devices() -> Vec<TestDevice> {
    let all = devices::all().into_iter();
    let wanted = ["flex", "flex, composed", "shared"];
    all.filter(|on| wanted.contains(&on.name)).collect()
}

/// The teacher of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Head,
    Logits,
    Chunks,
    TopK,
    /// One log-probability a row.
    Sampled,
}

/// Hidden states and heads of 52 rows, of which some are padding. The student is tracked.
struct Problem {
    states: Tensor<2>,
    weights: Tensor<2>,
    bias: Option<Tensor<1>>,
    teacher_states: Tensor<2>,
    teacher_weights: Tensor<2>,
    labels: Tensor<1, Int>,
    row_weights: Tensor<1>,
}

/// Losses, metrics and gradients of a run.
struct Outcome {
    /// The loss, the mean KDR and TSSR, then loss, KDR and TSSR of each row.
    values: Vec<f32>,
    counts: Vec<f32>,
    states: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Problem {
    fn new(on: &TestDevice, with_bias: bool) -> Self {
        Self::of_type(on, with_bias, DType::F32)
    }

    fn of_type(on: &TestDevice, with_bias: bool, dtype: DType) -> Self {
        let device = &on.device;
        let own = |seed: u64, shape: [usize; 2], scale: f32| {
            let values = Random(seed).values(shape[0] * shape[1], scale);
            tensor(values, shape, device).cast(dtype)
        };
        let tracked = |t: Tensor<2>| Tensor::from_inner(t).require_grad();
        let bias = Random(5).values(CLASSES, 2.0);
        let bias = tensor(bias, [CLASSES], device).cast(dtype);
        Self {
            states: tracked(own(1, [ROWS, HIDDEN], 2.0)),
            weights: tracked(own(2, [CLASSES, HIDDEN], 0.7)),
            bias: with_bias.then(|| Tensor::from_inner(bias).require_grad()),
            teacher_states: own(3, [ROWS, TEACHER_HIDDEN], 2.0),
            teacher_weights: own(4, [CLASSES, TEACHER_HIDDEN], 0.9),
            // Padding in the first and in the last chunk.
            labels: labels(ROWS, CLASSES, device)
                .slice_fill(3..5, -100)
                .slice_fill(50..51, -100),
            row_weights: tensor(Random(6).values(ROWS, 3.0), [ROWS], device),
        }
    }

    fn student(&self) -> LinearLogits<2> {
        LinearLogits {
            bias: self.bias.clone(),
            ..LinearLogits::new(self.states.clone(), self.weights.clone())
        }
    }

    fn student_logits(&self) -> Tensor<2> {
        let logits = self.states.clone().matmul(self.weights.clone().transpose());
        match &self.bias {
            Some(bias) => logits + bias.clone().unsqueeze(),
            None => logits,
        }
    }

    fn teacher_logits(&self) -> Tensor<2> {
        let weights = self.teacher_weights.clone().transpose();
        self.teacher_states.clone().matmul(weights)
    }

    /// Log-probabilities of five classes of each row that together have less than 1, and the classes.
    fn teacher_list(&self) -> (Tensor<2>, Tensor<2, Int>) {
        let device = self.labels.device();
        let ids: Vec<i32> = (0..ROWS * K)
            .map(|i| ((i / K + 7 * (i % K)) % CLASSES) as i32)
            .collect();
        let data = burn::tensor::TensorData::new(ids, [ROWS, K]);
        let ids = Tensor::<2, Int>::from_data(data, (&device, DType::I32));
        let scores = tensor(Random(7).values(ROWS * K, 1.0), [ROWS, K], &device);
        (scores - 3.0, ids)
    }

    fn plain_batch(&self, kind: Kind) -> DistillationBatch<2, 1> {
        let (student, labels) = (self.student_logits(), self.labels.clone());
        match kind {
            Kind::TopK => {
                let (log_probabilities, ids) = self.teacher_list();
                DistillationBatch::top_k(student, log_probabilities, ids, labels)
            }
            Kind::Sampled => DistillationBatch::new(student, self.sampled(), labels),
            _ => DistillationBatch::new(student, self.teacher_logits(), labels),
        }
    }

    fn sampled(&self) -> Tensor<2> {
        tensor(
            Random(8).values(ROWS, 1.0),
            [ROWS, 1],
            &self.labels.device(),
        ) - 2.0
    }

    fn teacher<'a>(
        &self,
        kind: Kind,
        chunk: &'a dyn Fn(Range<usize>) -> Tensor<2>,
    ) -> LinearTeacher<'a, 2> {
        match kind {
            Kind::Head => {
                let (states, weights) = (&self.teacher_states, &self.teacher_weights);
                LinearLogits::new(states.clone(), weights.clone()).into()
            }
            Kind::Logits => LinearTeacher::Logits(self.teacher_logits()),
            Kind::Chunks => LinearTeacher::Chunks(chunk),
            Kind::TopK => {
                let (log_probabilities, ids) = self.teacher_list();
                LinearTeacher::TopK {
                    log_probabilities,
                    ids,
                }
            }
            Kind::Sampled => LinearTeacher::Logits(self.sampled()),
        }
    }

    /// The teacher's logits of a range of rows.
    fn chunk(&self, rows: Range<usize>) -> Tensor<2> {
        self.teacher_logits().slice([rows, 0..CLASSES])
    }

    /// The results of a run, with the gradients of the loss times `upstream`.
    fn outcome(&self, out: DistillationOutput, upstream: f32) -> Outcome {
        let grads = (out.loss.clone() * upstream).sum().backward();
        let gradient = |t: Option<Tensor<2>>| t.map(|t| floats(t.cast(DType::F32)));
        let bias = self.bias.as_ref().and_then(|bias| bias.grad(&grads));
        let values = [
            out.loss.inner(),
            out.kdr,
            out.tssr,
            out.row_loss,
            out.row_kdr,
            out.row_tssr,
        ];
        let counts = [
            out.valid_rows,
            out.ignored_rows,
            out.invalid_labels,
            out.non_finite_rows,
        ];
        Outcome {
            values: values.into_iter().flat_map(floats).collect(),
            counts: counts.map(|n| n.into_scalar::<i64>() as f32).to_vec(),
            states: gradient(self.states.grad(&grads)).expect("tracked"),
            weights: gradient(self.weights.grad(&grads)).expect("tracked"),
            bias: gradient(bias.map(|b| b.unsqueeze())).unwrap_or_default(),
        }
    }
}

/// A loss whose chunks have 16 rows, so that 52 rows are four chunks of which the last is short.
fn in_chunks(
    loss: LinearDistillationLoss,
    batch: &LinearDistillationBatch<'_, 2, 1>,
) -> LinearDistillationLoss {
    let rows = |budget: usize| loss.clone().with_memory_budget(budget).chunk_rows(batch);
    let budget = (1..4096)
        .map(|kib| kib << 8)
        .find(|budget| rows(*budget) >= CHUNK);
    let loss = loss.clone().with_memory_budget(budget.expect("a budget"));
    assert_eq!(loss.chunk_rows(batch), CHUNK);
    loss
}

/// Runs the loss from hidden states in four chunks, and the loss of logits.
fn both(
    on: &TestDevice,
    config: &DistillationLossConfig,
    problem: &Problem,
    kind: Kind,
) -> [Outcome; 2] {
    let plain = on.loss(config.init());
    let chunk = |rows: Range<usize>| problem.chunk(rows);
    let teacher = problem.teacher(kind, &chunk);
    let batch = LinearDistillationBatch::new(problem.student(), teacher, problem.labels.clone());
    let batch = batch.with_row_weights(problem.row_weights.clone());
    let loss = in_chunks(plain.clone().into(), &batch);
    let got = loss.forward_batch(batch, progress());
    let batch = problem.plain_batch(kind);
    let batch = batch.with_row_weights(problem.row_weights.clone());
    let want = plain.forward_batch(batch, progress());
    assert_eq!(got.path, on.path);
    [want, got].map(|out| problem.outcome(out, -2.5))
}

/// Fails where two outcomes differ by more than the tolerance, relative to the largest value.
fn compare([want, got]: &[Outcome; 2], tolerance: f32, about: &str) {
    assert_eq!(want.counts, got.counts, "{about}");
    for (name, want, got) in [
        ("loss and metrics", &want.values, &got.values),
        ("gradient of hidden states", &want.states, &got.states),
        ("gradient of weights", &want.weights, &got.weights),
        ("gradient of bias", &want.bias, &got.bias),
    ] {
        let apart = difference(want, got);
        assert!(apart < tolerance, "{about}: {name} differs by {apart:e}");
        assert!(
            want.is_empty() || want.iter().any(|x| *x != 0.0),
            "{about}: {name} is 0"
        );
    }
}
