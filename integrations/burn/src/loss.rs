//! The public loss module and its outputs.

use burn::backend::Dispatch;
use burn::module::Module;
use burn::tensor::{DType, Device, Int, IntDType, Tensor};
use wgpu_distill::{Config, Progress, Reduction};

use crate::arguments::{self, Beside};
use crate::autodiff::GradientOps;
use crate::backend_ops::{LossOps, catch_error};
use crate::batch::DistillationBatch;
use crate::composed;
use crate::error::Result;
use crate::execution_path::ExecutionPath;
use crate::kernel_inputs::Arguments;
use crate::kernel_outputs::{LossTensors, SUMMARY_WORDS, row_word, row_words, summary_word};
use crate::loss_call::LossCall;
use crate::row_metrics::{RowMetrics, column};

/// The distillation loss of student logits, teacher logits and labels.
/// [`DistillationLossConfig`](crate::DistillationLossConfig) configures it.
#[derive(Module, Debug)]
pub struct DistillationLoss {
    #[module(skip)]
    config: Config,
    #[module(skip)]
    composed: bool,
    #[module(skip)]
    row_metrics: bool,
}

/// A loss with its metrics. All tensors are on the device of the logits; nothing is read back.
///
/// Only `loss` is differentiable.
#[derive(Clone, Debug)]
pub struct DistillationOutput {
    /// `f32 [1]`, or `f32 [rows]` with `Reduction::None`. In nats.
    pub loss: Tensor<1>,
    /// Each row's loss with its weight, before reduction, `f32 [rows]`; 0 for rows that are ignored or left out.
    pub row_loss: Tensor<1>,
    /// The similarity of teacher and student in each row (KDR), in `[0, 1]`, `f32 [rows]`; 0 for rows that are ignored or left out.
    pub row_kdr: Tensor<1>,
    /// The share of the true label in each row's target (TSSR), in `[0, 1]`, `f32 [rows]`; 0 for rows that are ignored or left out.
    pub row_tssr: Tensor<1>,
    /// The mean KDR of the rows that are valid and finite, `f32 [1]`.
    pub kdr: Tensor<1>,
    /// The mean TSSR of the same rows, `f32 [1]`.
    pub tssr: Tensor<1>,
    /// Rows whose label is a class, `i32 [1]`.
    pub valid_rows: Tensor<1, Int>,
    /// Rows whose label is `ignore_index`, `i32 [1]`.
    pub ignored_rows: Tensor<1, Int>,
    /// Rows whose label is neither a class nor `ignore_index`, `i32 [1]`; their loss and gradient are NaN.
    pub invalid_labels: Tensor<1, Int>,
    /// Rows with NaN or `+inf` among their logits, or only `-inf`, `i32 [1]`; all their results are NaN. With `NonFinite::Skip` also rows
    /// whose divergence is infinite and has no derivative; all results of such rows are 0.
    pub non_finite_rows: Tensor<1, Int>,
    /// Metrics of each row, each `f32 [rows]`, if [`with_row_metrics`](DistillationLoss::with_row_metrics) requests them.
    pub row_metrics: Option<RowMetrics>,
    /// Their means over the rows that `kdr` averages, each `f32 [1]`; 0 if there are none.
    pub mean_metrics: Option<RowMetrics>,
    /// The path that computed the loss.
    pub path: ExecutionPath,
}

impl DistillationOutput {
    /// The number of rows in the means [`kdr`](Self::kdr) and [`tssr`](Self::tssr), `i32 [1]`: their label is a class and their logits are finite.
    ///
    /// It is not `valid_rows - non_finite_rows`: a row may have both NaN and a label out of range.
    pub fn averaged_rows(&self) -> Tensor<1, Int> {
        let [rows] = self.row_loss.dims();
        let nan = |x: &Tensor<1>| x.clone().is_nan().int().cast(IntDType::I32).sum();
        // Rows without a finite result. Their KDR is NaN unless they are left out.
        let left_out = self.non_finite_rows.clone() - nan(&self.row_kdr);
        (nan(&self.row_loss) + left_out + self.ignored_rows.clone()).neg() + rows as i64
    }
}

impl DistillationLoss {
    pub(crate) fn new(config: Config) -> Result<Self> {
        arguments::check_configuration(&config, Progress::new(0, 1), [1, 1], Beside::default())?;
        Ok(Self {
            config,
            composed: false,
            row_metrics: false,
        })
    }

