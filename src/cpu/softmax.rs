//! The probabilities of rows.

use super::Cpu;
use super::row::{Row, values};
use super::setup::Setup;
use super::tile::Ahead;
use crate::{Config, Decision, Logits, Result, RowResult, validate};

impl Cpu {
    /// The probabilities `softmax(logits / temperature)`, `[rows, classes]` without gaps.
    ///
    /// A row with NaN or `+inf`, or with only `-inf`, gives NaN.
    ///
    /// # Errors
    /// As for [`Engine::run`](crate::Engine::run).
    pub fn softmax(&self, logits: &Logits<'_>, rows: usize, temperature: f32) -> Result<Vec<f32>> {
        validate::temperature("temperature", temperature)?;
        validate::logits("logits", logits, rows)?;
        let classes = logits.classes;
        let config = Config {
            student_temperature: temperature,
            teacher_temperature: temperature,
            ..Config::default()
        };
        let setup = Setup::of(&config, false);
        self.new_matrix(rows, classes, |row, target, scratch| {
            let values = values(logits, row, classes);
            let r = Row {
                student: values,
                teacher: values,
                ids: None,
                label: 0,
                soft_label: None,
                weight: 1.0,
                setup: &setup,
            };
            // Softmax equals the gradient of a row without a teacher: the student's coefficient is 1 / z, all others are 0.
            let keep = Ahead::gradient(&target);
            let stats = self.isa.observe(&r, Some(keep), scratch);
            let decision = Decision {
                result: RowResult {
                    flags: stats.flags,
                    ..RowResult::default()
                },
                student_max: stats.student_max,
                teacher_max: stats.teacher_max,
                student_scale: 1.0 / stats.student_sum,
                ..Decision::default()
            };
            self.isa.apply(&r, &decision, target, true, scratch);
        })
    }
}
