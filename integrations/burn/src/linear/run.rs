//! The passes over the chunks of a batch.

use std::fmt::Display;
use std::ops::Range;

use burn::tensor::{Bool, DType, Device, Int, Tensor};
use wgpu_distill::{Config, Error as CoreError, NonFinite, Reduction, Scope};

use super::batch::LinearDistillationBatch;
use super::gradients::{Finished, Gradients, Wanted};
use super::head::{Head, Teacher, matrix, rows_of};
use super::joined::Joined;
use crate::arguments::{self, Beside};
use crate::compute::{compute, no_rows};
use crate::error::{Error, Result};
use crate::kernel_inputs::Arguments;
use crate::kernel_outputs::{LossTensors, summary_word};
use crate::loss_call::LossCall;

/// A call whose arguments were checked. No tensor has autodiff.
pub(super) struct Call<'a> {
    call: LossCall,
    device: Device,
    rows: usize,
    chunk_rows: usize,
    student: Head,
    teacher: Teacher<'a>,
    /// `i32 [rows]`, `ignore_index` for padding
    labels: Tensor<1, Int>,
    /// `f32 [rows]`
    row_weights: Option<Tensor<1>>,
    /// `[rows, classes]`
    soft_labels: Option<Tensor<2>>,
    /// `f32 [classes]`
    class_weights: Option<Tensor<1>>,
    wanted: Wanted,
}

/// The results of a call. A mean is not divided yet.
pub(super) struct Done {
    /// Without the gradient of logits.
    pub outputs: LossTensors,
    pub gradients: Finished,
    pub labels: Tensor<1, Int>,
}

impl<'a> Call<'a> {
    pub fn new<const D: usize, const L: usize>(
        call: LossCall,
        batch: LinearDistillationBatch<'a, D, L>,
        pad_tokens: &[i32],
        chunk_rows: usize,
    ) -> Self {
        let student = &batch.student;
        let dims = student.hidden_states.dims();
        let rows: usize = dims[..D - 1].iter().product();
        let [classes, _] = student.weights.dims();
        let ignore_index = call.config.ignore_index;
        let wanted = Wanted {
            hidden_states: student.hidden_states.is_tracked(),
            weights: student.weights.is_tracked(),
            bias: student.bias.as_ref().is_some_and(Tensor::is_tracked),
        };
        let labels = arguments::to_i32(batch.labels.inner().reshape([rows]), ignore_index);
        let mask_pad = batch.mask_pad.map(|mask| mask.inner().reshape([rows]));
        let row_weights = batch.row_weights.map(|w| w.inner().reshape([rows]));
        let class_weights = batch.class_weights.map(Tensor::inner);
        Self {
            device: student.hidden_states.device().inner(),
            call,
            rows,
            chunk_rows,
            student: Head::new(batch.student, rows, classes),
            teacher: Teacher::new(batch.teacher, rows, classes),
            labels: arguments::without_padding(labels, mask_pad, pad_tokens, ignore_index),
            row_weights: row_weights.map(arguments::to_f32),
            soft_labels: batch.soft_labels.map(|y| matrix(y, rows)),
            class_weights: class_weights.map(arguments::to_f32),
            wanted,
        }
    }

    /// Computes the loss with the sum in place of the mean, and the gradients that are wanted.
    pub fn run(self) -> Result<Done> {
        let mut call = LossCall {
            // The gradient of the logits stays f32.
            divided_later: true,
            ..self.call.clone()
        };
        if call.config.reduction == Reduction::Mean {
            call.config.reduction = Reduction::Sum;
        }
        if self.rows == 0 {
            return Ok(self.no_rows(&call));
        }
        if call.config.scope == Scope::Batch && self.rows > self.chunk_rows {
            call.config.scope = match call.config.selection.needs_kdr() {
                true => Scope::Given(self.mean_kdr(&call)?),
                false => Scope::Row,
            };
        }
        let mut gradients = Gradients::new(self.wanted, &self.student);
        let outputs = self.in_chunks(&call, &mut gradients)?;
        Ok(Done {
            outputs,
            gradients: gradients.finish(),
            labels: self.labels,
        })
    }

    /// Computes the loss chunk by chunk, with the gradients that are wanted.
    fn in_chunks(&self, call: &LossCall, gradients: &mut Gradients) -> Result<LossTensors> {
        let count = self.rows.div_ceil(self.chunk_rows);
        let mut joined = Joined::new(self.rows, count, call.row_metrics, &self.device);
        for (i, rows) in self.chunks().enumerate() {
            let mut chunk = self.losses(call, rows.clone(), gradients.wanted.any())?;
            if let Some(of_logits) = chunk.gradient.take() {
                let idle = self.idle_rows(&of_logits, rows.clone());
                gradients.add(&self.student, rows.clone(), of_logits, idle);
            }
            if count == 1 {
                return Ok(chunk);
            }
            joined = joined.with(i, rows, chunk);
            // Queues the work, so that the next chunk reuses the memory: fusion would collect the work of all. Does not wait for it.
            self.device.flush().map_err(between_chunks)?;
        }
        Ok(joined.finish())
    }

