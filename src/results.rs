//! Results of a call. The `repr(C)` structs have the layout of their twins in `shaders/include/types.wgsl`.

use bytemuck::{Pod, Zeroable};
use half::{bf16, f16};

use crate::metrics::RowMetrics;
use crate::{Config, Storage};

/// Bits of [`RowResult::flags`] and [`RowStats::flags`].
pub mod flags {
    /// The row's label is `ignore_index`.
    pub const IGNORED: u32 = 1;
    /// The row's label is neither a class nor `ignore_index`; its loss and gradient are NaN.
    pub const INVALID_LABEL: u32 = 2;
    /// NaN or `+inf` among the row's logits, or only `-inf`, or on buffers a weight or soft label out of range; all its results are NaN unless it is [`SKIPPED`].
    pub const NON_FINITE: u32 = 4;
    /// Some student logit is `-inf` (a masked class).
    pub const STUDENT_MASKED: u32 = 8;
    /// Some student logit is above `-inf`. Without it the row is [`NON_FINITE`].
    pub const STUDENT_LIVE: u32 = 16;
    /// Some teacher logit is above `-inf`. Without it the row is [`NON_FINITE`].
    pub const TEACHER_LIVE: u32 = 32;
    /// The row's loss is infinite and has no derivative; its gradient is NaN unless the row is [`SKIPPED`].
    pub const NO_GRADIENT: u32 = 64;
    /// The row is [`NON_FINITE`] or has [`NO_GRADIENT`], and [`NonFinite::Skip`](crate::NonFinite::Skip) leaves it out: its results are 0.
    pub const SKIPPED: u32 = 128;
    /// The row's loss lies outside of [`Config::loss_clamp`](crate::Config::loss_clamp); its loss is the bound, its gradient 0.
    pub const CLAMPED: u32 = 256;
    /// The row has a soft label.
    pub const SOFT_LABEL: u32 = 512;
    /// The student masks a class to which the row's soft label gives more than 0: the hard part is infinite.
    pub const SOFT_LABEL_MASKED: u32 = 1024;
    /// The statistics are those of a [`Shard`](crate::Shard) or of several, which [`finish_shards`](crate::finish_shards) makes those of a row.
    pub const SHARD: u32 = 2048;
    /// Of a shard: the class of the row's label is not among its classes.
    pub const LABEL_ELSEWHERE: u32 = 4096;
}

/// One row's outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[non_exhaustive]
pub struct RowResult {
    /// The loss in nats, with temperature scaling and the row's weight, before reduction. 0 for rows that are ignored or left out.
    pub loss: f32,
    /// The similarity of the row's two distributions, in `[0, 1]`. 0 for rows that are ignored or left out, and for sampled tokens, which have
    /// no KDR.
    pub kdr: f32,
    /// The share of the true label in the row's target, in `[0, 1]`. 0 for rows that are ignored or left out.
    pub tssr: f32,
    /// [`flags`].
    pub flags: u32,
}

impl RowResult {
    /// Returns true if the row's label is `ignore_index`.
    pub fn is_ignored(&self) -> bool {
        self.flags & flags::IGNORED != 0
    }

    /// Returns true if the row's label is neither a class nor `ignore_index`.
    pub fn has_invalid_label(&self) -> bool {
        self.flags & flags::INVALID_LABEL != 0
    }

    /// Returns true if the row is not ignored and has NaN or `+inf` among its logits, or only `-inf`.
    pub fn is_non_finite(&self) -> bool {
        self.flags & flags::NON_FINITE != 0
    }

    /// Returns true if the row's loss is a bound of [`Config::loss_clamp`](crate::Config::loss_clamp).
    pub fn is_clamped(&self) -> bool {
        self.flags & flags::CLAMPED != 0
    }

    /// Returns true if the means of the summary include the row.
    pub(crate) fn is_averaged(&self) -> bool {
        let others = flags::IGNORED | flags::INVALID_LABEL | flags::NON_FINITE | flags::SKIPPED;
        self.flags & others == 0
    }

