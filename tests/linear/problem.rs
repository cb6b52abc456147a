//! Hidden states and heads whose logits are exact in f32, their logits in f64, and the comparison with the reference.

use wgpu_distill::linear::{FusedLinear, Linear, LinearBatch, LinearOutputs, Teacher};
use wgpu_distill::{
    Batch, Config, GradWrite, Logits, Progress, RowMetrics, RowResult, Summary, reference,
};

use crate::cases::Tolerance;
use crate::cases::compare::FLAGS;
use crate::cases::inputs::Random;
use crate::cases::tolerance::{assert_close, gradient_weight, loss_factor};

pub const HALFWAY: Progress = Progress { step: 1, total: 2 };

/// The teacher of a problem.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Linear,
    /// The logits of the teacher's head, as a matrix.
    Logits,
    /// The most likely classes of them.
    TopK(usize),
    /// The log-probability of the label.
    Sampled,
}

/// Hidden states, weights and bias, all small multiples of powers of two.
#[derive(Clone, Debug)]
pub struct Side {
    pub hidden_states: Vec<f32>,
    pub weights: Vec<f32>,
    pub bias: Option<Vec<f32>>,
    pub hidden: usize,
    pub classes: usize,
}

impl Side {
    fn new(random: &mut Random, [rows, hidden, classes]: [usize; 3], with_bias: bool) -> Self {
        // A logit has the standard deviation 2.
        let scale = 2.0 / (hidden as f32).sqrt();
        let mut on_grid = |n: usize, scale: f32, step: f32| -> Vec<f32> {
            let value = |random: &mut Random| (random.normal() * scale / step).round() * step;
            (0..n).map(|_| value(random)).collect()
        };
        Self {
            hidden_states: on_grid(rows * hidden, 1.0, 0.25),
            weights: on_grid(classes * hidden, scale, 1.0 / 64.0),
            bias: with_bias.then(|| on_grid(classes, 1.0, 0.125)),
            hidden,
            classes,
        }
    }

    pub fn linear(&self) -> Linear<'_> {
        let (hidden_states, weights) = (&self.hidden_states, &self.weights);
        let linear = Linear::new(hidden_states, weights, self.hidden, self.classes);
        match &self.bias {
            Some(bias) => linear.with_bias(bias),
            None => linear,
        }
    }

    /// `[rows, classes]`
    pub fn logits(&self) -> Vec<f64> {
        let rows = self.hidden_states.chunks(self.hidden);
        let logit = |state: &[f32], class: usize| {
            let weights = &self.weights[class * self.hidden..][..self.hidden];
            let pairs = state.iter().zip(weights);
            let product: f64 = pairs.map(|(h, w)| f64::from(*h) * f64::from(*w)).sum();
            product
                + self
                    .bias
                    .as_ref()
                    .map_or(0.0, |bias| f64::from(bias[class]))
        };
        rows.flat_map(|state| (0..self.classes).map(move |class| logit(state, class)))
            .collect()
    }
}

pub struct Problem {
    pub student: Side,
    pub teacher: Side,
    pub kind: Kind,
    pub labels: Vec<i32>,
    pub row_weights: Option<Vec<f32>>,
    /// Logits or log-probabilities of a teacher that is no head.
    teacher_values: Vec<f32>,
    teacher_ids: Vec<i32>,
}

/// A call's outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    pub summary: Summary,
    pub rows: Vec<RowResult>,
    pub metrics: Vec<RowMetrics>,
    pub grad_hidden_states: Vec<f32>,
    pub grad_weights: Vec<f32>,
    pub grad_bias: Vec<f32>,
}

impl Done {
    pub fn gradients(&self) -> [&[f32]; 3] {
        [
            &self.grad_hidden_states,
            &self.grad_weights,
            &self.grad_bias,
        ]
    }

