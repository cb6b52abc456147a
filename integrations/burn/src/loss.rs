//! The loss, as Burn's users call it.

use burn::backend::Dispatch;
use burn::module::Module;
use burn::tensor::{DType, Device, Int, IntDType, Tensor};
use wgpu_distill::{Config, Progress, Reduction};

use crate::check::{self, Arguments};
use crate::ops::{AttachOps, DistillOps, caught};
use crate::task::Task;
use crate::{Path, Result, composed};

/// The distillation loss: teacher and student logits and labels in, a differentiable loss out. Made by [`DistillationLossConfig`](crate::DistillationLossConfig).
#[derive(Module, Debug)]
pub struct DistillationLoss {
    #[module(skip)]
    config: Config,
    #[module(skip)]
    composed: bool,
}

/// A loss with the metrics that fall out of it. All tensors are on the device; nothing was read back.
///
/// Only `loss` takes part in autodiff.
#[derive(Clone, Debug)]
pub struct DistillationOutput {
    /// `f32 [1]`, or `f32 [rows]` with `Reduction::None`. In nats.
    pub loss: Tensor<1>,
    /// Each row's loss before reduction, `f32 [rows]`; 0 for ignored rows.
    pub row_loss: Tensor<1>,
    /// How alike teacher and student are in each row (KDR), in `[0, 1]`, `f32 [rows]`; 0 for ignored rows.
    pub row_kdr: Tensor<1>,
    /// The share of the true label in each row's target (TSSR), in `[0, 1]`, `f32 [rows]`; 0 for ignored rows.
    pub row_tssr: Tensor<1>,
    /// The mean KDR of the rows that are valid and finite, `f32 [1]`.
    pub kdr: Tensor<1>,
    /// The mean TSSR of the same rows, `f32 [1]`.
    pub tssr: Tensor<1>,
    /// Rows whose label is a class, `i32 [1]`.
    pub valid_rows: Tensor<1, Int>,
    /// Rows whose label is `ignore_index`, `i32 [1]`.
    pub ignored_rows: Tensor<1, Int>,
    /// Rows whose label is neither, `i32 [1]`; their loss and gradient are NaN.
    pub invalid_labels: Tensor<1, Int>,
    /// Rows with NaN or `+inf` among their logits, or nothing but `-inf`, `i32 [1]`; all their results are NaN.
    pub non_finite_rows: Tensor<1, Int>,
    /// How it was computed.
    pub path: Path,
}

impl DistillationOutput {
    /// Rows that [`kdr`](Self::kdr) and [`tssr`](Self::tssr) are means over, `i32 [1]`: their label is a class and their logits are finite.
    ///
    /// Not `valid_rows` less `non_finite_rows`: a row may have a label out of range and NaN.
    pub fn averaged_rows(&self) -> Tensor<1, Int> {
        let [rows] = self.row_loss.dims();
        let spoiled = self.row_loss.clone().is_nan().int().cast(IntDType::I32);
        (spoiled.sum() + self.ignored_rows.clone()).neg() + rows as i64
    }
}

/// What a path gives, as Burn's tensors.
struct Computed {
    rows: Tensor<2>,
    summary: Tensor<1>,
    counts: Tensor<1, Int>,
    gradient: Option<Tensor<2>>,
}

impl DistillationLoss {
    pub(crate) fn new(config: Config) -> Result<Self> {
        // The kernels' crate checks its own configuration wherever it is used; an empty problem asks it to do so now.
        check::config(&config)?;
        Ok(Self {
            config,
            composed: false,
        })
    }

    /// The same loss by Burn's own operations, whatever the device: to compare with, in time and result.
    pub fn composed(self) -> Self {
        Self {
            composed: true,
            ..self
        }
    }

    /// The choices, in the words of the kernels' crate.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The loss: `[1]`, or `[rows]` with `Reduction::None`, in f32.
    ///
    /// # Shapes
    ///
    /// - student_logits, teacher_logits: `[rows, classes]` or `[batch, sequence, classes]`; f32, f16 or bf16, each its own
    /// - labels: `[rows]` or `[batch, sequence]`; any integer type
    /// - output: `[1]`; with `Reduction::None` `[rows]` or `[batch * sequence]`
    ///
    /// # Panics
    /// Where [`try_forward`](Self::try_forward) gives an error, with its words.
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

    /// The loss, or why it cannot be computed. See [`forward`](Self::forward).
    ///
    /// # Errors
    /// Shapes, types, devices, progress, a limit of the device. Labels out of range are refused where the data are on
    /// the host ([`Path::Host`]); elsewhere their rows get NaN and are counted in [`DistillationOutput::invalid_labels`].
    pub fn try_forward<const D: usize, const L: usize>(
        &self,
        student_logits: Tensor<D>,
        teacher_logits: Tensor<D>,
        labels: Tensor<L, Int>,
        progress: Progress,
    ) -> Result<Tensor<1>> {
        let arguments = self.arguments(student_logits, teacher_logits, labels, progress)?;
        let student = arguments.student.clone();
        let computed = self.compute(arguments, progress)?;
        Ok(self.loss(
            student,
            &computed.rows,
            &computed.summary,
            computed.gradient,
        ))
    }

