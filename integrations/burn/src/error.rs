//! Why a loss cannot be computed, with the numbers inside.

use burn::tensor::DType;

/// Why [`try_forward`](crate::DistillationLoss::try_forward) refused; [`forward`](crate::DistillationLoss::forward) panics with the same words, as Burn's own losses do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the kernels refuse: a field of the configuration, the progress, a number of classes, a label, a limit of the device.
    #[error(transparent)]
    Distill(#[from] wgpu_distill::Error),
    /// Logits that are neither `[rows, classes]` nor `[batch, sequence, classes]`.
    #[error("`{name}` has shape {shape:?}, expected [rows, classes] or [batch, sequence, classes]")]
    LogitsRank {
        /// Which logits.
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
    /// Labels that are not one for each row.
    #[error(
        "labels has shape {labels:?}, expected one label a row, {expected:?}, for student_logits of shape {student:?}"
    )]
    Labels {
        /// The shape of the labels.
        labels: Vec<usize>,
        /// What it should be.
        expected: Vec<usize>,
        /// The shape of the student's logits.
        student: Vec<usize>,
    },
    /// Logits of a type that the kernels do not read.
    #[error(
        "`{name}` is {dtype:?}, expected F32, F16 or BF16; cast it first: `{name}.cast(FloatDType::F32)`"
    )]
    LogitsType {
        /// Which logits.
        name: &'static str,
        /// Their type.
        dtype: DType,
    },
    /// Logits of a 16-bit type that Burn does not compute with on their device.
    #[error(
        "`{name}` is {dtype:?}, which Burn does not compute with on {device}; make it F32 before it goes there: `data.convert_dtype(DType::F32)`"
    )]
    TypeOnDevice {
        /// Which logits.
        name: &'static str,
        /// Their type.
        dtype: DType,
        /// Their device.
        device: String,
    },
    /// Tensors on different devices.
    #[error(
        "student_logits is on {student}, `{name}` on {other}; move it first: `{name}.to_device(&student_logits.device())`"
    )]
    Devices {
        /// The device of the student's logits.
        student: String,
        /// Which tensor is elsewhere.
        name: &'static str,
        /// The device of that tensor.
        other: String,
    },
    /// The loss does not know how to continue autodiff on this backend.
    #[error(
        "no autodiff for the loss on {device}; move the logits to a wgpu or flex device (for ndarray: the feature `ndarray` of burn-distill)"
    )]
    Backend {
        /// The device.
        device: String,
    },
    /// A graph is being captured on this thread's stream.
    #[error(
        "a graph is being captured; the kernels are submitted directly and would not be recorded: compute the loss before `graph_start_capture` or after `graph_stop_capture`"
    )]
    Capturing,
    /// `grad_scale` is not a finite number above 0.
    #[error("`grad_scale` is {value}, expected a finite number above 0")]
    GradScale {
        /// What it is.
        value: f32,
    },
    /// Burn's runtime did not give its buffers.
    #[error(
        "Burn's runtime gave no buffer for `{name}`: {reason}; what computed it failed or the device is lost: read that tensor to see (`try_into_data`), and start again from a new device if it is lost"
    )]
    Runtime {
        /// Which tensor.
        name: &'static str,
        /// What it said.
        reason: String,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
