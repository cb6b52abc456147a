//! The loss from hidden states and the weights of the head, without the logits in memory.

mod batch;
mod checks;
mod chunks;
mod gradients;
mod head;
mod joined;
mod run;

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Int, Tensor};
use wgpu_distill::{Config, Progress, Reduction};

pub use batch::{LinearDistillationBatch, LinearLogits, LinearTeacher};
use chunks::Shape;
use run::{Call, Done};

use crate::arguments::Given;
use crate::autodiff::attach;
use crate::denominator::{Denominator, reciprocal};
use crate::error::Result;
use crate::execution_path::ExecutionPath;
use crate::loss::DistillationLoss;
use crate::output::DistillationOutput;

/// The distillation loss of hidden states and the weights of heads, whose logits are never in memory whole: *fused linear distillation*.
///
/// Rows go in chunks. A matrix product gives the logits of a chunk, the kernels of [`DistillationLoss`] their loss and gradient, and two
/// products the gradients of hidden states and head. The forward computes the gradients and keeps them; the backward multiplies them by
/// the upstream gradient. No tensor of rows x classes exists. [`DistillationLossConfig::init_linear`](crate::DistillationLossConfig::init_linear)
/// makes it.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_distill::{DistillationLossConfig, LinearLogits, Progress};
///
/// let device = Device::flex().autodiff();
/// // Two rows. The student has hidden states of 2 elements, the teacher of 3; both have 4 classes.
/// let states = Tensor::<2>::from_floats([[0.5, -1.0], [2.0, 0.25]], &device).require_grad();
/// let weights = Tensor::<2>::from_floats([[1.0, 0.0], [0.5, -0.5], [0.0, 1.0], [-1.0, 2.0]], &device).require_grad();
/// let teacher_states = Tensor::<2>::from_floats([[2.0, 0.0, 1.0], [0.0, 3.0, -1.0]], &device);
/// let teacher_weights = Tensor::<2>::from_floats([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.5]], &device);
///
/// let student = LinearLogits::new(states.clone(), weights.clone());
/// let teacher = LinearLogits::new(teacher_states, teacher_weights);
/// let labels = Tensor::<1, Int>::from_ints([0, 1], &device);
/// let loss = DistillationLossConfig::new().init_linear();
/// let gradients = loss.forward(student, teacher, labels, Progress::new(30, 100)).backward();
/// assert_eq!(states.grad(&gradients).unwrap().dims(), [2, 2]);
/// assert_eq!(weights.grad(&gradients).unwrap().dims(), [4, 2]);
/// ```
#[derive(Module, Debug)]
pub struct LinearDistillationLoss {
    loss: DistillationLoss,
    #[module(skip)]
    memory_budget: Option<usize>,
}

impl From<DistillationLoss> for LinearDistillationLoss {
    fn from(loss: DistillationLoss) -> Self {
        Self {
            loss,
            memory_budget: None,
        }
    }
}

impl LinearDistillationLoss {
    /// The least default of [`with_memory_budget`](Self::with_memory_budget): 64 MiB.
    pub const LEAST_MEMORY_BUDGET: usize = chunks::LEAST_BUDGET;

    /// Sets the bytes for the matrices of a chunk. A larger chunk reads the heads and adds to the gradient of the weights less often. The
    /// default is the larger of 64 MiB and 3,072 bytes a class, the logits of student and teacher and the gradient of 256 rows.
    ///
    /// A row of a chunk needs
    ///
    /// ```text
    /// row_bytes = 4 (matrices classes + teacher_columns + 2 hidden)
    /// ```
    ///
    /// where `matrices` is 2, the logits and their gradient, and 10 on [`ExecutionPath::Composed`]; `teacher_columns` is the smaller number
    /// of classes of both if the teacher is a head or comes in chunks, and 0 if its logits or lists exist. A chunk has
    /// `most = budget / row_bytes` rows, at least 1 and at most all, less what makes the chunks even: their number stays the least, and the
    /// rows of each are `ceil(rows / chunks)` rounded up to a multiple of 16, at most `most`.
    ///
    /// Besides the chunk a call holds the gradients that are wanted, in f32, and while it adds to that of the weights one more of its size;
    /// also the student's weights in f32 if they are of 16 bits. A matrix product of Burn may copy an operand. The results for another budget differ by rounding.
    pub fn with_memory_budget(self, bytes: usize) -> Self {
        Self {
            memory_budget: Some(bytes),
            ..self
        }
    }

