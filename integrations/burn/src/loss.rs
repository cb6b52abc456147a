//! The public loss module and its outputs.

use burn::module::Module;
use burn::tensor::{Device, Int, IntDType, Tensor};
use wgpu_distill::{Config, Progress, Reduction};

use crate::arguments::{self, Beside, Given};
use crate::autodiff::attach;
use crate::batch::DistillationBatch;
use crate::compute::compute;
use crate::denominator::{Denominator, reciprocal};
use crate::error::{Error, Result};
use crate::execution_path::ExecutionPath;
use crate::kernel_outputs::{LossTensors, SUMMARY_WORDS, column, row_word, summary_word};
use crate::loss_call::LossCall;
use crate::output::DistillationOutput;
use crate::row_metrics::RowMetrics;
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
        let (labels, path) = (run.labels.clone(), run.call.path);
        Ok(self.output(&run.outputs, run.loss(), labels, path))
    }

    /// The public form of the outputs of a call.
    pub(crate) fn output(
        &self,
        outputs: &LossTensors,
        loss: Tensor<1>,
        labels: Tensor<1, Int>,
        path: ExecutionPath,
    ) -> DistillationOutput {
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
        DistillationOutput {
            loss,
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
            labels,
            ignore_index: self.config.ignore_index,
            path,
        }
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
        let (denominator, device) = (batch.denominator.clone(), batch.student_logits.device());
        let metrics = [reports_kdr, row_metrics];
        let call = self.call(denominator.as_ref(), &device, progress, metrics)?;
        let given = Given::of(&batch.labels, batch.teacher_ids.as_ref(), call.path);
        let arguments = arguments::check(&call, batch, &self.pad_tokens)?;
        let denominator = denominator.and_then(Denominator::on_device);
        let (student, labels) = (arguments.student.clone(), arguments.labels.clone().inner());
        // The gradient is computed only if the student is tracked.
        let outputs = compute(arguments.inner(), call.clone(), student.is_tracked());
        Ok(Run {
            call,
            student,
            labels,
            outputs: outputs.map_err(|error| given.name(error))?,
            denominator,
        })
    }

    /// The call with the reduction of a denominator. Logs a warning if the device looks like a mistake.
    pub(crate) fn call(
        &self,
        denominator: Option<&Denominator>,
        device: &Device,
        progress: Progress,
        [reports_kdr, row_metrics]: [bool; 2],
    ) -> Result<LossCall> {
        let mut config = self.config;
        if let Some(denominator) = denominator {
            config.reduction = match (config.reduction, denominator) {
                (Reduction::None, _) => return Err(Error::DenominatorWithoutSum),
                (_, Denominator::Number(number)) => Reduction::SumOver(*number),
                (_, Denominator::Tensor(_) | Denominator::Count(_)) => Reduction::Sum,
            };
        }
        let path = self.path(device);
        if !self.composed && path != ExecutionPath::SharedDevice {
            shared_device::warn_beside_shared(device);
        }
        Ok(LossCall {
            config,
            progress,
            path,
            row_metrics,
            reports_kdr,
            divided_later: matches!(
                denominator,
                Some(Denominator::Tensor(_) | Denominator::Count(_))
            ),
        })
    }

    pub(crate) fn pad_tokens(&self) -> &[i32] {
        &self.pad_tokens
    }

    /// Returns true if the output has the metrics of the rows.
    pub(crate) fn has_row_metrics(&self) -> bool {
        self.row_metrics
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
    fn loss(&self) -> Tensor<1> {
        let outputs = &self.outputs;
        let loss = outputs.loss(self.call.config.reduction);
        let factor = self.denominator.clone();
        let factor = factor.map(|denominator| reciprocal(denominator, outputs.valid_rows()));
        let Some(gradient) = outputs.gradient.clone() else {
            return match factor {
                Some(factor) => loss * factor,
                None => loss,
            };
        };
        let scale = self.call.config.grad_loss;
        let loss = attach(self.student.clone(), loss, gradient, scale);
        match factor {
            Some(factor) => loss * Tensor::from_inner(factor),
            None => loss,
        }
    }
}
