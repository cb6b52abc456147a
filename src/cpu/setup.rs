//! The numbers that every row of a call uses.

use std::f64::consts::LOG2_E;

use super::tile::padding;
use crate::moments::{Moment, Moments};
use crate::params::checked_from_bits;
use crate::rule::{self, Rule, Shape};
use crate::{Batch, Config};

/// A configuration with the numbers that follow from it.
pub(super) struct Setup<'a> {
    pub config: &'a Config,
    /// The needs of the divergence.
    pub rule: Rule,
    /// The moments that the configuration needs.
    pub moments: Moments,
    /// The similarity or the divergence needs a second sweep.
    pub second_sweep: bool,
    /// The shape of the gradient, with its numbers.
    pub shape: Shape,
    pub shape_numbers: [f32; 2],
    /// The hard part has a temperature of its own.
    pub own_hard: bool,
    /// log2(e) over the temperature, of student, teacher and hard part.
    pub student_log2: f32,
    pub teacher_log2: f32,
    pub hard_log2: f32,
    /// Bits of the magnitude from which logits take the checked path.
    pub checked_from: u32,
    /// Finite padding of student and teacher for the fast path, if there is any.
    pub padding: [Option<f32>; 2],
}

impl<'a> Setup<'a> {
    /// With `metrics`, rows also get the sums of their metrics.
    pub fn of(config: &'a Config, metrics: bool) -> Self {
        let of = |temperature: f64| (LOG2_E / temperature) as f32;
        let rule = config.divergence.rule();
        let mut moments = rule::moments(config);
        if metrics {
            moments = moments.with(rule::METRICS);
        }
        let (shape, shape_numbers) = rule::shape(config);
        let student_log2 = of(f64::from(config.student_temperature));
        let teacher_log2 = of(f64::from(config.teacher_temperature));
        let hard_log2 = of(config.label_temperature());
        let checked_from = checked_from_bits(config);
        // The padding's weights must be 0 in every moment.
        let (mut student_least, mut teacher_least) = (student_log2, teacher_log2);
        if moments.has(Moment::HardSum) {
            student_least = student_least.min(hard_log2);
        }
        if moments.has(Moment::TeacherHardSum) {
            teacher_least = teacher_least.min(hard_log2);
        }
        if moments.has(Moment::PowerCross) {
            let [u, v] = rule.shape_numbers;
            student_least = student_least.min(v * student_log2);
            teacher_least = teacher_least.min(u * teacher_log2);
        }
        Self {
            config,
            rule,
            moments,
            second_sweep: rule::needs_second_sweep(config),
            shape,
            shape_numbers,
            own_hard: config.has_own_hard_temperature(),
            student_log2,
            teacher_log2,
            hard_log2,
            checked_from,
            padding: [
                padding(checked_from, student_least),
                padding(checked_from, teacher_least),
            ],
        }
    }

    /// With the moments that a batch needs.
    pub fn for_batch(mut self, batch: &Batch<'_>) -> Self {
        if batch.soft_labels.is_some() {
            self.moments = self.moments.with(rule::SOFT_LABELS);
        }
        self
    }
}