    /// Returns true if [`NonFinite::Skip`](crate::NonFinite::Skip) leaves the row out.
    pub fn is_skipped(&self) -> bool {
        self.flags & flags::SKIPPED != 0
    }
}

/// Statistics of one row from one sweep over the logits of student and teacher (docs/METHOD.md, section 3).
/// They suffice for KDR, loss and gradient. The statistics of a row's segments can be merged.
///
/// `s` and `t` are logits divided by their temperatures, `ms` and `mt` their maxima in the row.
/// The maxima are stored as logits, before the division.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[non_exhaustive]
pub struct RowStats {
    /// Largest student logit (not divided by the temperature).
    pub student_max: f32,
    /// `sum e^(s - ms)`
    pub student_sum: f32,
    /// Largest teacher logit (not divided by the temperature).
    pub teacher_max: f32,
    /// `sum e^(t - mt)`
    pub teacher_sum: f32,
    /// `A = sum e^(t - mt) ((t - mt) - (s - ms))`, over classes that the student does not mask.
    pub difference: f32,
    /// `S = sum e^(t - mt) (s - ms)`, over classes that the student does not mask.
    pub soft_moment: f32,
    /// `Cosine`: `D = sum e^(s - ms) e^(t - mt)`. Else 0.
    pub cross: f32,
    /// `Cosine`: `sum e^(2 (s - ms))`. Else 0.
    pub student_square: f32,
    /// `Cosine`: `sum e^(2 (t - mt))`. Else 0.
    pub teacher_square: f32,
    /// `U = sum (s - ms)`, with label smoothing or standardised logits. Else 0.
    pub student_offset: f32,
    /// `sum e^(t - mt)` over the classes that the student masks (`-inf`). If it is above 0, the divergence is infinite.
    pub masked_mass: f32,
    /// The student's logit at the label (not divided by the temperature).
    pub label_logit: f32,
    /// The similarity, in `[0, 1]`.
    pub kdr: f32,
    /// The row's label.
    pub label: i32,
    /// [`flags`].
    pub flags: u32,
    /// The classes that `student_offset` sums over. Else 0.
    pub student_count: f32,
    /// `Bhattacharyya`: `H = sum e^(((s - ms) + (t - mt)) / 2)`. Else 0.
    pub root_cross: f32,
    /// `R = sum e^(s - ms) ((s - ms) - (t - mt))`, over the classes that both have; for the reverse divergence. Else 0.
    pub reverse_difference: f32,
    /// `sum e^(s - ms)` over the classes that the teacher masks or lacks; for the reverse divergence. Else 0.
    pub unseen_mass: f32,
    /// `C = sum e^(s - ms) (s - ms)`, for the student's entropy and with standardised logits. Else 0.
    pub student_moment: f32,
    /// `zh`: `sum e^(h - mh)`, with `h` the logits over the temperature of the hard part; if it has its own. Else 0.
    pub hard_sum: f32,
    /// `X = sum e^(u (t - mt) + v (s - ms))`, for the divergences of powers. Else 0.
    pub power_cross: f32,
    /// `PS = sum e^((u + v) (s - ms))`. Else 0.
    pub student_power: f32,
    /// `PT = sum e^((u + v) (t - mt))`. Else 0.
    pub teacher_power: f32,
    /// `W = sum e^(u (t - mt) + v (s - ms)) ((t - mt) - (s - ms))`. Else 0.
    pub power_difference: f32,
    /// 1 or more if the largest logits of both have the same class, else 0; with metrics.
    pub agreement: f32,
    /// The similarity's sum of the second sweep. Else 0.
    pub similarity_sum: f32,
    /// The divergence's first sum of the second sweep. Else 0.
    pub sweep_first: f32,
    /// The divergence's second sum of the second sweep. Else 0.
    pub sweep_second: f32,
    /// The teacher's logit at the label (not divided by the temperature), for divergences that leave the label out, for
    /// [`Selection::Margin`](crate::Selection::Margin) and with metrics. The
    /// teacher's log-probability of a sampled token, whose other fields of the teacher are 0 or the lowest f32. Else 0.
    pub teacher_label_logit: f32,
    /// `sum e^((y - my) / th)` of the teacher's logits `y` at the temperature `th` of the hard part, for `Nkd`. Else 0.
    pub teacher_hard_sum: f32,
    /// For divergences that leave the label out: `student_max` of the other classes. Beside a teacher that is a list: that of the classes off
    /// the list. Else 0.
    pub rest_student_max: f32,
    /// `student_sum` of the other classes, relative to their maximum. Else 0.
    pub rest_student_sum: f32,
    /// `teacher_max` of the other classes. Beside a list: the logarithm of the teacher's probability off the list; the lowest f32 if there
    /// is none. Else 0.
    pub rest_teacher_max: f32,
    /// `teacher_sum` of the other classes. Beside a list: 1, but for rounding, if the teacher has a probability off it, else 0. Else 0.
    pub rest_teacher_sum: f32,
    /// `difference` of the other classes. Else 0.
    pub rest_difference: f32,
    /// `soft_moment` of the other classes. Else 0.
    pub rest_soft_moment: f32,
    /// `hard_sum` of the other classes. Else 0.
    pub rest_hard_sum: f32,
    /// `teacher_hard_sum` of the other classes. Else 0.
    pub rest_teacher_hard_sum: f32,
    /// `masked_mass` of the other classes. Else 0.
    pub rest_masked_mass: f32,
    /// `B = sum e^(t - mt) (t - mt)`, over classes that the student does not mask; for the teacher's entropy. Else 0.
    pub teacher_moment: f32,
    /// The row's weight, 1 without weights; 0 if it is not finite, and the row is then flagged [`flags::NON_FINITE`].
    pub weight: f32,
    /// The weight of the label's class, if weights of classes multiply the hard part. Else 0.
    pub class_weight: f32,
    /// `zv = sum v e^(t - mt)` with the weights `v` of the classes, over those that the student does not mask, if they multiply the soft
    /// part. Else 0.
    pub weighted_teacher: f32,
    /// `Mv`, the same over the classes that the student masks. If it is above 0, the soft part is infinite.
    pub weighted_masked: f32,
    /// `Sv = sum v e^(t - mt) (s - ms)`, over the classes of `weighted_teacher`. Else 0.
    pub weighted_soft: f32,
    /// `V = sum v`, over the classes that the student does not mask, with label smoothing. Else 0.
    pub weight_sum: f32,
    /// `MV`, the same over the classes that the student masks. If it is above 0, the hard part is infinite.
    pub masked_weight: f32,
    /// `Uv = sum v (s - ms)`, over the classes of `weight_sum`. Else 0.
    pub weighted_offset: f32,
    /// The standard deviation of the student's logits, if they are standardised. Else 0.
    pub student_deviation: f32,
    /// The standard deviation of the teacher's logits, if they are standardised. Else 0.
    pub teacher_deviation: f32,
    /// With soft labels: `sum y`, the sum of the row's. Else 0.
    pub soft_label_sum: f32,
    /// With soft labels: `sum y (s - ms)`. No meaning with [`flags::SOFT_LABEL_MASKED`]. Else 0.
    pub soft_label_moment: f32,
    /// Of a [`Shard`](crate::Shard): its first class. Else 0.
    pub first_class: u32,
    /// Of a [`Shard`](crate::Shard): the number of its classes. Else 0.
    pub shard_classes: u32,
    /// Of a [`Shard`](crate::Shard): all classes, of all shards. Else 0.
    pub all_classes: u32,
}

