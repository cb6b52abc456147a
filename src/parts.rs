//! A batch in parts that run one after another: rows of it, the configuration under which the parts are independent, the sum of their
//! summaries.

use std::ops::Range;

use crate::metrics::MetricSums;
use crate::{Batch, Config, Logits, NonFinite, Reduction, Scope, Summary, batch};

/// Configurations for parts of a batch that together give the whole batch's loss and gradient.
pub(crate) struct Parts {
    /// Each part divides by the rows of the whole batch. [`Scope::Batch`] is [`Scope::Given`], with a KDR that
    /// [`with_kdr`](Self::with_kdr) sets.
    pub config: Config,
    /// For [`Scope::Batch`]: the configuration of the pass over all parts that finds the mean KDR.
    pub observing: Option<Config>,
}

impl Parts {
    /// Configurations for the parts of a batch with these labels. `classes` are the student's.
    pub fn new(config: &Config, labels: &[i32], classes: usize) -> Self {
        let mut config = *config;
        if config.reduction == Reduction::Mean {
            let valid = batch::valid_rows(labels, classes, config.ignore_index);
            config.reduction = Reduction::SumOver(valid.max(1) as f32);
        }
        let mut observing = None;
        if config.scope == Scope::Batch {
            // The mean KDR includes rows whose gradient `decide` does not find.
            observing = Some(Config {
                scope: Scope::Row,
                non_finite: NonFinite::Propagate,
                ..config
            });
            config.scope = Scope::Given(0.0);
        }
        Self { config, observing }
    }

    /// The configuration after the observing pass, whose summary has the mean KDR.
    pub fn with_kdr(config: Config, observed: &Summary) -> Config {
        Config {
            scope: Scope::Given(observed.kdr.clamp(0.0, 1.0)),
            ..config
        }
    }
}

/// The rows of each chunk but the last, if a chunk has at most `budget` bytes of `row_bytes` a row. At least 1, and at most all where there
/// are rows.
///
/// The chunks are the fewest and even: their rows are a multiple of 16 where the budget allows it, since matrix products compute such blocks.
///
/// ```
/// use wgpu_distill::chunk_rows;
///
/// // 300 rows fit: four chunks, and 256 rows in each are enough.
/// assert_eq!(chunk_rows(1000, 1024, 300 * 1024), 256);
/// ```
pub fn chunk_rows(rows: usize, row_bytes: usize, budget: usize) -> usize {
    const BLOCK: usize = 16;
    let rows = rows.max(1);
    let most = (budget / row_bytes.max(1)).clamp(1, rows);
    let even = rows.div_ceil(rows.div_ceil(most));
    even.next_multiple_of(BLOCK).min(most)
}

/// Rows `range` of a batch.
pub(crate) fn part<'a>(batch: &Batch<'a>, range: &Range<usize>) -> Batch<'a> {
    let cut = |logits: &Logits<'a>| {
        let len = logits.values.len();
        let start = (range.start * logits.row_stride).min(len);
        Logits {
            values: logits.values.part(start..len),
            ..*logits
        }
    };
    let k = batch.teacher_logits.classes;
    let ids = |all: &'a [i32]| &all[range.start * k..range.end * k];
    Batch {
        student_logits: cut(&batch.student_logits),
        teacher_logits: cut(&batch.teacher_logits),
        teacher_ids: batch.teacher_ids.map(ids),
        labels: &batch.labels[range.clone()],
        soft_labels: batch.soft_labels.as_ref().map(cut),
        row_weights: batch.row_weights.map(|all| &all[range.clone()]),
        class_weights: batch.class_weights,
    }
}

/// Adds up the summaries of parts. Losses are sums over one denominator; means are weighted by their rows.
#[derive(Default)]
pub(crate) struct SummaryAccumulator {
    pub loss: f64,
    pub kdr: f64,
    pub tssr: f64,
    pub metrics: MetricSums,
    /// Rows that the means include.
    pub averaged: u32,
    pub counts: Summary,
}

impl SummaryAccumulator {
    /// Adds the summary of a part. A part counts no labels out of range, because calls on slices refuse them.
    pub fn add(&mut self, part: &Summary) {
        let averaged = part.valid_rows - part.non_finite_rows;
        self.loss += f64::from(part.loss);
        self.kdr += f64::from(part.kdr) * f64::from(averaged);
        self.tssr += f64::from(part.tssr) * f64::from(averaged);
        self.metrics.add(&part.metrics, averaged);
        self.averaged += averaged;
        self.counts.valid_rows += part.valid_rows;
        self.counts.ignored_rows += part.ignored_rows;
        self.counts.invalid_labels += part.invalid_labels;
        self.counts.non_finite_rows += part.non_finite_rows;
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn chunks_are_even_and_within_the_budget() {
        for rows in [1, 2, 15, 16, 17, 100, 1000, 1024, 4097, 100_003] {
            for classes in [1, 10, 1000, 32_000, 262_144] {
                for hidden in [1, 64, 4096] {
                    for budget in [0, 1, 1000, MIB, 16 * MIB, 64 * MIB, usize::MAX] {
                        let row_bytes = size_of::<f32>() * (3 * classes + 2 * hidden);
                        let chunk = chunk_rows(rows, row_bytes, budget);
                        let about = format!("{rows} of {row_bytes} bytes, {budget}: {chunk}");
                        assert!((1..=rows).contains(&chunk), "{about}");
                        let fits = chunk.checked_mul(row_bytes);
                        assert!(fits.is_some_and(|b| b <= budget) || chunk == 1, "{about}");
                        // No other size within the budget needs fewer chunks.
                        let most = (budget / row_bytes).clamp(1, rows);
                        assert_eq!(rows.div_ceil(chunk), rows.div_ceil(most), "{about}");
                    }
                }
            }
        }
        assert_eq!(chunk_rows(0, 12, MIB), 1);
    }
}
