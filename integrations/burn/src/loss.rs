//! The public loss module and its outputs.

use burn::backend::Dispatch;
use burn::module::Module;
use burn::tensor::{DType, Device, Int, IntDType, Tensor};
use wgpu_distill::{Config, Error as CoreError, Progress, Reduction};

use crate::arguments::{self, Beside};
use crate::autodiff::GradientOps;
use crate::backend_ops::{LossOps, catch_error};
use crate::batch::DistillationBatch;
use crate::composed;
use crate::denominator::{Denominator, reciprocal};
use crate::error::{Error, Result};
use crate::execution_path::ExecutionPath;
use crate::kernel_inputs::Arguments;
use crate::kernel_outputs::{LossTensors, SUMMARY_WORDS, row_word, row_words, summary_word};
use crate::loss_call::LossCall;
use crate::row_metrics::{RowMetrics, column};
use crate::shared_device;

/// The distillation loss of student logits, teacher logits and labels.
/// [`DistillationLossConfig`](crate::DistillationLossConfig) configures it.
#[derive(Module, Debug)]
pub struct DistillationLoss {
    #[module(skip)]
    config: Config,
    #[module(skip)]
    pad_tokens: Vec<i32>,
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
    /// The label of each row, `i32 [rows]`; `ignore_index` for padding, whichever of label, pad token and mask says so.
    pub labels: Tensor<1, Int>,
    /// The label of rows that are left out.
    pub ignore_index: i32,
    /// The path that computed the loss.
    pub path: ExecutionPath,
}

