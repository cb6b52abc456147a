//! The error type.

/// The reason why a call was refused or failed, with the values that caused it. Arguments are checked before anything runs on a device.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of [`Config`](crate::Config), or a product of fields, has a value outside its range.
    #[error("`{field}` is {value}, expected {expected}")]
    InvalidConfig {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The values that it may have.
        expected: &'static str,
    },
    /// `total` is 0, or `step` lies beyond it.
    #[error("progress is step {step} of {total}, expected 0 <= step <= total and total >= 1")]
    InvalidProgress {
        /// The step given.
        step: u64,
        /// The total given.
        total: u64,
    },
    /// [`Progress::NONE`](crate::Progress::NONE) for a selection that depends on training time.
    #[error(
        "selection `{selection}` depends on training time, but progress is step 0 of 0; give `Progress::new(step, total)`"
    )]
    ProgressNeeded {
        /// The selection.
        selection: String,
    },
    /// Logits without classes.
    #[error("`{name}` has 0 classes, expected at least 1")]
    ZeroClasses {
        /// Name of the matrix.
        name: &'static str,
    },
    /// Teacher and student differ in their number of classes, and the configuration does not select the common prefix.
    #[error(
        "the student has {student} classes and the teacher {teacher}; set `teacher_classes: TeacherClasses::CommonPrefix` to use the classes that both have; reverse KL also needs `MaskedClasses::Both`"
    )]
    ShapeMismatch {
        /// Classes of the student.
        student: usize,
        /// Classes of the teacher.
        teacher: usize,
    },
    /// A divergence of sampled tokens, and a teacher with more than one number a row.
    #[error(
        "the teacher has {got} classes, and the divergence `{divergence}` takes 1: the teacher's log-probability of the row's label"
    )]
    SampledTeacher {
        /// The divergence.
        divergence: String,
        /// Classes of the teacher.
        got: usize,
    },
    /// A list that must have one entry per row has another length.
    #[error("`{name}` has {got} entries, expected {rows}, one for each row")]
    RowCount {
        /// Name of the list.
        name: &'static str,
        /// Rows of the batch.
        rows: usize,
        /// Entries given.
        got: usize,
    },
    /// A row stride shorter than a row.
    #[error("`{name}` has a row stride of {row_stride}, shorter than its {classes} classes")]
    RowStrideTooSmall {
        /// Name of the matrix.
        name: &'static str,
        /// The stride, in elements.
        row_stride: usize,
        /// The classes of a row.
        classes: usize,
    },
    /// A slice shorter than the shape asks for.
    #[error("`{name}` has {got} elements, it needs {needed}; check rows, classes and row stride")]
    SliceTooSmall {
        /// Name of the slice.
        name: &'static str,
        /// Elements needed.
        needed: usize,
        /// Elements given.
        got: usize,
    },
    /// A slice longer than the shape asks for.
    #[error(
        "`{name}` has {got} elements, {rows} rows at a stride of {row_stride} have at most {limit}; check rows and classes, or pass only the part of the slice that holds them"
    )]
    SliceTooLarge {
        /// Name of the slice.
        name: &'static str,
        /// Rows of the batch.
        rows: usize,
        /// Elements from row to row.
        row_stride: usize,
        /// Elements at most.
        limit: usize,
        /// Elements given.
        got: usize,
    },
    /// A matrix without gaps between its rows whose length is not that of its shape.
    #[error("`{name}` has {got} elements, expected {rows} rows of {columns}")]
    MatrixShape {
        /// Name of the matrix.
        name: &'static str,
        /// Rows expected.
        rows: usize,
        /// Elements of a row expected.
        columns: usize,
        /// Elements given.
        got: usize,
    },
    /// Hidden states without elements.
    #[error("`{name}` has a hidden size of 0, expected at least 1")]
    ZeroHiddenSize {
        /// Name of the hidden states.
        name: &'static str,
    },
    /// A buffer shorter than the shape asks for.
    #[error("buffer `{name}` has {got} bytes, it needs {needed} (offset included)")]
    BufferTooSmall {
        /// Name of the buffer.
        name: &'static str,
        /// Bytes needed, offset included.
        needed: u64,
        /// Bytes it has.
        got: u64,
    },
    /// A buffer offset that is no multiple of the element's size.
    #[error("buffer `{name}` is bound at byte {offset}, which is no multiple of {alignment}")]
    BufferMisaligned {
        /// Name of the buffer.
        name: &'static str,
        /// The offset, in bytes.
        offset: u64,
        /// The number that it must be a multiple of.
        alignment: u64,
    },
    /// A buffer created without a usage that the kernels need.
    #[error("buffer `{name}` has usage {got}, it needs {needed}; create it with both")]
    BufferUsage {
        /// Name of the buffer.
        name: &'static str,
        /// The missing usage.
        needed: String,
        /// The usages it has.
        got: String,
    },
    /// A buffer that is written overlaps one that is used for something else.
    #[error("buffer `{first}` and buffer `{second}` overlap in memory: {why}")]
    BufferOverlap {
        /// One of the two.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// The rule that the overlap breaks.
        why: &'static str,
    },
    /// A gradient of another width than the student's logits.
    #[error("the gradient has {got} classes, expected the student's {classes}")]
    GradientShape {
        /// Classes of the student.
        classes: usize,
        /// Classes of the gradient.
        got: usize,
    },
    /// A plan that was made for other buffers, shapes or choices, or for a device that offers more.
    #[error(
        "the plan was made for another problem or device; make one for these buffers and this config with `Gpu::plan`"
    )]
    PlanMismatch,
    /// A workspace made for a smaller plan.
    #[error(
        "the workspace is too small: the plan needs {needed} bytes; create one with `Workspace::new` for this plan"
    )]
    WorkspaceTooSmall {
        /// Bytes needed.
        needed: u64,
    },
    /// A label that is neither a class nor `ignore_index`.
    #[error("label {label} in row {row} is neither in 0..{classes} nor the ignore_index")]
    LabelOutOfRange {
        /// The first such row.
        row: usize,
        /// Its label.
        label: i32,
        /// Classes of the student.
        classes: usize,
    },
    /// A label of 64 bits beyond those that a [`Batch`](crate::Batch) takes.
    #[error("label {label} in row {row} is no i32, so it is neither a class nor an ignore_index")]
    LabelTooLarge {
        /// The first such row.
        row: usize,
        /// Its label.
        label: i64,
    },
    /// Soft labels with another number of classes than the student.
    #[error("`soft_labels` has {got} classes, the student has {classes}")]
    SoftLabelShape {
        /// Classes of the student.
        classes: usize,
        /// Classes of the soft labels.
        got: usize,
    },
    /// The teacher's list has another number of entries than log-probabilities.
    #[error(
        "`teacher_ids` has {got} entries, expected {expected}, one for each of the {k} log-probabilities of a row in `teacher_logits`"
    )]
    TeacherIds {
        /// Log-probabilities of a row.
        k: usize,
        /// Rows times log-probabilities.
        expected: usize,
        /// Entries.
        got: usize,
    },
    /// An entry of the teacher's list that is no class.
    #[error(
        "`teacher_ids` of row {row} has {id}, expected a class below {classes} or -1 for an empty place"
    )]
    TeacherIdOutOfRange {
        /// The first such row with a label.
        row: usize,
        /// The entry.
        id: i32,
        /// Classes of the student.
        classes: usize,
    },
    /// A class that a row's list has twice.
    #[error("`teacher_ids` of row {row} has class {id} twice")]
    TeacherIdTwice {
        /// The first such row with a label.
        row: usize,
        /// The class.
        id: i32,
    },
    /// A number in a row of soft labels that is negative, above 1e6 or NaN.
    #[error(
        "the soft label of row {row} has {value} at class {class}, expected a number from 0 to 1e6 in `soft_labels`"
    )]
    SoftLabel {
        /// The first such row with a label.
        row: usize,
        /// The first such class of the row.
        class: usize,
        /// Its number.
        value: f32,
    },
    /// A row's weight is NaN or infinite.
    #[error("the weight of row {row} is {weight}, expected a finite number in `row_weights`")]
    RowWeight {
        /// The first such row with a label.
        row: usize,
        /// Its weight.
        weight: f32,
    },
    /// A class's weight is negative, above 1e6, NaN or infinite.
    #[error(
        "the weight of class {class} is {weight}, expected a number from 0 to 1e6 in `class_weights`"
    )]
    ClassWeight {
        /// The first such class.
        class: usize,
        /// Its weight.
        weight: f32,
    },
    /// `class_weights` and classes differ in length.
    #[error("`class_weights` has {got} weights; the student has {classes} classes")]
    ClassWeightCount {
        /// Classes of the student.
        classes: usize,
        /// Weights.
        got: usize,
    },
    /// A row with a label, although [`Reduction::SumOver(0.0)`](crate::Reduction::SumOver) states that no row has one.
    #[error(
        "row {row} has label {label}, but `reduction: SumOver` is 0; count the labels that are not the ignore_index"
    )]
    ZeroDenominator {
        /// The first such row.
        row: usize,
        /// Its label.
        label: i32,
    },
    /// A [`Shard`](crate::Shard) with columns beyond all classes.
    #[error(
        "the shard has {own} columns from class {first_class} on; all of its devices together have {classes} classes"
    )]
    ShardRange {
        /// The shard's first class.
        first_class: usize,
        /// Columns of the matrices.
        own: usize,
        /// All classes.
        classes: usize,
    },
    /// The statistics of a row's [`Shard`](crate::Shard)s do not add up to those of the row.
    #[error("the shards of row {row} do not add up: {why}")]
    Shards {
        /// The first such row.
        row: usize,
        /// The reason.
        why: String,
    },
    /// A quantity beyond a limit of the device or of this crate's 32-bit indices.
    #[error("{what} is {needed}, the limit is {limit}")]
    LimitExceeded {
        /// The quantity that is too large, with its unit.
        what: &'static str,
        /// Its value.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// A device that offers less than the kernels need.
    #[error("the device allows {limit} {what}; the kernels need {needed}")]
    DeviceLimit {
        /// The limited resource.
        what: &'static str,
        /// The amount needed.
        needed: u64,
        /// The device's limit.
        limit: u64,
    },
    /// An option that this call does not offer.
    #[error("{what} is not supported here: {why}")]
    Unsupported {
        /// The option.
        what: String,
        /// The reason, and an alternative.
        why: &'static str,
    },
    /// No adapter runs on a GPU.
    #[error("no hardware GPU found; available: {available}")]
    NoHardwareGpu {
        /// The available adapters.
        available: String,
    },
    /// No adapter of that name.
    #[error("no adapter has `{wanted}` in its name; available: {available}")]
    NoAdapter {
        /// The requested name.
        wanted: String,
        /// The available adapters.
        available: String,
    },
    /// The adapter gave no device.
    #[error("adapter `{adapter}` gave no device: {reason}")]
    NoDevice {
        /// The adapter.
        adapter: String,
        /// The driver's message.
        reason: String,
    },
    /// The device was lost before or during the call. A new context is needed.
    ///
    /// If a driver loses the device during a wait for results, wgpu 30 panics. The call catches that panic, unless panics abort the
    /// program.
    #[error("the GPU device was lost: {0}; create a new context")]
    DeviceLost(String),
    /// The device had no memory for an internal buffer, or the host none for the results. The context still works.
    #[error("out of memory: {0}; pass fewer rows at a time, or free memory")]
    OutOfMemory(String),
    /// The driver or wgpu refused an operation that passed the checks of this crate. Please report it.
    #[error("the GPU refused {doing}: {reason}")]
    Gpu {
        /// The operation.
        doing: &'static str,
        /// The message.
        reason: String,
    },
}

