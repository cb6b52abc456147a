//! The buffers that kernels bind besides their parameters.

/// A buffer that a kernel binds besides its parameters. It belongs to the caller or to the plan's workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operand {
    /// Caller: `[rows, classes]`.
    StudentLogits,
    /// Caller: `[rows, classes]`.
    TeacherLogits,
    /// Caller: `i32 [rows, k]`.
    TeacherIds,
    /// Caller: `i32 [rows]`.
    Labels,
    /// Caller: `[rows, classes]`.
    SoftLabels,
    /// Caller: `f32 [rows]`.
    RowWeights,
    /// Caller: `f32 [classes]`.
    ClassWeights,
    /// Caller: `[rows, classes]`.
    Gradient,
    /// Caller: [`RowResult`](crate::RowResult)` [rows]`.
    RowResults,
    /// Caller: [`RowReport`](crate::RowReport)` [rows]`.
    RowMetrics,
    /// Caller: one [`Summary`](crate::Summary).
    Summary,
    /// Workspace: [`RowStats`](crate::RowStats)` [rows]`.
    RowStats,
    /// Workspace: [`RowStats`](crate::RowStats)` [rows of a chunk, segments]`. Caller: the statistics of [`ShardLists`](super::ShardLists).
    SegmentStats,
    /// Workspace: [`SweepSums`](crate::SweepSums)` [rows of a chunk, segments]`. Caller: those of [`ShardLists`](super::ShardLists).
    SweepSums,
    /// Workspace: [`Decision`](crate::Decision)` [rows of a chunk]`.
    Decisions,
    /// Workspace: partial summaries, one per workgroup, and behind them the counts of `valid_rows`.
    Partials,
    /// Workspace: the summary of the row statistics. `Batch` scope uses its mean KDR.
    StatsSummary,
    /// Workspace: bound instead of an output that is not needed.
    Placeholder,
}

impl Operand {
    /// Every operand.
    pub const ALL: [Self; 18] = [
        Self::StudentLogits,
        Self::TeacherLogits,
        Self::TeacherIds,
        Self::Labels,
        Self::SoftLabels,
        Self::RowWeights,
        Self::ClassWeights,
        Self::Gradient,
        Self::RowResults,
        Self::RowMetrics,
        Self::Summary,
        Self::RowStats,
        Self::SegmentStats,
        Self::SweepSums,
        Self::Decisions,
        Self::Partials,
        Self::StatsSummary,
        Self::Placeholder,
    ];

    /// Its name for hosts and in errors. A kernel may declare its binding by another name: `grad_student_logits` is the gradient, and
    /// `row_stats` of `observe` may be those of segments.
    pub fn name(self) -> &'static str {
        match self {
            Self::StudentLogits => "student_logits",
            Self::TeacherLogits => "teacher_logits",
            Self::TeacherIds => "teacher_ids",
            Self::Labels => "labels",
            Self::SoftLabels => "soft_labels",
            Self::RowWeights => "row_weights",
            Self::ClassWeights => "class_weights",
            Self::Gradient => "gradient",
            Self::RowResults => "row_results",
            Self::RowMetrics => "row_metrics",
            Self::Summary => "summary",
            Self::RowStats => "row_stats",
            Self::SegmentStats => "segment_stats",
            Self::SweepSums => "sweep_sums",
            Self::Decisions => "decisions",
            Self::Partials => "partials",
            Self::StatsSummary => "stats_summary",
            Self::Placeholder => "placeholder",
        }
    }
}

/// The part of a buffer that a kernel binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Window {
    /// The buffer.
    pub operand: Operand,
    /// Bytes from its start: a multiple of the device's alignment.
    pub offset: u64,
    /// Bytes bound, at least 4.
    pub bytes: u64,
}
