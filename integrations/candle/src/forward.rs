//! The loss of the CPU path on candle's memory.

use std::cell::OnceCell;

use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor, bail};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{Batch, Config, Distillation, Logits, Outputs, Progress, Reduction};

use crate::arguments::Arguments;
use crate::views::logits;

/// The loss, one number or one for each row, and all other results.
pub(crate) fn distill(
    cpu: &Cpu,
    config: &Config,
    progress: Progress,
    arguments: &Arguments,
    outputs: Outputs,
) -> Result<(Tensor, Distillation)> {
    let forward = Forward {
        cpu,
        config,
        progress,
        arguments,
        outputs,
        done: OnceCell::new(),
    };
    // As an operation, the call may read two views of one storage.
    let (student, teacher) = (&arguments.student, &arguments.teacher);
    let loss = student.apply_op2_no_bwd(teacher, &forward)?;
    match forward.done.into_inner() {
        Some(done) => Ok((loss, done)),
        None => bail!("the loss was not computed"),
    }
}

struct Forward<'a> {
    cpu: &'a Cpu,
    config: &'a Config,
    progress: Progress,
    arguments: &'a Arguments,
    outputs: Outputs,
    done: OnceCell<Distillation>,
}

impl CustomOp2 for Forward<'_> {
    fn name(&self) -> &'static str {
        "distillation-loss"
    }

    fn cpu_fwd(
        &self,
        student: &CpuStorage,
        student_layout: &Layout,
        teacher: &CpuStorage,
        teacher_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let student_logits = logits(student, student_layout)?;
        let soft_labels = self.arguments.soft_labels.as_deref();
        let batch = Batch {
            student_logits,
            teacher_logits: logits(teacher, teacher_layout)?,
            teacher_ids: self.arguments.teacher_ids.as_deref(),
            labels: &self.arguments.labels,
            soft_labels: soft_labels.map(|y| Logits::new(y, student_logits.classes)),
            row_weights: self.arguments.row_weights.as_deref(),
            class_weights: self.arguments.class_weights.as_deref(),
        };
        let done = self
            .cpu
            .run(self.config, self.progress, &batch, self.outputs)
            .map_err(Error::wrap)?;
        let (loss, shape) = match self.config.reduction {
            Reduction::None => {
                let loss: Vec<f32> = done.rows.iter().map(|row| row.loss).collect();
                (loss, Shape::from(batch.rows()))
            }
            _ => (vec![done.summary.loss], Shape::from(())),
        };
        self.done.get_or_init(|| done);
        Ok((CpuStorage::F32(loss), shape))
    }
}
