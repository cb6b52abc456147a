//! Cuts a matrix into chunks of whole rows that one dispatch can bind.

use std::ops::Range;

use super::limits::Limits;
use super::lists::{LabelType, ROW_STATS_BYTES};
use super::problem::{Matrix, Problem};
use crate::Result;
use crate::shader::Variant;
use crate::validate::within;

/// A range of whole rows that one dispatch can bind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chunk {
    /// The rows.
    pub rows: Range<usize>,
    /// Workgroups of the kernels in which several lanes may own a row.
    pub workgroups: u32,
    /// Workgroups of `decide` and `valid_rows`, where an invocation owns a row.
    pub row_workgroups: u32,
}

/// Upper bound on the workgroups of a dispatch on software adapters, which are slow to start one. Each loops over further rows.
const MOST_SOFTWARE_WORKGROUPS: u32 = 64;

/// Upper bound on chunks. No matrix that fits a device needs more, and the host can list them.
const MOST_CHUNKS: u64 = 1 << 16;

/// In batches of up to this many rows every workgroup counts the valid labels, which costs less than to dispatch `valid_rows`.
const COUNT_INLINE: usize = 4096;

/// Labels that a workgroup of `valid_rows` counts, unless there are more than `MOST_COUNTS` times as many.
const LABELS_PER_COUNT: usize = 4096;

/// Upper bound on the workgroups of a dispatch of `valid_rows`. Every workgroup of `distill` adds up their counts.
const MOST_COUNTS: u64 = 128;

/// All workgroups of the kernels in which several lanes may own a row.
pub(super) fn workgroups(chunks: &[Chunk]) -> u64 {
    chunks.iter().map(|c| u64::from(c.workgroups)).sum()
}

/// All workgroups of the kernels in which an invocation owns a row.
pub(super) fn row_workgroups(chunks: &[Chunk]) -> u64 {
    chunks.iter().map(|c| u64::from(c.row_workgroups)).sum()
}

/// The chunks of a problem, in the order of the rows, and those of the labels that `valid_rows` counts before, if it `counts`.
///
/// # Errors
/// [`Error::LimitExceeded`] for a row that no binding holds, and for too many chunks.
pub(super) fn chunks(
    problem: &Problem,
    limits: &Limits,
    variant: &Variant,
    row_variant: &Variant,
    segments: u32,
    in_steps: bool,
    counts: bool,
) -> Result<(Vec<Chunk>, Vec<Chunk>)> {
    let rows = problem.rows;
    let row_bytes = match in_steps {
        false => problem.result_bytes(),
        true => ROW_STATS_BYTES * u64::from(segments),
    };
    let per_chunk = rows_per_chunk(problem, limits, row_bytes)?;
    // Each chunk is a dispatch and writes at least one partial summary. One binding holds the partial summaries of all chunks.
    let count = rows.div_ceil(per_chunk) as u64;
    within("the number of chunks", count, MOST_CHUNKS)?;
    let most = match limits.software {
        true => limits.workgroups.min(MOST_SOFTWARE_WORKGROUPS),
        false => limits.workgroups,
    };
    let most = u64::from(most);
    let counted = match counts && (count > 1 || rows > COUNT_INLINE) {
        true => counted_chunks(rows, limits, most.min(MOST_COUNTS)),
        false => Vec::new(),
    };
    // The same binding holds a count of each workgroup of `valid_rows`.
    let counts = row_workgroups(&counted);
    check_partials((count + counts) * problem.partial_bytes(), limits)?;
    let partials = limits.largest_binding() / problem.partial_bytes() - counts;
    let most = most.min(partials / count.max(1)).max(1);
    let workgroups = |items: usize, variant: &Variant| {
        let items_each = u64::from(variant.workgroup_size / variant.lanes);
        (items as u64).div_ceil(items_each).min(most) as u32
    };
    let chunk = |start: usize| {
        let rows = start..rows.min(start + per_chunk);
        Chunk {
            workgroups: workgroups(rows.len() * segments as usize, variant),
            row_workgroups: workgroups(rows.len(), row_variant),
            rows,
        }
    };
    let all = (0..rows).step_by(per_chunk).map(chunk).collect();
    Ok((all, counted))
}

/// The runs of rows whose labels, of either type, a binding holds: fewer than the chunks, whose rows are longer than a label.
fn counted_chunks(rows: usize, limits: &Limits, most: u64) -> Vec<Chunk> {
    let per_chunk = usize::try_from(limits.room() / LabelType::I64.bytes()).unwrap_or(usize::MAX);
    let chunk = |start: usize| {
        let rows = start..rows.min(start.saturating_add(per_chunk));
        let workgroups = (rows.len().div_ceil(LABELS_PER_COUNT) as u64).min(most) as u32;
        Chunk {
            workgroups,
            row_workgroups: workgroups,
            rows,
        }
    };
    (0..rows).step_by(per_chunk).map(chunk).collect()
}

/// The largest number of rows per chunk for which every binding fits.
fn rows_per_chunk(problem: &Problem, limits: &Limits, row_bytes: u64) -> Result<usize> {
    let room = limits.room();
    within("the size of one row's statistics in bytes", row_bytes, room)?;
    let mut most = problem.rows.max(1) as u64;
    for (
        Matrix {
            storage,
            row_stride,
            ..
        },
        classes,
    ) in problem.matrices()
    {
        let bytes = storage.bytes() as u64;
        let row = classes as u64 * bytes;
        within("the size of one row of logits in bytes", row, room)?;
        most = most.min(1 + (room - row) / (row_stride as u64 * bytes));
    }
    if problem.teacher_list {
        most = most.min(room / (4 * problem.teacher_classes.max(1) as u64));
    }
    if problem.class_weights {
        let bytes = 4 * problem.classes as u64;
        within("the size of the class weights in bytes", bytes, room)?;
    }
    most = most.min(room / row_bytes);
    Ok(usize::try_from(most).unwrap_or(usize::MAX))
}

/// Refuses partial summaries that exceed the largest binding.
pub(super) fn check_partials(bytes: u64, limits: &Limits) -> Result<()> {
    let what = "the size of the partial sums in bytes";
    within(what, bytes, limits.largest_binding())
}