    /// Returns the loss with [`ExecutionPath::Composed`] on every device, to compare times and results.
    ///
    /// A call returns [`Error::NotComposed`](crate::Error::NotComposed) for a choice that only the kernels have.
    pub fn composed(self) -> Self {
        Self {
            composed: true,
            ..self
        }
    }

    /// Returns the loss with [`DistillationOutput::row_metrics`] and their means in the output. They cost no further sweep over the logits.
    pub fn with_row_metrics(self) -> Self {
        Self {
            row_metrics: true,
            ..self
        }
    }

    /// The configuration as wgpu-distill takes it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The loss: `[1]`, or `[rows]` with `Reduction::None`, in f32.
    ///
    /// # Shapes
    ///
    /// - student_logits, teacher_logits: `[rows, classes]` or `[batch, sequence, classes]`; f32, f16 or bf16, each its own. The teacher of a
    ///   divergence of sampled tokens has one class: its log-probability of the label
    /// - labels: `[rows]` or `[batch, sequence]`; any integer type
    /// - output: `[1]`; with `Reduction::None` `[rows]` or `[batch * sequence]`
    ///
    /// # Panics
    /// If [`try_forward`](Self::try_forward) returns an error, with its text.
    pub fn forward<const D: usize, const L: usize>(
        &self,
        student_logits: Tensor<D>,
        teacher_logits: Tensor<D>,
        labels: Tensor<L, Int>,
        progress: Progress,
    ) -> Tensor<1> {
        self.try_forward(student_logits, teacher_logits, labels, progress)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The loss, or an error. Shapes as in [`forward`](Self::forward).
    ///
    /// # Errors
    /// For invalid shapes, types, devices or progress, for rows beyond a limit of the device, and on [`ExecutionPath::Composed`] for a choice
    /// of the configuration that only the kernels have. A label out of range is an error on [`ExecutionPath::Host`]. On the other paths its row gets NaN and is counted in
    /// [`DistillationOutput::invalid_labels`].
    pub fn try_forward<const D: usize, const L: usize>(
        &self,
        student_logits: Tensor<D>,
        teacher_logits: Tensor<D>,
        labels: Tensor<L, Int>,
        progress: Progress,
    ) -> Result<Tensor<1>> {
        let batch = DistillationBatch::new(student_logits, teacher_logits, labels);
        let call = self.call(&batch.student_logits.device(), progress, false);
        let arguments = arguments::check(&call, batch)?;
        let student = arguments.student.clone();
        let outputs = compute(arguments, call)?;
        Ok(self.loss(student, outputs))
    }

    /// The loss with its metrics. Shapes as in [`forward`](Self::forward).
    ///
    /// # Panics
    /// If [`try_forward_with_metrics`](Self::try_forward_with_metrics) returns an error, with its text.
    pub fn forward_with_metrics<const D: usize, const L: usize>(
        &self,
        student_logits: Tensor<D>,
        teacher_logits: Tensor<D>,
        labels: Tensor<L, Int>,
        progress: Progress,
    ) -> DistillationOutput {
        self.try_forward_with_metrics(student_logits, teacher_logits, labels, progress)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The loss with its metrics, or an error. Shapes as in [`forward`](Self::forward).
    ///
    /// # Errors
    /// As [`try_forward`](Self::try_forward).
    pub fn try_forward_with_metrics<const D: usize, const L: usize>(
        &self,
        student_logits: Tensor<D>,
        teacher_logits: Tensor<D>,
        labels: Tensor<L, Int>,
        progress: Progress,
    ) -> Result<DistillationOutput> {
        self.try_forward_batch(
            DistillationBatch::new(student_logits, teacher_logits, labels),
            progress,
        )
    }

    /// The loss of a batch with its metrics.
    ///
    /// # Panics
    /// If [`try_forward_batch`](Self::try_forward_batch) returns an error, with its text.
    pub fn forward_batch<const D: usize, const L: usize>(
        &self,
        batch: DistillationBatch<D, L>,
        progress: Progress,
    ) -> DistillationOutput {
        self.try_forward_batch(batch, progress)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The loss of a batch with its metrics, or an error.
    ///
    /// # Errors
    /// As [`try_forward`](Self::try_forward), and for soft labels or class weights beside a choice that has no terms of them. A weight of a
    /// row that is not finite, and a number of a soft label or a weight of a class that is out of range, is an error on
    /// [`ExecutionPath::Host`]. On the other paths the rows that use it count as rows with NaN among their logits.
    pub fn try_forward_batch<const D: usize, const L: usize>(
        &self,
        batch: DistillationBatch<D, L>,
        progress: Progress,
    ) -> Result<DistillationOutput> {
        let call = self.call(&batch.student_logits.device(), progress, self.row_metrics);
        let path = call.path;
        let arguments = arguments::check(&call, batch)?;
        let student = arguments.student.clone();
        let outputs = compute(arguments, call)?;
        let (rows, summary, counts) = (&outputs.rows, &outputs.summary, &outputs.counts);
        let mean = |word: usize| summary.clone().slice(word..word + 1);
        let count = |word: usize| counts.clone().slice(word..word + 1);
        let metrics = self.row_metrics.then(|| {
            let of = |records, first| RowMetrics { records, first };
            let means = summary.clone().reshape([1, SUMMARY_WORDS]);
            let rows = of(rows.clone(), row_word::METRICS);
            [rows, of(means, summary_word::METRICS)]
        });
        let [row_metrics, mean_metrics] = metrics.map_or([None, None], |both| both.map(Some));
        Ok(DistillationOutput {
            row_loss: column(rows, row_word::LOSS),
            row_kdr: column(rows, row_word::KDR),
            row_tssr: column(rows, row_word::TSSR),
            kdr: mean(summary_word::KDR),
            tssr: mean(summary_word::TSSR),
            valid_rows: count(summary_word::VALID_ROWS),
            ignored_rows: count(summary_word::IGNORED_ROWS),
            invalid_labels: count(summary_word::INVALID_LABELS),
            non_finite_rows: count(summary_word::NON_FINITE_ROWS),
            row_metrics,
            mean_metrics,
            path,
            loss: self.loss(student, outputs),
        })
    }

    /// The path that this loss takes on a device.
    pub fn path(&self, device: &Device) -> ExecutionPath {
        if self.composed {
            ExecutionPath::Composed
        } else {
            ExecutionPath::of(device)
        }
    }

    fn call(&self, device: &Device, progress: Progress, row_metrics: bool) -> LossCall {
        LossCall {
            config: self.config,
            progress,
            path: self.path(device),
            row_metrics,
        }
    }

    /// The reduced loss, or each row's loss; differentiable if there is a gradient.
    fn loss(&self, student: Tensor<2>, outputs: LossTensors) -> Tensor<1> {
        let loss = match self.config.reduction {
            Reduction::None => column(&outputs.rows, row_word::LOSS),
            _ => {
                let word = summary_word::LOSS;
                outputs.summary.slice(word..word + 1)
            }
        };
        let Some(gradient) = outputs.gradient else {
            return loss;
        };
        Tensor::from_dispatch(Dispatch::attach_gradient(
            student.into_dispatch(),
            loss.into_dispatch(),
            gradient.into_dispatch(),
            self.config.grad_loss,
        ))
    }
}

/// Runs the kernels on tensors without autodiff. Computes the gradient only if the student is tracked.
fn compute(arguments: Arguments, call: LossCall) -> Result<LossTensors> {
    let tracked = arguments.student.is_tracked();
    let arguments = arguments.inner();
    let student = &arguments.student;
    if student.dims()[0] == 0 {
        return Ok(no_rows(student, tracked, call.row_metrics));
    }
    if call.path == ExecutionPath::Composed {
        return composed::distill(arguments, &call, tracked);
    }
    let inputs = arguments.into_kernel_inputs();
    let (rows, summary, counts, gradient) = catch_error(|| {
        if tracked {
            let (r, s, c, g) = Dispatch::distill_loss_and_gradient(inputs, call);
            (r, s, c, Some(g))
        } else {
            let (r, s, c) = Dispatch::distill_loss(inputs, call);
            (r, s, c, None)
        }
    })?;
    Ok(LossTensors {
        rows: Tensor::from_dispatch(rows),
        summary: Tensor::from_dispatch(summary),
        counts: Tensor::from_dispatch(counts),
        gradient: gradient.map(Tensor::from_dispatch),
    })
}

/// The results of a batch without rows, for which no kernel is launched.
fn no_rows(student: &Tensor<2>, want_gradient: bool, row_metrics: bool) -> LossTensors {
    let (device, dtype) = (&student.device(), student.dtype());
    let [_, classes] = student.dims();
    LossTensors {
        rows: Tensor::zeros([0, row_words(row_metrics)], (device, DType::F32)),
        summary: Tensor::zeros([SUMMARY_WORDS], (device, DType::F32)),
        counts: Tensor::zeros([SUMMARY_WORDS], (device, DType::I32)),
        gradient: want_gradient.then(|| Tensor::zeros([0, classes], (device, dtype))),
    }
}