    /// The ranges of rows that are in memory at a time.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, chunk_rows) = (self.rows, self.chunk_rows);
        let starts = (0..rows).step_by(chunk_rows);
        starts.map(move |start| start..(start + chunk_rows).min(rows))
    }

    /// Computes the loss of a chunk. Its logits exist during the call alone.
    fn losses(
        &self,
        call: &LossCall,
        rows: Range<usize>,
        want_gradient: bool,
    ) -> Result<LossTensors> {
        let [classes, _] = self.student.weights.dims();
        let (teacher, teacher_ids) = self.teacher.logits(rows.clone(), &self.device)?;
        if let Teacher::Chunks(_) = self.teacher {
            let beside = Beside {
                teacher_ids: false,
                soft_labels: self.soft_labels.is_some(),
                class_weights: self.class_weights.is_some(),
            };
            let classes = [classes, teacher.dims()[1]];
            arguments::check_configuration(&call.config, call.progress, classes, beside)?;
        }
        let list = |list: &Tensor<1>| list.clone().slice(rows.clone());
        let arguments = Arguments {
            teacher,
            teacher_ids,
            student: self.student.logits(rows.clone()),
            labels: self.labels.clone().slice(rows.clone()),
            soft_labels: self.soft_labels.as_ref().map(|y| rows_of(y, rows.clone())),
            row_weights: self.row_weights.as_ref().map(list),
            class_weights: self.class_weights.clone(),
        };
        arguments::check_limits(call, &arguments, want_gradient, &self.device)?;
        let done = compute(arguments, call.clone(), want_gradient);
        done.map_err(|error| in_whole_batch(error, rows.start))
    }

    /// The rows of a chunk whose gradient is 0: those that are ignored, and those that are left out because they have no finite result.
    fn idle_rows(&self, of_logits: &Tensor<2>, rows: Range<usize>) -> Tensor<2, Bool> {
        let config = &self.call.config;
        let labels = self.labels.clone().slice(rows.clone());
        let ignored = labels.equal_scalar(config.ignore_index);
        let ignored = ignored.reshape([rows.len(), 1]);
        match config.non_finite {
            NonFinite::Propagate => ignored,
            _ => {
                let largest = of_logits.clone().abs().max_dim(1);
                ignored.bool_or(largest.equal_scalar(0.0))
            }
        }
    }

    /// The mean KDR of the batch, by a pass of its own. Reads one number.
    fn mean_kdr(&self, call: &LossCall) -> Result<f32> {
        let call = LossCall {
            config: Config {
                scope: Scope::Row,
                // The mean KDR includes rows whose gradient the kernels do not find.
                non_finite: NonFinite::Propagate,
                ..call.config
            },
            row_metrics: false,
            reports_kdr: true,
            ..call.clone()
        };
        let none = &mut Gradients::new(Wanted::default(), &self.student);
        let word = summary_word::KDR;
        let kdr = self.in_chunks(&call, none)?.summary.slice(word..word + 1);
        let kdr = kdr.try_into_scalar::<f32>().map_err(between_chunks)?;
        Ok(kdr.clamp(0.0, 1.0))
    }

    /// The results of a batch without rows.
    fn no_rows(self, call: &LossCall) -> Done {
        let [classes, hidden] = self.student.weights.dims();
        let zeros = |shape: [usize; 2]| Tensor::zeros(shape, (&self.device, DType::F32));
        let wanted = self.wanted;
        Done {
            outputs: no_rows(&zeros([0, classes]), false, call),
            gradients: Finished {
                hidden_states: wanted.hidden_states.then(|| zeros([0, hidden])),
                weights: wanted.weights.then(|| zeros([hidden, classes])),
                bias: wanted.bias.then(|| zeros([1, classes])),
            },
            labels: self.labels,
        }
    }
}

fn between_chunks(error: impl Display) -> Error {
    Error::BetweenChunks {
        reason: error.to_string(),
    }
}

/// An error of a chunk whose first row is `start`, with the row of the whole batch.
fn in_whole_batch(mut error: Error, start: usize) -> Error {
    if let Error::Distill(
        CoreError::LabelOutOfRange { row, .. }
        | CoreError::TeacherIdOutOfRange { row, .. }
        | CoreError::TeacherIdTwice { row, .. }
        | CoreError::SoftLabel { row, .. }
        | CoreError::RowWeight { row, .. }
        | CoreError::ZeroDenominator { row, .. },
    ) = &mut error
    {
        *row += start;
    }
    error
}
