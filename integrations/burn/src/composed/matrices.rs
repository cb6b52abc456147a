//! The operations on matrices, one after the other: operations on columns between them would be computed anew for each class where fusion makes
//! one kernel of both.

use burn::tensor::{Int, Tensor};
use wgpu_distill::Config;

use super::choices::{Choices, similarity_needs_distances};
use super::soft_part::{SoftPart, needs_distances, weighted_cross_entropy};
use super::softmax::{Softmax, product};
use super::sums::over_classes;
use super::truth::Truth;

/// The inputs of the operations, f32, `[rows, classes]` but for `class`.
pub(super) struct Inputs {
    pub student: Tensor<2>,
    pub teacher: Tensor<2>,
    /// The class of each label, `[rows, 1]`.
    pub class: Tensor<2, Int>,
    pub soft_labels: Option<Tensor<2>>,
    /// The weights of the classes in the hard and in the soft part, `[1, classes]`.
    pub hard_weights: Option<Tensor<2>>,
    pub soft_weights: Option<Tensor<2>>,
    /// KDR is needed.
    pub wants_kdr: bool,
    /// The metrics of rows need logits and distances.
    pub wants_metrics: bool,
}

/// The matrices that give the columns of the rows, and of which the gradient is made.
pub(super) struct Matrices {
    /// The student at its own temperature and the teacher.
    pub p: Softmax,
    pub q: Softmax,
    /// The student at the temperature of the hard part, if that has its own.
    pub own: Option<Softmax>,
    /// KDR, `[rows, 1]`.
    pub kdr: Option<Tensor<2>>,
    pub soft: SoftPart,
    /// The label's distribution, if it is a matrix.
    pub truth: Option<Truth>,
    /// The value of the hard part, `[rows, 1]`.
    pub hard: Tensor<2>,
    /// Logits and softmax of student and teacher.
    pub for_metrics: Option<[(Tensor<2>, Softmax); 2]>,
}

impl Matrices {
    pub fn of(inputs: Inputs, config: &Config, choices: &Choices) -> Self {
        let Inputs {
            student,
            teacher,
            class,
            soft_labels,
            hard_weights,
            soft_weights,
            wants_kdr,
            wants_metrics,
        } = inputs;
        let [_, classes] = student.dims();
        let smoothing = config.label_smoothing;
        let label_is_matrix = soft_labels.is_some() || hard_weights.is_some();
        let mut needs = needs_distances(config.divergence);
        let kdr_needs = wants_kdr && similarity_needs_distances(config.similarity);
        if wants_metrics || soft_weights.is_some() || kdr_needs {
            needs = [true; 2];
        }
        needs[0] |= label_is_matrix || smoothing > 0.0;

        let label_logit = student.clone().gather(1, class.clone());
        let logits = wants_metrics.then(|| [student.clone(), teacher.clone()]);
        let own_logits = choices.hard.temperature.map(|own| (student.clone(), own));
        let mut p = Softmax::of(student, config.student_temperature, needs[0]);
        let mut q = Softmax::of(teacher, config.teacher_temperature, needs[1]);
        let for_metrics = logits.map(|[student, teacher]| {
            let (p, q) = (p.clone(), q.clone());
            [(student, p), (teacher, q)]
        });
        let kdr = wants_kdr.then(|| (choices.similarity)(&p, &q));
        let ln_p = (label_is_matrix && own_logits.is_none()).then(|| p.log());
        let distance_sum =
            (smoothing > 0.0 && !label_is_matrix).then(|| over_classes(p.distances()));
        let soft = match soft_weights {
            Some(weights) => weighted_cross_entropy(&p, &q, weights),
            None => (choices.soft)(&mut p, &mut q),
        };
        let (ln_h, own) = match own_logits {
            None => (ln_p, None),
            Some((logits, temperature)) if label_is_matrix => {
                let softmax = Softmax::of(logits, temperature, true);
                (Some(softmax.log()), Some(softmax))
            }
            Some((logits, temperature)) => (None, Some(p.at(logits, temperature))),
        };
        let h = own.as_ref().unwrap_or(&p);
        let (truth, hard) = match ln_h {
            Some(ln_h) => {
                let truth = Truth::of(&class, classes, soft_labels, smoothing);
                let truth = truth.weighted(hard_weights);
                let value = over_classes(product(truth.terms.clone(), ln_h)).neg();
                (Some(truth), value)
            }
            None => {
                let at_label = h.ln_sum.clone() - h.distance_of(label_logit);
                let value = match distance_sum {
                    None => at_label,
                    Some(sum) => {
                        let ratio = config.student_temperature / h.temperature;
                        let mean = sum * (ratio / classes as f32);
                        at_label * (1.0 - smoothing) + (h.ln_sum.clone() - mean) * smoothing
                    }
                };
                (None, value)
            }
        };
        Self {
            p,
            q,
            own,
            kdr,
            soft,
            truth,
            hard,
            for_metrics,
        }
    }
}
