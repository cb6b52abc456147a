//! Combines the summaries of row ranges.

use crate::metrics::MetricSums;
use crate::{Error, Result, RowStats, Summary, flags};

/// Adds up the summaries of row ranges. Losses are sums over one denominator; means are weighted by their rows.
#[derive(Default)]
pub(super) struct SummaryAccumulator {
    loss: f64,
    kdr: f64,
    tssr: f64,
    metrics: MetricSums,
    averaged: u32,
    counts: Summary,
}

impl SummaryAccumulator {
    /// Adds the summary of a row range. A range counts no labels out of range, because calls on slices refuse them.
    pub fn add(&mut self, range: &Summary) {
        let averaged = range.valid_rows - range.non_finite_rows;
        self.loss += f64::from(range.loss);
        self.kdr += f64::from(range.kdr) * f64::from(averaged);
        self.tssr += f64::from(range.tssr) * f64::from(averaged);
        self.metrics.add(&range.metrics, averaged);
        self.averaged += averaged;
        self.counts.valid_rows += range.valid_rows;
        self.counts.ignored_rows += range.ignored_rows;
        self.counts.invalid_labels += range.invalid_labels;
        self.counts.non_finite_rows += range.non_finite_rows;
    }

    pub fn summary(&self) -> Summary {
        let rows = f64::from(self.averaged.max(1));
        Summary {
            loss: self.loss as f32,
            kdr: (self.kdr / rows) as f32,
            tssr: (self.tssr / rows) as f32,
            metrics: self.metrics.mean(self.averaged),
            ..self.counts
        }
    }
}

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