    /// [`DistillationLoss::composed`].
    pub fn composed(self) -> Self {
        Self {
            loss: self.loss.composed(),
            ..self
        }
    }

    /// [`DistillationLoss::with_row_metrics`].
    pub fn with_row_metrics(self) -> Self {
        Self {
            loss: self.loss.with_row_metrics(),
            ..self
        }
    }

    /// The configuration as wgpu-distill takes it.
    pub fn config(&self) -> &Config {
        self.loss.config()
    }

    /// The path that the kernels of this loss take on a device.
    pub fn path(&self, device: &Device) -> ExecutionPath {
        self.loss.path(device)
    }

    /// [`DistillationLoss::labelled_rows`].
    pub fn labelled_rows<const L: usize>(&self, labels: Tensor<L, Int>) -> Tensor<1, Int> {
        self.loss.labelled_rows(labels)
    }

    /// Rows of a chunk of the batch.
    pub fn chunk_rows<const D: usize, const L: usize>(
        &self,
        batch: &LinearDistillationBatch<'_, D, L>,
    ) -> usize {
        let path = self.path(&batch.student.hidden_states.device());
        Shape::of(batch, path).chunk_rows(self.memory_budget)
    }

    /// The loss: `[1]`, or `[rows]` with `Reduction::None`, in f32.
    ///
    /// # Shapes
    ///
    /// - hidden states: `[rows, hidden]` or `[batch, sequence, hidden]`; weights `[classes, hidden]`, bias `[classes]`. f32, f16 or bf16, one
    ///   type for hidden states and head. Hidden size and type of the teacher may differ from the student's
    /// - labels: `[rows]` or `[batch, sequence]`; any integer type
    /// - output: `[1]`; with `Reduction::None` `[rows]` or `[batch * sequence]`
    ///
    /// # Panics
    /// If [`try_forward`](Self::try_forward) returns an error, with its text.
    pub fn forward<const D: usize, const L: usize>(
        &self,
        student: LinearLogits<D>,
        teacher: LinearLogits<D>,
        labels: Tensor<L, Int>,
        progress: Progress,
    ) -> Tensor<1> {
        self.try_forward(student, teacher, labels, progress)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The loss, or an error. Shapes as in [`forward`](Self::forward).
    ///
    /// # Errors
    /// Those of [`DistillationLoss::try_forward`], and [`Error::UnreducedHead`](crate::Error::UnreducedHead) for `Reduction::None` beside
    /// weights or a bias that are tracked.
    pub fn try_forward<const D: usize, const L: usize>(
        &self,
        student: LinearLogits<D>,
        teacher: LinearLogits<D>,
        labels: Tensor<L, Int>,
        progress: Progress,
    ) -> Result<Tensor<1>> {
        let batch = LinearDistillationBatch::new(student, teacher, labels);
        let run = self.run(batch, progress, [false; 2])?;
        Ok(run.loss())
    }

    /// The loss of a batch with its metrics.
    ///
    /// # Panics
    /// If [`try_forward_batch`](Self::try_forward_batch) returns an error, with its text.
    pub fn forward_batch<const D: usize, const L: usize>(
        &self,
        batch: LinearDistillationBatch<'_, D, L>,
        progress: Progress,
    ) -> DistillationOutput {
        self.try_forward_batch(batch, progress)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The loss of a batch with its metrics, or an error.
    ///
    /// The gradients are `grad_hidden_states = grad_logits * weights`, `grad_weights = (hidden_states^T * grad_logits)^T` and
    /// `grad_bias = sum grad_logits` over the rows. Products and sums are in f32, and rounded once to the type of hidden states and head.
    /// A row that is ignored, or that [`NonFinite::Skip`](crate::NonFinite::Skip) leaves out, contributes 0 to each, whatever its hidden
    /// states are. Under [`NonFinite::Propagate`](crate::NonFinite::Propagate) a row with NaN makes the head's gradient NaN.
    ///
    /// [`Scope::Batch`](crate::Scope::Batch) computes the logits of several chunks twice, once for the mean KDR, and reads that number
    /// back between the passes. Nothing else is read.
    ///
    /// # Errors
    /// As [`try_forward`](Self::try_forward), and those of [`DistillationLoss::try_forward_batch`].
    pub fn try_forward_batch<const D: usize, const L: usize>(
        &self,
        batch: LinearDistillationBatch<'_, D, L>,
        progress: Progress,
    ) -> Result<DistillationOutput> {
        let metrics = [true, self.loss.has_row_metrics()];
        let run = self.run(batch, progress, metrics)?;
        let (outputs, labels) = (&run.done.outputs, run.done.labels.clone());
        Ok(self.loss.output(outputs, run.loss(), labels, run.path))
    }

    fn run<const D: usize, const L: usize>(
        &self,
        batch: LinearDistillationBatch<'_, D, L>,
        progress: Progress,
        metrics: [bool; 2],
    ) -> Result<Run> {
        let student = &batch.student;
        let device = student.hidden_states.device();
        let denominator = batch.denominator.clone();
        let call = self
            .loss
            .call(denominator.as_ref(), &device, progress, metrics)?;
        let ids = match &batch.teacher {
            LinearTeacher::TopK { ids, .. } => Some(ids),
            _ => None,
        };
        let given = Given::of(&batch.labels, ids, call.path);
        checks::check(&call, &batch)?;
        let rows: usize = batch.labels.dims().iter().product();
        let [classes, hidden] = student.weights.dims();
        let hidden_states = student.hidden_states.clone().reshape([rows, hidden]);
        let weights = student.weights.clone().transpose();
        let bias = student.bias.clone().map(|bias| bias.reshape([1, classes]));
        let chunk_rows = self.chunk_rows(&batch);
        let (reduction, grad_scale, path) =
            (call.config.reduction, call.config.grad_loss, call.path);
        let call = Call::new(call, batch, self.loss.pad_tokens(), chunk_rows);
        Ok(Run {
            done: call.run().map_err(|error| given.name(error))?,
            student: (hidden_states, weights, bias),
            reduction,
            grad_scale,
            denominator: denominator.and_then(Denominator::on_device),
            path,
        })
    }
}

/// A computed call.
struct Run {
    done: Done,
    /// Hidden states `[rows, hidden]`, weights `[hidden, classes]` and bias `[1, classes]`, with the caller's autodiff.
    student: (Tensor<2>, Tensor<2>, Option<Tensor<2>>),
    reduction: Reduction,
    grad_scale: f32,
    /// Divides loss and gradients.
    denominator: Option<Tensor<1>>,
    path: ExecutionPath,
}

impl Run {
    /// The reduced loss, or each row's loss; differentiable if there is a gradient.
    fn loss(&self) -> Tensor<1> {
        let outputs = &self.done.outputs;
        let valid_rows = outputs.valid_rows();
        let factor = match (&self.denominator, self.reduction) {
            (Some(denominator), _) => Some(reciprocal(denominator.clone(), valid_rows)),
            (None, Reduction::Mean) => {
                let rows = valid_rows.float().cast(FloatDType::F32);
                Some(rows.clamp_min(1.0).recip())
            }
            (None, _) => None,
        };
        let loss = outputs.loss(self.reduction);
        let (hidden_states, weights, bias) = &self.student;
        let gradients = &self.done.gradients;
        let tracked = [
            (Some(hidden_states), &gradients.hidden_states),
            (Some(weights), &gradients.weights),
            (bias.as_ref(), &gradients.bias),
        ];
        let tracked = tracked
            .into_iter()
            .filter_map(|(tensor, gradient)| tensor.zip(gradient.as_ref()));
        // The loss belongs to one tensor; the others add 0 to it, and their gradient.
        let nodes = tracked.enumerate().map(|(i, (tensor, gradient))| {
            let value = match i {
                0 => loss.clone(),
                _ => loss.zeros_like(),
            };
            attach(tensor.clone(), value, gradient.clone(), self.grad_scale)
        });
        match (nodes.reduce(Tensor::add), factor) {
            (Some(loss), Some(factor)) => loss * Tensor::from_inner(factor),
            (Some(loss), None) => loss,
            (None, Some(factor)) => loss * factor,
            (None, None) => loss,
        }
    }
}
