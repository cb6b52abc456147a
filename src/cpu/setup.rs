//! The numbers that every row of a call uses.

use std::f64::consts::LOG2_E;

use super::tile::padding;
use crate::moments::{Moment, Moments};
use crate::params::checked_from_bits;
use crate::rule::{self, ClassWeights, Rule, Shape};
use crate::{Batch, Config};

/// A configuration with the numbers that follow from it.
#[derive(Clone)]
pub(super) struct Setup<'a> {
    pub config: &'a Config,
    /// The needs of the divergence.
    pub rule: Rule,
    /// The moments that the configuration needs.
    pub moments: Moments,
    /// TSSR or the divergence needs the teacher's logit at the label.
    pub teacher_label: bool,
    /// The similarity or the divergence needs a second sweep.
    pub second_sweep: bool,
    /// The shape of the gradient, with its numbers.
    pub shape: Shape,
    pub shape_numbers: [f32; 2],
    /// The hard part has a temperature of its own.
    pub own_hard: bool,
    /// A class that either row masks is masked in both.
    pub masks_joined: bool,
    /// Classes that the student masks have no share in the smoothed label.
    pub smooths_unmasked: bool,
    /// The temperatures of student and teacher; of standardised logits those of one row.
    pub student_temperature: f64,
    pub teacher_temperature: f64,
    /// log2(e) over the temperature, of student, teacher and hard part.
    pub student_log2: f32,
    pub teacher_log2: f32,
    pub hard_log2: f32,
    /// Bits of the magnitude from which logits take the checked path.
    pub checked_from: u32,
    /// Finite padding of student and teacher for the fast path, if there is any.
    pub padding: [Option<f32>; 2],
    /// The weights of the classes, if there are any.
    pub class_weights: Option<&'a [f32]>,
    /// The parts that they multiply.
    pub weights: ClassWeights,
    /// The rows are parts of rows: their statistics are merged before the label's class and KDR join them.
    pub is_part: bool,
}

impl<'a> Setup<'a> {
    /// With `metrics`, rows also get the sums of their metrics.
    pub fn of(config: &'a Config, metrics: bool) -> Self {
        let rule = config.divergence.rule();
        let mut moments = rule::moments(config);
        if metrics {
            moments = moments.with(rule::metrics(rule.sampled));
        }
        let (shape, shape_numbers) = rule::shape(config);
        let setup = Self {
            config,
            rule,
            moments,
            teacher_label: rule::needs_teacher_label(config),
            second_sweep: rule::needs_second_sweep(config),
            shape,
            shape_numbers,
            own_hard: config.has_own_hard_temperature(),
            masks_joined: config.joins_masks(),
            smooths_unmasked: config.smooths_unmasked(),
            student_temperature: 1.0,
            teacher_temperature: 1.0,
            student_log2: 0.0,
            teacher_log2: 0.0,
            hard_log2: log2(config.label_temperature()),
            checked_from: checked_from_bits(config),
            padding: [None; 2],
            class_weights: None,
            weights: ClassWeights::default(),
            is_part: false,
        };
        setup.at([
            f64::from(config.student_temperature),
            f64::from(config.teacher_temperature),
        ])
    }

    /// The numbers of a row of standardised logits with these standard deviations.
    pub fn of_row(&self, student_deviation: f32, teacher_deviation: f32) -> Self {
        let scale = |deviation| self.config.standardization.scale(deviation);
        self.clone().at([
            f64::from(self.config.student_temperature) * scale(student_deviation),
            f64::from(self.config.teacher_temperature) * scale(teacher_deviation),
        ])
    }

    /// Sets the temperatures of student and teacher.
    fn at(self, [student_temperature, teacher_temperature]: [f64; 2]) -> Self {
        let (moments, checked_from) = (self.moments, self.checked_from);
        let (student_log2, teacher_log2) = (log2(student_temperature), log2(teacher_temperature));
        let hard_log2 = self.hard_log2;
        // The padding's weights must be 0 in every moment.
        let (mut student_least, mut teacher_least) = (student_log2, teacher_log2);
        if moments.has(Moment::HardSum) {
            student_least = student_least.min(hard_log2);
        }
        if moments.has(Moment::TeacherHardSum) {
            teacher_least = teacher_least.min(hard_log2);
        }
        if moments.has(Moment::PowerCross) {
            let [u, v] = self.rule.shape_numbers;
            student_least = student_least.min(v * student_log2);
            teacher_least = teacher_least.min(u * teacher_log2);
        }
        Self {
            student_temperature,
            teacher_temperature,
            student_log2,
            teacher_log2,
            padding: [
                padding(checked_from, student_least),
                padding(checked_from, teacher_least),
            ],
            ..self
        }
    }

    /// The same numbers with the moments that a batch needs, and with its weights of classes.
    pub fn for_batch(mut self, batch: &Batch<'a>) -> Self {
        if batch.soft_labels.is_some() {
            self.moments = self.moments.with(rule::SOFT_LABELS);
        }
        if batch.class_weights.is_some() {
            self.weights = ClassWeights::of(self.config);
            self.moments = self.weights.replace(self.moments);
            self.class_weights = batch.class_weights;
        }
        self
    }

    /// The weights of the classes, if sums and gradient need them.
    pub fn summed_weights(&self) -> Option<&'a [f32]> {
        let summed = self.weights.soft || self.weights.smoothing;
        self.class_weights.filter(|_| summed)
    }
}

/// log2(e) over a temperature.
fn log2(temperature: f64) -> f32 {
    (LOG2_E / temperature) as f32
}