    /// The loss with its metrics. Shapes as in [`forward`](Self::forward).
    ///
    /// # Panics
    /// Where [`try_forward_with_metrics`](Self::try_forward_with_metrics) gives an error, with its words.
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

    /// The loss with its metrics, or why it cannot be computed.
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
        let arguments = self.arguments(student_logits, teacher_logits, labels, progress)?;
        let (student, path) = (arguments.student.clone(), arguments.path);
        let Computed {
            rows,
            summary,
            counts,
            gradient,
        } = self.compute(arguments, progress)?;
        let [n, _] = rows.dims();
        let column = |i: usize| rows.clone().slice([0..n, i..i + 1]).reshape([n]);
        let mean = |i: usize| summary.clone().slice(i..i + 1);
        let count = |i: usize| counts.clone().slice(i..i + 1);
        Ok(DistillationOutput {
            row_loss: column(0),
            row_kdr: column(1),
            row_tssr: column(2),
            kdr: mean(1),
            tssr: mean(2),
            valid_rows: count(3),
            ignored_rows: count(4),
            invalid_labels: count(5),
            non_finite_rows: count(6),
            path,
            loss: self.loss(student, &rows, &summary, gradient),
        })
    }

    /// How the loss is computed on a device.
    pub fn path(&self, device: &Device) -> Path {
        if self.composed {
            Path::Composed
        } else {
            Path::of(device)
        }
    }

    fn arguments<const D: usize, const L: usize>(
        &self,
        student_logits: Tensor<D>,
        teacher_logits: Tensor<D>,
        labels: Tensor<L, Int>,
        progress: Progress,
    ) -> Result<Arguments> {
        let path = self.path(&student_logits.device());
        let config = &self.config;
        check::arguments(
            config,
            path,
            student_logits,
            teacher_logits,
            labels,
            progress,
        )
    }

    /// Runs the kernels, on tensors without autodiff. The gradient only where something will ask for it.
    fn compute(&self, arguments: Arguments, progress: Progress) -> Result<Computed> {
        let Arguments {
            student,
            teacher,
            labels,
            path,
        } = arguments;
        let tracked = student.is_tracked();
        let (student, teacher) = (student.inner(), teacher.inner());
        let labels = labels.inner();
        let task = Task {
            config: self.config,
            progress,
            path,
        };
        let [rows, classes] = student.dims();
        if rows == 0 {
            let f32 = (&student.device(), DType::F32);
            return Ok(Computed {
                rows: Tensor::zeros([0, 4], f32),
                summary: Tensor::zeros([8], f32),
                counts: Tensor::zeros([8], (&student.device(), DType::I32)),
                gradient: tracked
                    .then(|| Tensor::zeros([0, classes], (&student.device(), student.dtype()))),
            });
        }
        if path == Path::Composed {
            let done = composed::distill(student, teacher, labels, &task, tracked);
            return Ok(Computed {
                rows: done.rows,
                summary: done.summary,
                counts: done.counts,
                gradient: done.gradient,
            });
        }
        let (student, teacher) = (student.into_dispatch(), teacher.into_dispatch());
        let labels = labels.into_dispatch();
        let (rows, summary, counts, gradient) = caught(|| {
            if tracked {
                let (r, s, c, g) = Dispatch::distill_gradient(student, teacher, labels, task);
                (r, s, c, Some(g))
            } else {
                let (r, s, c) = Dispatch::distill_observe(student, teacher, labels, task);
                (r, s, c, None)
            }
        })?;
        Ok(Computed {
            rows: Tensor::from_dispatch(rows),
            summary: Tensor::from_dispatch(summary),
            counts: Tensor::from_dispatch(counts),
            gradient: gradient.map(Tensor::from_dispatch),
        })
    }

    /// The reduced loss, or the rows' losses; differentiable where there is a gradient.
    fn loss(
        &self,
        student: Tensor<2>,
        rows: &Tensor<2>,
        summary: &Tensor<1>,
        gradient: Option<Tensor<2>>,
    ) -> Tensor<1> {
        let [n, _] = rows.dims();
        let loss = match self.config.reduction {
            Reduction::None => rows.clone().slice([0..n, 0..1]).reshape([n]),
            _ => summary.clone().slice(0..1),
        };
        let Some(gradient) = gradient else {
            return loss;
        };
        Tensor::from_dispatch(Dispatch::distill_attach(
            student.into_dispatch(),
            loss.into_dispatch(),
            gradient.into_dispatch(),
            self.config.grad_loss,
        ))
    }
}
