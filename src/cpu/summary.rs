//! Summary: sums and counts over rows.

use crate::metrics::MetricSums;
use crate::{Reduction, RowMetrics, RowResult, Summary, flags};

impl Summary {
    /// The summary of the rows of a batch, as `run` gives it, for results that came from single steps or from shards. It has no metrics.
    pub fn of_rows(rows: &[RowResult], reduction: Reduction) -> Self {
        let mut sums = SummaryAccumulator::default();
        rows.iter().for_each(|row| sums.add(row));
        sums.finish(reduction)
    }
}

/// Sums over rows that give the summary.
#[derive(Clone, Copy, Default)]
pub(super) struct SummaryAccumulator {
    loss: f64,
    pub kdr: f64,
    tssr: f64,
    metrics: MetricSums,
    averaged: u32,
    pub summary: Summary,
}

impl SummaryAccumulator {
    /// Counts a row; returns true if its KDR and TSSR belong to the means.
    ///
    /// The branches are deliberate: with sums of `u32::from(bool)` for all five counters, rustc 1.95 (LLVM 22) at opt-level 2 and 3
    /// left `averaged` at 0. The case table, run in release by `./check`, shows it.
    pub fn count(&mut self, flags: u32) -> bool {
        let s = &mut self.summary;
        if flags & flags::IGNORED != 0 {
            s.ignored_rows += 1;
            return false;
        }
        let non_finite = flags & (flags::NON_FINITE | flags::SKIPPED) != 0;
        if non_finite {
            s.non_finite_rows += 1;
        }
        if flags & flags::INVALID_LABEL != 0 {
            s.invalid_labels += 1;
            return false;
        }
        s.valid_rows += 1;
        if non_finite {
            return false;
        }
        self.averaged += 1;
        true
    }

    pub fn add(&mut self, row: &RowResult) {
        if self.count(row.flags) {
            self.kdr += f64::from(row.kdr);
            self.tssr += f64::from(row.tssr);
        }
        self.loss += f64::from(row.loss);
    }

    /// Adds the metrics of a row that belongs to the means.
    pub fn add_metrics(&mut self, row: &RowResult, metrics: &RowMetrics) {
        if row.is_averaged() {
            self.metrics.add(metrics, 1);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.loss += other.loss;
        self.kdr += other.kdr;
        self.tssr += other.tssr;
        self.metrics.merge(&other.metrics);
        self.averaged += other.averaged;
        let (s, o) = (&mut self.summary, &other.summary);
        s.valid_rows += o.valid_rows;
        s.ignored_rows += o.ignored_rows;
        s.invalid_labels += o.invalid_labels;
        s.non_finite_rows += o.non_finite_rows;
    }

    /// The mean KDR of the rows for which `count` returned true.
    pub fn mean_kdr(&self) -> f32 {
        (self.kdr / f64::from(self.averaged.max(1))) as f32
    }

    pub fn finish(self, reduction: Reduction) -> Summary {
        let mean = f64::from(self.averaged.max(1));
        Summary {
            loss: (self.loss / reduction.denominator(self.summary.valid_rows)) as f32,
            kdr: (self.kdr / mean) as f32,
            tssr: (self.tssr / mean) as f32,
            metrics: self.metrics.mean(self.averaged),
            ..self.summary
        }
    }
}
