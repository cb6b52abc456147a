//! The probabilities of rows.

use super::Cpu;
use super::row::{Row, values};
use super::setup::Setup;
use super::summary::SummaryAccumulator;
use super::tasks::tasks;
use super::tile::Ahead;
use super::zeros::zero_gradient;
use crate::{Config, Decision, GradientMut, Logits, Result, RowResult, Storage, validate};

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
        let mut out = zero_gradient(Storage::F32, rows * classes)?;
        let target = GradientMut::new(&mut out, classes);
        let tasks = tasks(rows, classes, Some(target), (&mut [], &mut []));
        self.run_tasks(tasks, |memory, mut task| {
            let scratch = memory.scratch();
            for row in task.rows.clone() {
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
                let gradient = task.gradient.as_mut().expect("softmax has an output");
                let keep = Ahead::gradient(gradient.row(row - task.rows.start));
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
                let target = gradient.row(row - task.rows.start);
                self.isa.apply(&r, &decision, target, true, scratch);
            }
            SummaryAccumulator::default()
        });
        Ok(out.into_f32())
    }
}