impl DistillationOutput {
    /// The number of rows with an infinite loss, `i32 [1]`, such as those in which the student alone masks a class that the teacher does not:
    /// their gradient is defined, and no other count has them.
    pub fn infinite_rows(&self) -> Tensor<1, Int> {
        let infinite = self.row_loss.clone().is_inf();
        infinite.int().cast(IntDType::I32).sum()
    }

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
    pub(crate) fn new(config: Config, pad_tokens: Vec<i32>) -> Result<Self> {
        arguments::check_configuration(&config, Progress::new(0, 1), [1, 1], Beside::default())?;
        Ok(Self {
            config,
            pad_tokens,
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
        let run = self.run(batch, progress, [false; 2])?;
        Ok(run.loss())
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
        let run = self.run(batch, progress, [true, self.row_metrics])?;
        let outputs = &run.outputs;
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
            labels: run.labels.clone(),
            ignore_index: self.config.ignore_index,
            path: run.call.path,
            loss: run.loss(),
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

    /// The number of rows whose label is neither `ignore_index` nor a pad token, `i32 [1]`, on the device of the labels. Nothing is read back.
    ///
    /// It is the denominator of [`Reduction::Mean`](crate::CoreReduction::Mean) if each of these labels is a class. Labels of any integer type.
    ///
    /// ```
    /// use burn::tensor::{Device, Int, Tensor};
    /// use burn_distill::DistillationLossConfig;
    ///
    /// let loss = DistillationLossConfig::new().with_pad_tokens(vec![0]).init();
    /// let labels = Tensor::<2, Int>::from_ints([[3, 1, 0], [2, -100, 0]], &Device::flex());
    /// assert_eq!(loss.labelled_rows(labels).into_scalar::<i64>(), 3);
    /// ```
    pub fn labelled_rows<const L: usize>(&self, labels: Tensor<L, Int>) -> Tensor<1, Int> {
        let ignore_index = self.config.ignore_index;
        let labels = arguments::to_i32(labels.reshape([-1]), ignore_index);
        let labels = arguments::without_padding(labels, None, &self.pad_tokens, ignore_index);
        let labelled = labels.not_equal_scalar(ignore_index);
        labelled.int().cast(IntDType::I32).sum()
    }

    fn run<const D: usize, const L: usize>(
        &self,
        batch: DistillationBatch<D, L>,
        progress: Progress,
        [reports_kdr, row_metrics]: [bool; 2],
    ) -> Result<Run> {
        let mut config = self.config;
        if let Some(denominator) = &batch.denominator {
            config.reduction = match (config.reduction, denominator) {
                (Reduction::None, _) => return Err(Error::DenominatorWithoutSum),
                (_, Denominator::Number(number)) => Reduction::SumOver(*number),
                (_, Denominator::Tensor(_) | Denominator::Count(_)) => Reduction::Sum,
            };
        }
        let device = batch.student_logits.device();
        let divided_later = matches!(
            batch.denominator,
            Some(Denominator::Tensor(_) | Denominator::Count(_))
        );
        let call = LossCall {
            config,
            progress,
            path: self.path(&device),
            row_metrics,
            reports_kdr,
            divided_later,
        };
        if !self.composed && call.path != ExecutionPath::SharedDevice {
            shared_device::warn_beside_shared(&device);
        }
        let given = Given::of(&batch, call.path);
        let denominator = batch.denominator.clone();
        let arguments = arguments::check(&call, batch, &self.pad_tokens)?;
        let denominator = denominator.and_then(Denominator::on_device);
        let (student, labels) = (arguments.student.clone(), arguments.labels.clone().inner());
        let outputs = compute(arguments, call.clone()).map_err(|error| given.name(error))?;
        Ok(Run {
            call,
            student,
            labels,
            outputs,
            denominator,
        })
    }
}

/// A computed call.
struct Run {
    call: LossCall,
    student: Tensor<2>,
    labels: Tensor<1, Int>,
    outputs: LossTensors,
    /// Divides loss and gradient.
    denominator: Option<Tensor<1>>,
}

impl Run {
    /// The reduced loss, or each row's loss; differentiable if there is a gradient.
    fn loss(self) -> Tensor<1> {
        let outputs = self.outputs;
        let loss = match self.call.config.reduction {
            Reduction::None => column(&outputs.rows, row_word::LOSS),
            _ => {
                let word = summary_word::LOSS;
                outputs.summary.slice(word..word + 1)
            }
        };
        let factor = self.denominator.map(|denominator| {
            let word = summary_word::VALID_ROWS;
            reciprocal(denominator, outputs.counts.slice(word..word + 1))
        });
        let Some(gradient) = outputs.gradient else {
            return match factor {
                Some(factor) => loss * factor,
                None => loss,
            };
        };
        let loss = Tensor::from_dispatch(Dispatch::attach_gradient(
            self.student.into_dispatch(),
            loss.into_dispatch(),
            gradient.into_dispatch(),
            self.call.config.grad_loss,
        ));
        match factor {
            Some(factor) => loss * Tensor::from_inner(factor),
            None => loss,
        }
    }
}

/// Labels and classes as the caller gave them, where an error can name them: on the host, if their type is wider than i32.
struct Given {
    labels: Option<Tensor<2, Int>>,
    teacher_ids: Option<Tensor<2, Int>>,
}

impl Given {
    fn of<const D: usize, const L: usize>(
        batch: &DistillationBatch<D, L>,
        path: ExecutionPath,
    ) -> Self {
        let wide = |dtype| {
            path == ExecutionPath::Host && matches!(dtype, DType::I64 | DType::U64 | DType::U32)
        };
        let labels = Some(&batch.labels).filter(|labels| wide(labels.dtype()));
        let ids = batch.teacher_ids.as_ref();
        let ids = ids.filter(|ids| wide(ids.dtype()));
        Self {
            labels: labels.map(|labels| labels.clone().reshape([-1, 1])),
            teacher_ids: ids.map(|ids| {
                let k = ids.dims()[D - 1];
                ids.clone().reshape([-1, k as i32])
            }),
        }
    }

    /// The error with the number as it was given, if its cast to i32 did not keep it.
    fn name(self, error: Error) -> Error {
        let (name, given, row, classes) = match &error {
            Error::Distill(CoreError::LabelOutOfRange { row, classes, .. }) => {
                ("labels", self.labels, *row, *classes)
            }
            Error::Distill(CoreError::TeacherIdOutOfRange { row, classes, .. }) => {
                ("teacher_ids", self.teacher_ids, *row, *classes)
            }
            _ => return error,
        };
        let value = given.and_then(|given| arguments::beyond_i32(given, row));
        value.map_or(error, |value| Error::ClassOutOfRange {
            name,
            row,
            value,
            classes,
        })
    }
}

/// Runs the kernels on tensors without autodiff. Computes the gradient only if the student is tracked.
fn compute(arguments: Arguments, call: LossCall) -> Result<LossTensors> {
    let tracked = arguments.student.is_tracked();
    let arguments = arguments.inner();
    let student = &arguments.student;
    if student.dims()[0] == 0 {
        return Ok(no_rows(student, tracked, &call));
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
fn no_rows(student: &Tensor<2>, want_gradient: bool, call: &LossCall) -> LossTensors {
    let device = &student.device();
    let dtype = call.gradient_type(student.dtype());
    let [_, classes] = student.dims();
    LossTensors {
        rows: Tensor::zeros([0, row_words(call.row_metrics)], (device, DType::F32)),
        summary: Tensor::zeros([SUMMARY_WORDS], (device, DType::F32)),
        counts: Tensor::zeros([SUMMARY_WORDS], (device, DType::I32)),
        gradient: want_gradient.then(|| Tensor::zeros([0, classes], (device, dtype))),
    }
}
