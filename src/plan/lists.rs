//! Lists of a call in the caller's buffers: labels, weights, results, statistics.

use crate::{Result, validate};

/// Bytes of the structs that the device keeps per row, per workgroup or per batch.
pub(crate) const ROW_STATS_BYTES: u64 = 224;
pub(crate) const DECISION_BYTES: u64 = 80;
pub(crate) const ROW_RESULT_BYTES: u64 = 16;
pub(crate) const SWEEP_SUMS_BYTES: u64 = 16;
pub(crate) const ROW_REPORT_BYTES: u64 = 64;
pub(crate) const SUMMARY_BYTES: u64 = 80;

/// A list in a caller buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct List {
    /// Bytes from the buffer's start to the first item.
    pub offset: u64,
    /// Bytes of the buffer.
    pub buffer_bytes: u64,
}

impl List {
    /// A list at the start of a buffer.
    pub fn new(buffer_bytes: u64) -> Self {
        Self {
            offset: 0,
            buffer_bytes,
        }
    }

    /// Checks that `bytes` bytes fit, and that they start at a multiple of `alignment`.
    pub(super) fn check(&self, name: &'static str, bytes: u64, alignment: u64) -> Result<()> {
        let end = self.offset.saturating_add(bytes);
        validate::region(name, self.offset..end, alignment, self.buffer_bytes)
    }
}

/// The type of labels in a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LabelType {
    /// 32 bits.
    #[default]
    I32,
    /// 64 bits, as frameworks hold labels. The kernels read two words.
    I64,
}

impl LabelType {
    /// Bytes of a label.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

/// Placement of labels, weights, row results and summary in their buffers. The matrices are in the [`Problem`](super::Problem).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lists {
    /// `[rows]` of `label_type`, at a multiple of its bytes.
    pub labels: List,
    /// The type of the labels.
    pub label_type: LabelType,
    /// `i32 [rows, k]` without gaps, at a multiple of 4 bytes; `None` exactly if the teacher has no list.
    pub teacher_ids: Option<List>,
    /// `f32 [rows]`, at a multiple of 4 bytes; `None` exactly if the problem has no weights.
    pub row_weights: Option<List>,
    /// `f32 [classes]` of the student, at a multiple of 4 bytes; `None` exactly if the problem has none.
    pub class_weights: Option<List>,
    /// [`RowResult`](crate::RowResult)` [rows]`, 16 bytes each, at a multiple of 16; `None` if they are not needed.
    pub row_results: Option<List>,
    /// [`RowReport`](crate::RowReport)` [rows]`, 64 bytes each, at a multiple of 64, instead of `row_results`; `Some` exactly if the problem
    /// has metrics.
    pub row_metrics: Option<List>,
    /// One [`Summary`](crate::Summary), 80 bytes, at a multiple of 256; `None` if it is not needed.
    pub summary: Option<List>,
    /// The statistics of shards; `Some` exactly if the problem has a [`shard`](super::Problem::shard).
    pub shard: Option<ShardLists>,
}

/// A step on a slice of the classes. [`Shard`](crate::Shard) has the order of the steps and their messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShardStep {
    /// Writes the statistics of the slice's rows, `row_stats` `[rows]`.
    Observe,
    /// Reads those of all shards, `row_stats` `[shards, rows]`, and writes the slice's `sweep_sums` `[rows]`.
    Sweep,
    /// Reads `row_stats` and `sweep_sums` `[shards, rows]`: merges, decides, and applies to the slice.
    Apply,
}

/// Placement of the statistics of shards in the caller's buffers, each at a multiple of 256 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardLists {
    /// The step that reads or writes them.
    pub step: ShardStep,
    /// Records that each row has: the shards of a list that a step reads, 1 in that of [`ShardStep::Observe`].
    pub shards: u32,
    /// [`RowStats`](crate::RowStats), 224 bytes each.
    pub row_stats: List,
    /// [`SweepSums`](crate::SweepSums), 16 bytes each; `None` in [`ShardStep::Observe`], and where
    /// [`Config::sweeps_twice`](crate::Config::sweeps_twice) is false in [`ShardStep::Apply`].
    pub sweep_sums: Option<List>,
}

impl ShardLists {
    /// Bytes of the statistics and of the sums.
    pub(crate) fn bytes(&self, rows: usize) -> [u64; 2] {
        let records = rows as u64 * u64::from(self.shards);
        let sums = match self.step {
            ShardStep::Sweep => rows as u64,
            _ => records,
        };
        [
            records.saturating_mul(ROW_STATS_BYTES),
            sums.saturating_mul(SWEEP_SUMS_BYTES),
        ]
    }
}

const _: () = {
    assert!(size_of::<crate::RowStats>() as u64 == ROW_STATS_BYTES);
    assert!(size_of::<crate::Decision>() as u64 == DECISION_BYTES);
    assert!(size_of::<crate::RowResult>() as u64 == ROW_RESULT_BYTES);
    assert!(size_of::<crate::Summary>() as u64 == SUMMARY_BYTES);
    assert!(size_of::<crate::RowReport>() as u64 == ROW_REPORT_BYTES);
};