    /// Every bit.
    pub fn bits(&self) -> Vec<u32> {
        let mut bytes = bytemuck_bytes(&self.summary);
        bytes.extend(self.rows.iter().flat_map(bytemuck_bytes));
        bytes.extend(self.metrics.iter().flat_map(bytemuck_bytes));
        let gradients = self.gradients().into_iter().flatten();
        bytes.extend(gradients.map(|g| g.to_bits()));
        bytes
    }
}

fn bytemuck_bytes<T: wgpu_distill::bytemuck::Pod>(value: &T) -> Vec<u32> {
    wgpu_distill::bytemuck::pod_collect_to_vec(std::slice::from_ref(value))
}

/// The reference's outputs.
pub struct Truth {
    pub done: reference::Distillation,
    /// For hidden states, weights and bias, each with the bounds of its elements.
    pub gradients: [Vec<(f64, f64)>; 3],
}

impl Problem {
    /// A problem with a bias in both heads. Every fifth row is ignored.
    pub fn new(rows: usize, hidden: [usize; 2], classes: [usize; 2], kind: Kind) -> Self {
        let mut random = Random::new(0x11_4ea2);
        let [student, teacher] =
            [0, 1].map(|i| Side::new(&mut random, [rows, hidden[i], classes[i]], true));
        let label = |row: usize| match row % 5 {
            3 => -100,
            _ => ((row * 7) % classes[0]) as i32,
        };
        let labels: Vec<i32> = (0..rows).map(label).collect();
        let mut problem = Self {
            student,
            teacher,
            kind,
            labels,
            row_weights: None,
            teacher_values: Vec::new(),
            teacher_ids: Vec::new(),
        };
        problem.list_teacher();
        problem
    }

    /// Computes the teacher's matrix or list from its head.
    fn list_teacher(&mut self) {
        let logits = self.teacher.logits();
        let rows = logits.chunks(self.teacher.classes);
        let log_sum = |row: &[f64]| row.iter().map(|x| x.exp()).sum::<f64>().ln();
        for (row, &label) in rows.zip(&self.labels) {
            match self.kind {
                Kind::Linear => {}
                Kind::Logits => self.teacher_values.extend(row.iter().map(|x| *x as f32)),
                Kind::TopK(k) => {
                    let mut classes: Vec<usize> = (0..row.len()).collect();
                    classes.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
                    for class in &classes[..k] {
                        self.teacher_ids.push(*class as i32);
                        self.teacher_values
                            .push((row[*class] - log_sum(row)) as f32);
                    }
                }
                Kind::Sampled => {
                    let label = usize::try_from(label).unwrap_or(0);
                    self.teacher_values.push((row[label] - log_sum(row)) as f32);
                }
            }
        }
    }