impl RowStats {
    /// Returns true if the row's label is a class. [`Reduction::Mean`](crate::Reduction::Mean) counts such rows.
    pub(crate) fn counts(&self) -> bool {
        self.flags & (flags::IGNORED | flags::INVALID_LABEL) == 0
    }

    /// Returns true if the row's sums have a meaning: it is neither ignored nor without finite results.
    pub(crate) fn has_sums(&self) -> bool {
        self.flags & (flags::IGNORED | flags::NON_FINITE) == 0
    }

    /// Returns true if the row was observed with a soft label.
    pub(crate) fn has_soft_label(&self) -> bool {
        self.flags & flags::SOFT_LABEL != 0
    }

    /// Returns false for a sampled token. The largest term of a row's sum is 1.
    fn has_teacher_row(&self) -> bool {
        self.teacher_sum > 0.0
    }

    /// The student's temperature in this row.
    pub(crate) fn student_temperature(&self, config: &Config) -> f64 {
        let scale = config.standardization.scale(self.student_deviation);
        f64::from(config.student_temperature) * scale
    }

    /// The teacher's temperature in this row.
    pub(crate) fn teacher_temperature(&self, config: &Config) -> f64 {
        let scale = config.standardization.scale(self.teacher_deviation);
        f64::from(config.teacher_temperature) * scale
    }

