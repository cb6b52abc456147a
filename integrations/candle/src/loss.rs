//! The public loss and its outputs.

use std::sync::Arc;

use candle_core::{Error, Result, Tensor, bail};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{Batch, Config, Outputs, Progress, RowMetrics, RowResult, Storage, Summary};

use crate::arguments::Arguments;
use crate::batch::DistillationBatch;
use crate::forward;
use crate::gradient::LossNode;

/// The distillation loss of student logits, teacher logits and labels on the CPU.
#[derive(Clone, Debug)]
pub struct DistillationLoss {
    config: Config,
    cpu: Cpu,
    row_metrics: bool,
}

/// A loss with its metrics. Only `loss` is differentiable.
#[derive(Clone, Debug)]
pub struct DistillationOutput {
    /// The loss in nats, f32: a scalar, or `[rows]` with `Reduction::None`.
    pub loss: Tensor,
    /// Each row's loss before reduction, KDR and TSSR. A row of `[batch, sequence, classes]` is one position.
    pub rows: Vec<RowResult>,
    /// Each row's metrics if [`with_row_metrics`](DistillationLoss::with_row_metrics) requests them, else empty.
    pub row_metrics: Vec<RowMetrics>,
    /// The reduced loss (the sum with `Reduction::None`), the means of KDR, TSSR and the requested metrics, and the counts of valid,
    /// ignored and non-finite rows.
    pub summary: Summary,
}

impl DistillationLoss {
    /// The loss with this configuration.
    ///
    /// # Errors
    /// A field outside its range, choices that exclude each other, and a `grad_write` or `grad_loss` other than the default: candle adds
    /// gradients and multiplies by the upstream gradient itself.
    pub fn new(config: Config) -> Result<Self> {
        let cpu = Cpu::new();
        if config.grad_loss != 1.0 {
            bail!(
                "`grad_loss` is {}, expected 1; multiply the loss instead: `(loss * scale)?.backward()`",
                config.grad_loss
            );
        }
        let no_rows = Batch::new(&[] as &[f32], &[] as &[f32], &[], 1);
        cpu.run(&config, Progress::new(0, 1), &no_rows, Outputs::SUMMARY)
            .map_err(Error::wrap)?;
        Ok(Self {
            config,
            cpu,
            row_metrics: false,
        })
    }

    /// Returns the loss with [`DistillationOutput::row_metrics`] and their means in the summary. They cost no further sweep over the
    /// logits.
    pub fn with_row_metrics(self) -> Self {
        Self {
            row_metrics: true,
            ..self
        }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The loss in nats, f32: a scalar, or `[rows]` with `Reduction::None`.
    ///
    /// # Shapes
    ///
    /// - student_logits, teacher_logits: `[rows, classes]` or `[batch, sequence, classes]`; f32, f16 or bf16, each its own
    /// - labels: `[rows]` or `[batch, sequence]`; u8, u32, i16, i32 or i64
    ///
    /// # Errors
    /// As for [`forward_batch`](Self::forward_batch).
    pub fn forward(
        &self,
        student_logits: &Tensor,
        teacher_logits: &Tensor,
        labels: &Tensor,
        progress: Progress,
    ) -> Result<Tensor> {
        let batch = DistillationBatch::new(student_logits, teacher_logits, labels);
        Ok(self.forward_batch(&batch, progress)?.loss)
    }

    /// The loss of a batch with its metrics.
    ///
    /// The gradient is computed with the loss if the student's logits are tracked. The graph keeps it in f32, and nothing else of the
    /// size rows x classes.
    ///
    /// # Errors
    /// Tensors on a CUDA or Metal device; shapes, types or numbers of classes that do not fit; a label or an entry of the teacher's list
    /// that is out of range; a row weight that is not finite; a number of a soft label or a weight of a class beyond its range; soft labels,
    /// weights or a list beside choices that exclude them; progress out of range.
    pub fn forward_batch(
        &self,
        batch: &DistillationBatch<'_>,
        progress: Progress,
    ) -> Result<DistillationOutput> {
        let arguments = Arguments::of(&self.config, batch)?;
        let tracked = batch.student_logits.track_op();
        let outputs = Outputs {
            rows: true,
            metrics: self.row_metrics,
            gradient: tracked.then_some(Storage::F32),
        };
        let (config, cpu) = (&self.config, &self.cpu);
        let (loss, mut done) = forward::distill(cpu, config, progress, &arguments, outputs)?;
        let rows = std::mem::take(&mut done.rows);
        let row_metrics = std::mem::take(&mut done.metrics);
        let summary = done.summary;
        let loss = match tracked {
            false => loss,
            true => batch.student_logits.apply_op1(LossNode {
                loss: loss.flatten_all()?.to_vec1()?,
                shape: loss.shape().clone(),
                gradient: Arc::new(done.into_grad_student_logits()),
            })?,
        };
        Ok(DistillationOutput {
            loss,
            rows,
            row_metrics,
            summary,
        })
    }
}