    pub fn batch(&self) -> LinearBatch<'_> {
        let values = &self.teacher_values;
        let teacher = match self.kind {
            Kind::Linear => Teacher::Linear(self.teacher.linear()),
            Kind::Logits => Teacher::Logits(Logits::new(values, self.teacher.classes)),
            Kind::TopK(k) => Teacher::TopK {
                log_probabilities: Logits::new(values, k),
                ids: &self.teacher_ids,
            },
            Kind::Sampled => Teacher::Logits(Logits::new(values, 1)),
        };
        LinearBatch {
            row_weights: self.row_weights.as_deref(),
            ..LinearBatch::new(self.student.linear(), teacher, &self.labels)
        }
    }

    /// Bytes of one row of a chunk, by the documented formula.
    pub fn row_bytes(&self) -> usize {
        let (hidden, classes) = (self.student.hidden, self.student.classes);
        let teacher = match self.kind {
            Kind::Linear => self.teacher.classes.min(classes) + self.teacher.hidden,
            _ => 0,
        };
        let segment = classes.div_ceil(16usize.div_ceil(hidden.div_ceil(512)));
        let segments = classes.div_ceil(segment.max(1024));
        4 * (classes + teacher + hidden * (1 + segments)) + 64
    }

    /// The loss with chunks of so many rows.
    pub fn loss(&self, chunk_rows: usize) -> FusedLinear {
        FusedLinear::new().with_memory_budget(chunk_rows * self.row_bytes())
    }

    /// Runs with every output, in memory that holds `before`.
    pub fn run(&self, loss: &FusedLinear, config: &Config, before: f32) -> Done {
        let (rows, hidden) = (self.labels.len(), self.student.hidden);
        let classes = self.student.classes;
        let with_metrics = !matches!(self.kind, Kind::TopK(_));
        let mut done = Done {
            summary: Summary::default(),
            rows: vec![RowResult::default(); rows],
            metrics: vec![RowMetrics::default(); if with_metrics { rows } else { 0 }],
            grad_hidden_states: vec![before; rows * hidden],
            grad_weights: vec![before; classes * hidden],
            grad_bias: vec![before; classes],
        };
        let outputs = LinearOutputs {
            rows: Some(&mut done.rows),
            metrics: with_metrics.then_some(&mut done.metrics),
            grad_hidden_states: Some(&mut done.grad_hidden_states),
            grad_weights: Some(&mut done.grad_weights),
            grad_bias: self.student.bias.as_ref().map(|_| &mut done.grad_bias[..]),
        };
        let summary = loss.run_into(config, HALFWAY, &self.batch(), outputs);
        done.summary = summary.unwrap_or_else(|e| panic!("{config:?}: {e}"));
        done
    }

    /// The reference on the logits in f64, which are exact in f32.
    pub fn truth(&self, config: &Config) -> Truth {
        let exact = |side: &Side| -> Vec<f32> {
            let logits = side.logits().into_iter();
            logits
                .map(|x| {
                    assert_eq!(f64::from(x as f32), x, "a logit on the grid");
                    x as f32
                })
                .collect()
        };
        let student = exact(&self.student);
        let teacher = match self.kind {
            Kind::Linear => exact(&self.teacher),
            _ => self.teacher_values.clone(),
        };
        let batch = self.batch();
        let (teacher_classes, ids) = match batch.teacher {
            Teacher::Linear(teacher) => (teacher.classes, None),
            Teacher::Logits(logits) => (logits.classes, None),
            Teacher::TopK { ids, .. } => (ids.len() / self.labels.len(), Some(ids)),
            _ => unreachable!("a kind of this test"),
        };
        let batch = Batch {
            teacher_logits: Logits::new(&teacher, teacher_classes),
            teacher_ids: ids,
            row_weights: batch.row_weights,
            ..Batch::new(&student, &teacher, &self.labels, self.student.classes)
        };
        let config = Config {
            grad_write: GradWrite::Overwrite,
            ..*config
        };
        let done = reference::distill(&config, HALFWAY, &batch);
        let done = done.unwrap_or_else(|e| panic!("{config:?}: {e}"));
        let gradients = self.gradients(&config, &done);
        Truth { done, gradients }
    }

    /// Products of the gradient of the logits, in f64. An element's bound is that of a sum whose terms have the errors of the engine
    /// without a common sign, and of its rounding.
    fn gradients(&self, config: &Config, done: &reference::Distillation) -> [Vec<(f64, f64)>; 3] {
        let (hidden, classes) = (self.student.hidden, self.student.classes);
        let weight = gradient_weight(config, done.summary.valid_rows);
        let grad = &done.grad_student_logits;
        let rows = grad.chunks(classes).enumerate();
        let bounds: Vec<f64> = rows
            .map(|(row, grad)| {
                let largest = grad.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
                let weight = weight
                    * self
                        .row_weights
                        .as_ref()
                        .map_or(1.0, |w| f64::from(w[row].abs()));
                Tolerance::F32.gradient(largest, weight)
            })
            .collect();
        let sum = |terms: &mut dyn Iterator<Item = (f64, f64, f64)>| {
            let (mut sum, mut square, mut magnitude) = (0.0, 0.0, 0.0);
            for (grad, factor, bound) in terms {
                sum += grad * factor;
                square += (bound * factor).powi(2);
                magnitude += (grad * factor).abs();
            }
            (sum, 4.0 * square.sqrt() + 1e-6 * magnitude)
        };
        let (states, weights) = (&self.student.hidden_states, &self.student.weights);
        let at =
            |values: &[f32], row: usize, column: usize| f64::from(values[row * hidden + column]);
        let all = |n: usize, of: &dyn Fn(usize, usize) -> (f64, f64)| -> Vec<(f64, f64)> {
            (0..n)
                .flat_map(|i| (0..hidden).map(move |j| of(i, j)))
                .collect()
        };
        let rows = self.labels.len();
        let kept: Vec<usize> = (0..rows)
            .filter(|row| self.labels[*row] != config.ignore_index)
            .collect();
        [
            all(rows, &|row, j| {
                let terms =
                    (0..classes).map(|c| (grad[row * classes + c], at(weights, c, j), bounds[row]));
                sum(&mut terms.into_iter())
            }),
            all(classes, &|class, j| {
                let term = |row: &usize| {
                    (
                        grad[row * classes + class],
                        at(states, *row, j),
                        bounds[*row],
                    )
                };
                sum(&mut kept.iter().map(term))
            }),
            (0..classes)
                .map(|class| {
                    sum(&mut kept
                        .iter()
                        .map(|row| (grad[row * classes + class], 1.0, bounds[*row])))
                })
                .collect(),
        ]
    }

    /// Fails unless loss, rows and gradients agree with the reference. The memory held `before` if the gradients were added to it.
    pub fn check(&self, about: &str, config: &Config, truth: &Truth, done: &Done, before: f64) {
        let tolerance = Tolerance::F32;
        let factor = loss_factor(config);
        let close = |about: &str, what: &str, got: f32, want: f64, allowed: f64| {
            assert_close(&format!("{about}, {what}"), got.into(), want, allowed);
        };
        let mut magnitude = 0.0;
        for (row, (got, want)) in done.rows.iter().zip(&truth.done.rows).enumerate() {
            let about = format!("{about}, row {row}");
            let weight = self
                .row_weights
                .as_ref()
                .map_or(1.0, |w| f64::from(w[row].abs()));
            let allowed = tolerance.loss(want.loss, factor * weight);
            close(&about, "loss", got.loss, want.loss, allowed);
            magnitude += want.loss.abs();
            if !config.divergence.is_sampled() {
                close(&about, "kdr", got.kdr, want.kdr, tolerance.unit);
            }
            close(&about, "tssr", got.tssr, want.tssr, tolerance.unit);
            assert_eq!(got.flags & FLAGS, want.flags & FLAGS, "{about}, flags");
        }
        let (got, want) = (&done.summary, &truth.done.summary);
        let valid = f64::from(want.valid_rows);
        let denominator = config.reduction.denominator(want.valid_rows);
        let allowed = tolerance.loss_of_sum(magnitude, factor, valid) / denominator;
        close(about, "loss", got.loss, want.loss, allowed);
        close(about, "kdr", got.kdr, want.kdr, tolerance.unit);
        close(about, "tssr", got.tssr, want.tssr, tolerance.unit);
        let counts = [got.valid_rows, got.ignored_rows, got.non_finite_rows];
        let wanted = [want.valid_rows, want.ignored_rows, want.non_finite_rows];
        assert_eq!(counts, wanted, "{about}: rows");
        let names = ["grad_hidden_states", "grad_weights", "grad_bias"];
        let pairs = done
            .gradients()
            .into_iter()
            .zip(&truth.gradients)
            .zip(names);
        for ((got, want), name) in pairs {
            assert_eq!(got.len(), want.len(), "{about}, {name}");
            if name == "grad_bias" && self.student.bias.is_none() {
                continue;
            }
            for (i, (got, (want, bound))) in got.iter().zip(want).enumerate() {
                let about = format!("{about}, {name} {i}");
                let rounding = 2e-7 * before.abs();
                assert_close(&about, f64::from(*got), before + want, bound + rounding);
            }
        }
    }
}
