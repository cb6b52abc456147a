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
