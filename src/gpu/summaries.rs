//! Summaries of statistics, and the check of a summary that a device wrote.

use crate::parts::SummaryAccumulator;
use crate::{Error, Result, RowStats, Summary, flags};

/// The number of valid rows and the mean KDR of row statistics, for `decide`.
pub(super) fn stats_summary(row_stats: &[RowStats]) -> Summary {
    let mut total = SummaryAccumulator::default();
    for stats in row_stats {
        total.counts.valid_rows += u32::from(stats.counts());
        if stats.counts() && stats.flags & flags::NON_FINITE == 0 {
            total.averaged += 1;
            total.kdr += f64::from(stats.kdr);
        }
    }
    total.summary()
}

/// Refuses a summary that does not count every row. If a command buffer fails on Metal, wgpu reports no error, and the results are never written.
pub(super) fn check_counts(summary: &Summary, rows: usize) -> Result<()> {
    let counts = [
        summary.valid_rows,
        summary.ignored_rows,
        summary.invalid_labels,
    ];
    let counted: u64 = counts.map(u64::from).iter().sum();
    if counted == rows as u64 {
        return Ok(());
    }
    Err(Error::Gpu {
        doing: "a run",
        reason: format!("the summary counts {counted} of {rows} rows, so the work was not done"),
    })
}