    /// `ln sum e^s`, the log-sum-exp of the student's logits over its temperature.
    pub fn student_lse(&self, config: &Config) -> f64 {
        let max = f64::from(self.student_max) / self.student_temperature(config);
        max + f64::from(self.student_sum).ln()
    }

    /// `ln sum e^t`, the log-sum-exp of the teacher's logits over its temperature; NaN for a sampled token, as all that needs the teacher's row.
    pub fn teacher_lse(&self, config: &Config) -> f64 {
        if !self.has_teacher_row() {
            return f64::NAN;
        }
        let max = f64::from(self.teacher_max) / self.teacher_temperature(config);
        max + f64::from(self.teacher_sum).ln()
    }

    /// `KL(q, p) = sum q ln(q / p)` in nats; infinite if the student masks a class that the teacher does not.
    pub fn kl(&self) -> f64 {
        if !self.has_teacher_row() {
            return f64::NAN;
        }
        if self.masked_mass > 0.0 {
            return f64::INFINITY;
        }
        let (zs, zt) = (f64::from(self.student_sum), f64::from(self.teacher_sum));
        (f64::from(self.difference) / zt - zt.ln() + zs.ln()).max(0.0)
    }

    /// The teacher's entropy `- sum q ln q` in nats; NaN if the student masks a class that the teacher does not.
    pub fn teacher_entropy(&self) -> f64 {
        if self.masked_mass > 0.0 {
            return f64::NAN;
        }
        let zt = f64::from(self.teacher_sum);
        zt.ln() - f64::from(self.teacher_moment) / zt
    }
}

/// The results of one row, and the coefficients of its gradient (docs/METHOD.md, section 6).
///
/// `grad_i = student_scale e^(s_i - ms) - teacher_scale e^(t_i - mt) + hard_scale e^(h_i - mh) - label_share [i = label] - uniform_share
/// + first_scale f1_i + second_scale f2_i`, with the terms `f1` and `f2` of the divergence's shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[non_exhaustive]
pub struct Decision {
    /// Loss, KDR, TSSR, flags.
    pub result: RowResult,
    /// Largest student logit.
    pub student_max: f32,
    /// Largest teacher logit.
    pub teacher_max: f32,
    /// The factor of `e^(s - ms)`; for the method `w / sum e^(s - ms)` with `w = scale / student_temperature`.
    pub student_scale: f32,
    /// The factor of `e^(t - mt)`; for the method `w (1 - tssr) / sum e^(t - mt)`.
    pub teacher_scale: f32,
    /// `w tssr (1 - e)`, at the label or times the soft label, and the share of a sampled token
    pub label_share: f32,
    /// `w tssr e / n`, of each of the `n` classes over which the label is smoothed.
    pub uniform_share: f32,
    /// The row's label.
    pub label: i32,
    /// The factor of `e^(h - mh)`, if the hard part has a temperature of its own.
    pub hard_scale: f32,
    /// The factor of `f1`.
    pub first_scale: f32,
    /// The factor of `f2`.
    pub second_scale: f32,
    /// `1 / sum e^(s - ms)`; for `Taid` over the root of its mixture's mass `Xn`.
    pub student_inverse: f32,
    /// `1 / sum e^(t - mt)`; for `Taid` as `student_inverse`.
    pub teacher_inverse: f32,
    /// The gradient at the label, if `owns_label` is 1.
    pub label_gradient: f32,
    /// 1 if the label's class has `label_gradient` instead of the sum of terms.
    pub owns_label: u32,
    /// The standard deviation of the student's logits, if they are standardised. Else 0.
    pub student_deviation: f32,
    /// The standard deviation of the teacher's logits, if they are standardised. Else 0.
    pub teacher_deviation: f32,
}