impl Error {
    /// The name of the variant, for hosts in other languages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidConfig { .. } => "InvalidConfig",
            Self::InvalidProgress { .. } => "InvalidProgress",
            Self::ProgressNeeded { .. } => "ProgressNeeded",
            Self::ZeroClasses { .. } => "ZeroClasses",
            Self::ShapeMismatch { .. } => "ShapeMismatch",
            Self::SampledTeacher { .. } => "SampledTeacher",
            Self::RowCount { .. } => "RowCount",
            Self::RowStrideTooSmall { .. } => "RowStrideTooSmall",
            Self::SliceTooSmall { .. } => "SliceTooSmall",
            Self::SliceTooLarge { .. } => "SliceTooLarge",
            Self::MatrixShape { .. } => "MatrixShape",
            Self::ZeroHiddenSize { .. } => "ZeroHiddenSize",
            Self::BufferTooSmall { .. } => "BufferTooSmall",
            Self::BufferMisaligned { .. } => "BufferMisaligned",
            Self::BufferUsage { .. } => "BufferUsage",
            Self::BufferOverlap { .. } => "BufferOverlap",
            Self::GradientShape { .. } => "GradientShape",
            Self::PlanMismatch => "PlanMismatch",
            Self::WorkspaceTooSmall { .. } => "WorkspaceTooSmall",
            Self::LabelOutOfRange { .. } => "LabelOutOfRange",
            Self::LabelTooLarge { .. } => "LabelTooLarge",
            Self::SoftLabelShape { .. } => "SoftLabelShape",
            Self::TeacherIds { .. } => "TeacherIds",
            Self::TeacherIdOutOfRange { .. } => "TeacherIdOutOfRange",
            Self::TeacherIdTwice { .. } => "TeacherIdTwice",
            Self::SoftLabel { .. } => "SoftLabel",
            Self::RowWeight { .. } => "RowWeight",
            Self::ClassWeight { .. } => "ClassWeight",
            Self::ClassWeightCount { .. } => "ClassWeightCount",
            Self::ZeroDenominator { .. } => "ZeroDenominator",
            Self::ShardRange { .. } => "ShardRange",
            Self::Shards { .. } => "Shards",
            Self::LimitExceeded { .. } => "LimitExceeded",
            Self::DeviceLimit { .. } => "DeviceLimit",
            Self::Unsupported { .. } => "Unsupported",
            Self::NoHardwareGpu { .. } => "NoHardwareGpu",
            Self::NoAdapter { .. } => "NoAdapter",
            Self::NoDevice { .. } => "NoDevice",
            Self::DeviceLost(..) => "DeviceLost",
            Self::OutOfMemory(..) => "OutOfMemory",
            Self::Gpu { .. } => "Gpu",
        }
    }

    /// The host has no memory for results of `bytes` bytes.
    pub(crate) fn no_room(bytes: usize) -> Self {
        Self::OutOfMemory(format!(
            "the host has no {bytes} bytes left for the results"
        ))
    }
}

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
