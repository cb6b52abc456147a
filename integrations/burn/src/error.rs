//! Errors of this crate.

use burn::tensor::DType;
use wgpu_distill::GradWrite;

/// An error of [`try_forward`](crate::DistillationLoss::try_forward) or
/// [`try_init`](crate::DistillationLossConfig::try_init). [`forward`](crate::DistillationLoss::forward) panics with its text,
/// like Burn's losses.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of wgpu-distill: a field of the configuration, the progress, a number of classes, a label, a limit of the device.
    #[error(transparent)]
    Distill(#[from] wgpu_distill::Error),
    /// Logits that are neither `[rows, classes]` nor `[batch, sequence, classes]`.
    #[error("`{name}` has shape {shape:?}, expected [rows, classes] or [batch, sequence, classes]")]
    LogitsRank {
        /// `student_logits` or `teacher_logits`.
        name: &'static str,
        /// Their shape.
        shape: Vec<usize>,
    },
    /// Student and teacher have different numbers of rows.
    #[error(
        "student_logits has shape {student:?} and teacher_logits {teacher:?}; all dimensions but the last, the classes, must be equal"
    )]
    Rows {
        /// The shape of the student's logits.
        student: Vec<usize>,
        /// The shape of the teacher's logits.
        teacher: Vec<usize>,
    },
    /// The shape of the labels differs from the rows of the logits.
    #[error(
        "labels has shape {labels:?}, expected one label per row, {expected:?}, for student_logits of shape {student:?}"
    )]
    Labels {
        /// The shape of the labels.
        labels: Vec<usize>,
        /// The shape expected.
        expected: Vec<usize>,
        /// The shape of the student's logits.
        student: Vec<usize>,
    },
    /// The shape of the teacher's list differs from that of its log-probabilities.
    #[error(
        "teacher_ids has shape {teacher_ids:?}, expected that of the log-probabilities in teacher_logits, {teacher:?}: a class for each of them"
    )]
    TeacherIds {
        /// The shape of the list.
        teacher_ids: Vec<usize>,
        /// The shape of the log-probabilities.
        teacher: Vec<usize>,
    },
    /// The shape of the row weights differs from the rows of the logits.
    #[error(
        "row_weights has shape {row_weights:?}, expected one weight per row, {expected:?}, for student_logits of shape {student:?}"
    )]
    RowWeights {
        /// The shape of the weights.
        row_weights: Vec<usize>,
        /// The shape expected.
        expected: Vec<usize>,
        /// The shape of the student's logits.
        student: Vec<usize>,
    },
    /// The shape of the soft labels differs from that of the student's logits.
    #[error(
        "soft_labels has shape {soft_labels:?}, expected that of student_logits, {student:?}: a number for each class of each row"
    )]
    SoftLabels {
        /// The shape of the soft labels.
        soft_labels: Vec<usize>,
        /// The shape of the student's logits.
        student: Vec<usize>,
    },
    /// The number of class weights differs from the classes of the student.
    #[error(
        "class_weights has shape {class_weights:?}, expected one weight per class, {expected:?}, for student_logits of shape {student:?}"
    )]
    ClassWeights {
        /// The shape of the weights.
        class_weights: Vec<usize>,
        /// The shape expected.
        expected: Vec<usize>,
        /// The shape of the student's logits.
        student: Vec<usize>,
    },
    /// The shape of the mask of padding differs from the rows of the logits.
    #[error(
        "mask_pad has shape {mask_pad:?}, expected one entry per row, {expected:?}, for student_logits of shape {student:?}"
    )]
    MaskPad {
        /// The shape of the mask.
        mask_pad: Vec<usize>,
        /// The shape expected.
        expected: Vec<usize>,
        /// The shape of the student's logits.
        student: Vec<usize>,
    },
    /// Batches that are not the shards of one vocabulary, or a choice that shards lack.
    #[error("shard {shard}: {why}")]
    Shards {
        /// The batch in the list of [`try_forward_shards`](crate::DistillationLoss::try_forward_shards).
        shard: usize,
        /// The reason, in words.
        why: String,
    },
    /// A denominator that is not one number.
    #[error("denominator has shape {shape:?}, expected [1]: one number for the whole batch")]
    DenominatorShape {
        /// The shape of the denominator.
        shape: Vec<usize>,
    },
    /// A denominator beside `Reduction::None`, whose losses are not summed.
    #[error(
        "the batch has a denominator, but `reduction` is None: divide the losses of the rows yourself, or set `reduction` to Sum"
    )]
    DenominatorWithoutSum,
    /// A label beyond i32 that is not a class, or such an entry of a teacher's list.
    #[error("`{name}` of row {row} has {value}, expected a number below {classes}{}",
        if *name == "labels" { " or the ignore_index" } else { " or -1 for an empty place" }
    )]
    ClassOutOfRange {
        /// `labels` or `teacher_ids`.
        name: &'static str,
        /// The row.
        row: usize,
        /// The number as it was given.
        value: i128,
        /// Classes of the student.
        classes: usize,
    },
    /// Logits or soft labels of an element type other than f32, f16 and bf16.
    #[error(
        "`{name}` is {dtype:?}, expected F32, F16 or BF16; cast it first: `{name}.cast(FloatDType::F32)`"
    )]
    LogitsType {
        /// `student_logits`, `teacher_logits` or `soft_labels`.
        name: &'static str,
        /// Their element type.
        dtype: DType,
    },
    /// A tensor of a type that Burn does not support on its device.
    #[error(
        "`{name}` is {dtype:?}, which Burn does not support on {device}; convert the data before the upload: `data.convert_dtype(DType::{})`",
        if dtype.is_float() { "F32" } else { "I32" }
    )]
    TypeOnDevice {
        /// The field of [`DistillationBatch`](crate::DistillationBatch).
        name: &'static str,
        /// Its element type.
        dtype: DType,
        /// Its device.
        device: String,
    },
    /// Tensors on different devices.
    #[error(
        "student_logits is on {student}, `{name}` is on {other}; move it first: `{name}.to_device(&student_logits.device())`"
    )]
    Devices {
        /// The device of the student's logits.
        student: String,
        /// The tensor on another device.
        name: &'static str,
        /// The device of that tensor.
        other: String,
    },
    /// The loss has no autodiff for this backend.
    #[error(
        "no autodiff for the loss on {device}; move the logits to a wgpu or flex device (for ndarray: the feature `ndarray` of burn-distill)"
    )]
    Backend {
        /// The device.
        device: String,
    },
    /// This thread's stream is capturing a graph.
    #[error(
        "a graph is being captured; the kernels are submitted directly and would not be recorded: compute the loss before `graph_start_capture` or after `graph_stop_capture`"
    )]
    Capturing,
    /// `grad_scale` is outside its range.
    #[error("`grad_scale` is {value}, expected a number between 1e-30 and 1e30")]
    GradScale {
        /// Its value.
        value: f32,
    },
    /// `grad_write` is another choice than `Overwrite`.
    #[error(
        "`grad_write` is {value:?}, expected Overwrite: Burn allocates each gradient, and its autodiff adds the gradients of several losses"
    )]
    GradWrite {
        /// Its value.
        value: GradWrite,
    },
    /// A choice of the configuration that [`ExecutionPath::Composed`](crate::ExecutionPath::Composed) does not have.
    #[error(
        "`{field}` is {value}, which Burn's operations (ExecutionPath::Composed) do not compute; the kernels do: use a wgpu device from `burn_distill::init` or `Device::flex()`, and the loss without `.composed()`"
    )]
    NotComposed {
        /// The field of [`wgpu_distill::Config`].
        field: String,
        /// Its value.
        value: String,
    },
    /// A shape in a [`LinearDistillationBatch`](crate::LinearDistillationBatch) that does not fit.
    #[error("`{name}` has shape {shape:?}, expected {expected}")]
    LinearShape {
        /// The tensor.
        name: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// The shape expected.
        expected: String,
    },
    /// Weights or a bias of another type than the hidden states, with which Burn multiplies them.
    #[error("`{name}` is {dtype:?}, expected {expected:?}, the type of `{hidden_states}`; cast it")]
    LinearType {
        /// The tensor.
        name: &'static str,
        /// Its element type.
        dtype: DType,
        /// The hidden states.
        hidden_states: &'static str,
        /// Their element type.
        expected: DType,
    },
    /// Tensors of a [`LinearDistillationBatch`](crate::LinearDistillationBatch) on different devices.
    #[error(
        "student.hidden_states is on {student}, `{name}` is on {other}; move it first, with `to_device`"
    )]
    LinearDevices {
        /// The device of the student's hidden states.
        student: String,
        /// The tensor on another device.
        name: &'static str,
        /// The device of that tensor.
        other: String,
    },
    /// The loss of each row from hidden states, beside a head that gets a gradient.
    #[error(
        "`reduction` is None and the head is tracked: the gradient of a head is a sum over rows, whose upstream gradients only the backward knows; set `reduction` to Sum, with `row_weights` if rows have weights of their own, and read the losses of the rows from `row_loss`"
    )]
    UnreducedHead,
    /// Burn's runtime failed between the chunks of rows of a [`LinearDistillationLoss`](crate::LinearDistillationLoss).
    #[error(
        "Burn's runtime failed between chunks of rows: {reason}. Either the work that computes the inputs failed or the device is lost"
    )]
    BetweenChunks {
        /// The runtime's error.
        reason: String,
    },
    /// Burn's runtime returned an error for the buffer of a tensor.
    #[error(
        "Burn's runtime returned no buffer for `{name}`: {reason}. Either the work that computes it failed or the device is lost: `try_into_data` of that tensor returns the cause; after a loss create a new device"
    )]
    Runtime {
        /// The tensor.
        name: &'static str,
        /// The runtime's error.
        reason: String,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