/// The batch's outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[non_exhaustive]
pub struct Summary {
    /// The reduced loss in nats. NaN if any label is out of range or, with [`NonFinite::Propagate`](crate::NonFinite::Propagate), any row
    /// that counts is non-finite.
    pub loss: f32,
    /// Mean KDR over the rows that are valid, finite and not left out; 0 if there are none.
    pub kdr: f32,
    /// Mean TSSR over the same rows; 0 if there are none.
    pub tssr: f32,
    /// Rows whose label is a class. [`Reduction::Mean`](crate::Reduction::Mean) divides by their number.
    pub valid_rows: u32,
    /// Rows whose label is `ignore_index`.
    pub ignored_rows: u32,
    /// Rows whose label is neither a class nor `ignore_index`.
    pub invalid_labels: u32,
    /// Rows with NaN or `+inf` among their logits, or only `-inf`, and all rows that [`NonFinite::Skip`](crate::NonFinite::Skip) leaves out.
    /// Ignored rows do not count.
    pub non_finite_rows: u32,
    pub(crate) reserved: u32,
    /// Means of the metrics over the rows that `kdr` averages; 0 if they were not requested.
    pub metrics: RowMetrics,
}

/// The gradient `[rows, classes]`, without gaps between rows, in the requested storage type.
#[derive(Clone, Debug, PartialEq)]
pub enum Gradient {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 16-bit IEEE floats.
    F16(Vec<f16>),
    /// 16-bit brain floats.
    Bf16(Vec<bf16>),
}

impl Gradient {
    /// The storage type.
    pub fn storage(&self) -> Storage {
        match self {
            Self::F32(_) => Storage::F32,
            Self::F16(_) => Storage::F16,
            Self::Bf16(_) => Storage::Bf16,
        }
    }

    /// The numbers as f32, copied unless they are f32 already.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Self::F32(v) => v,
            Self::F16(v) => v.into_iter().map(f16::to_f32).collect(),
            Self::Bf16(v) => v.into_iter().map(bf16::to_f32).collect(),
        }
    }
}

/// A row's outcome and its metrics: an item of [`GpuOutputs::row_metrics`](crate::gpu::GpuOutputs::row_metrics), 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[non_exhaustive]
pub struct RowReport {
    /// The row's outcome.
    pub result: RowResult,
    /// The row's metrics.
    pub metrics: RowMetrics,
}

/// The outputs of [`Engine::run`](crate::Engine::run).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Distillation {
    /// The batch's outcome.
    pub summary: Summary,
    /// Each row's outcome if requested, else empty.
    pub rows: Vec<RowResult>,
    /// Each row's metrics if requested, else empty.
    pub metrics: Vec<RowMetrics>,
    /// The gradient with respect to the student's logits, if requested.
    pub gradient: Option<Gradient>,
}

impl Distillation {
    /// The gradient as f32, `[rows, classes]`; empty if it was not requested.
    pub fn into_grad_student_logits(self) -> Vec<f32> {
        self.gradient.map(Gradient::into_f32).unwrap_or_default()
    }
}
