//! Metrics of rows, for the record of a training run.

use bytemuck::{Pod, Zeroable};

/// Metrics of a row, or in a [`Summary`](crate::Summary) their means over the rows that are valid, finite and not left out. They cost
/// no further sweep over the logits. Entropies, divergences and parts of the loss are in nats.
///
/// For divergences of sampled tokens the metrics of the teacher's row are NaN: `forward_kl`, `teacher_entropy`, `teacher_lse`, `agreement`,
/// `teacher_accuracy`.
///
/// A row that is ignored or left out has 0; one with a label out of range or without a finite result has NaN. The mean of infinities is
/// infinite. The layout is that of `RowReport` in `shaders/include/types.wgsl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[non_exhaustive]
pub struct RowMetrics {
    /// `KL(q, p) = sum q ln(q / p)`, whichever divergence the loss has; infinite if the student masks a class that the teacher does not.
    pub forward_kl: f32,
    /// The teacher's entropy `- sum q ln q`; NaN if the student masks a class that the teacher does not.
    pub teacher_entropy: f32,
    /// The student's entropy `- sum p ln p`.
    pub student_entropy: f32,
    /// The hard part: the cross-entropy with the label, before weights, shares and temperature scaling.
    pub hard: f32,
    /// The soft part: the divergence, before weights, shares and temperature scaling.
    pub soft: f32,
    /// The log-sum-exp of the student's logits over its temperature.
    pub student_lse: f32,
    /// The log-sum-exp of the teacher's logits over its temperature.
    pub teacher_lse: f32,
    /// 1 if the largest logits of student and teacher have a class in common, else 0.
    pub agreement: f32,
    /// 1 if no logit of the student is above that of the label, else 0.
    pub student_accuracy: f32,
    /// 1 if no logit of the teacher is above that of the label, else 0.
    pub teacher_accuracy: f32,
    pub(crate) reserved: [u32; 2],
}

impl RowMetrics {
    /// The number of metrics.
    pub(crate) const COUNT: usize = 10;

    /// The metrics in the order of the fields.
    pub(crate) fn values(&self) -> [f32; Self::COUNT] {
        let words: [f32; 12] = bytemuck::cast(*self);
        std::array::from_fn(|i| words[i])
    }

    /// The metrics from their values in the order of the fields.
    pub(crate) fn of(values: [f32; Self::COUNT]) -> Self {
        let value = |i: usize| values.get(i).copied().unwrap_or(0.0);
        bytemuck::cast::<[f32; 12], Self>(std::array::from_fn(value))
    }
}

/// Sums of metrics over rows.
#[derive(Clone, Copy, Default)]
pub(crate) struct MetricSums([f64; RowMetrics::COUNT]);

impl MetricSums {
    /// Adds the metrics of a row, or means over `rows` of them.
    pub fn add(&mut self, metrics: &RowMetrics, rows: u32) {
        for (sum, value) in self.0.iter_mut().zip(metrics.values()) {
            *sum += f64::from(value) * f64::from(rows);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (sum, other) in self.0.iter_mut().zip(other.0) {
            *sum += other;
        }
    }

    /// The means over `rows` rows; 0 if there are none.
    pub fn mean(&self, rows: u32) -> RowMetrics {
        let rows = f64::from(rows.max(1));
        RowMetrics::of(self.0.map(|sum| (sum / rows) as f32))
    }
}
