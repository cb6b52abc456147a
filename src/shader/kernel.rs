//! The kernels, and the choices that each of them depends on.

use super::loss::LossVariant;
use super::variant::{Access, Variant};
use crate::rule::{ClassWeights, statistics};
use crate::{Storage, TeacherTail};

/// The kernels. Each has a file `shaders/<name>.wgsl` and a function of the same name in [`reference`](crate::reference).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// Temperature softmax.
    Softmax,
    /// Observe: statistics and similarity (KDR) of each row.
    Observe,
    /// Observe rows in segments: the second sweep of the similarities that need one.
    SecondSweep,
    /// Observe rows in segments: statistics and KDR of each row from those of its segments.
    MergeRowStats,
    /// Decide: TSSR, loss and gradient coefficients of each row.
    Decide,
    /// Apply: the gradient of the weighted-target cross-entropy.
    Apply,
    /// Observe, decide and apply in one dispatch.
    Distill,
    /// The number of rows that a mean divides by.
    ValidRows,
    /// Loss, mean KDR, mean TSSR and counts of the batch.
    Summary,
}

impl Kernel {
    /// Every kernel.
    pub const ALL: [Self; 9] = [
        Self::Softmax,
        Self::Observe,
        Self::SecondSweep,
        Self::MergeRowStats,
        Self::Decide,
        Self::Apply,
        Self::Distill,
        Self::ValidRows,
        Self::Summary,
    ];

    /// Its name in snake case, the stem of its file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::Observe => "observe",
            Self::SecondSweep => "second_sweep",
            Self::MergeRowStats => "merge_row_stats",
            Self::Decide => "decide",
            Self::Apply => "apply",
            Self::Distill => "distill",
            Self::ValidRows => "valid_rows",
            Self::Summary => "summary",
        }
    }

    /// Upper bound on the bytes of workgroup memory that this kernel declares in a variant.
    pub fn workgroup_bytes(self, variant: &Variant) -> u32 {
        let v = self.canonical(variant);
        let sums = (6 + v.loss.moments.iter().count() as u32) * 4;
        let partial = if v.loss.metrics { 24 * 4 } else { 12 * 4 };
        let reduced = match (self, v.subgroup_min) {
            // No lanes of a row add anything up.
            (Self::Decide | Self::Apply | Self::ValidRows | Self::Summary, _) => 0,
            (_, Some(min)) => (v.workgroup_size / min).max(1),
            (_, None) => v.workgroup_size,
        };
        let rows = v.workgroup_size / v.lanes;
        let reduced = reduced.saturating_mul(sums + 4);
        reduced
            .saturating_add(rows.saturating_mul(partial))
            .saturating_add(rows.saturating_mul(4 * v.list_slots))
            .saturating_add(16)
    }

    /// Returns true if a slice of the classes has another text than a row.
    fn knows_shards(self) -> bool {
        matches!(
            self,
            Self::Observe | Self::SecondSweep | Self::MergeRowStats | Self::Apply
        )
    }

    /// The choices that change the text of a kernel.
    fn loss_choices(self, loss: LossVariant) -> LossVariant {
        let none = LossVariant::none();
        match self {
            Self::Distill => loss,
            // `RowStats` of single steps always has what its metrics need.
            Self::Observe | Self::SecondSweep | Self::MergeRowStats => LossVariant {
                metrics: loss.metrics && self != Self::SecondSweep,
                // Standardised rows are not cut into segments.
                standardized: loss.standardized && self == Self::Observe,
                similarity: loss.similarity,
                moments: loss.moments.with(statistics(loss.sampled)),
                sweep: loss.sweep,
                masks_joined: loss.masks_joined && self != Self::MergeRowStats,
                label_apart: loss.label_apart,
                teacher_label: loss.teacher_label && self == Self::Observe,
                sampled: loss.sampled,
                // The merge sweeps over the classes of a list.
                teacher_list: loss.teacher_list.filter(|_| self != Self::SecondSweep),
                class_weights: match self {
                    Self::Observe => loss.class_weights,
                    // The statistics of a segment have the weight of the label.
                    Self::MergeRowStats => ClassWeights {
                        label: loss.class_weights.label,
                        ..none.class_weights
                    },
                    _ => none.class_weights,
                },
                ..none
            },
            Self::Decide => LossVariant {
                similarity: match loss.tssr_attached {
                    true => loss.similarity,
                    false => none.similarity,
                },
                shape: none.shape,
                teacher_list: none.teacher_list,
                moments: none.moments,
                sweep: none.sweep,
                teacher_label: none.teacher_label,
                masks_joined: none.masks_joined,
                ..loss
            },
            Self::Apply => LossVariant {
                shape: loss.shape,
                hard_own: loss.hard_own,
                label_apart: loss.label_apart,
                smoothing_unmasked: loss.smoothing_unmasked,
                sampled: loss.sampled,
                // The statistics have the tail.
                teacher_list: loss.teacher_list.map(|_| TeacherTail::default()),
                class_weights: ClassWeights {
                    label: false,
                    ..loss.class_weights
                },
                standardized: loss.standardized,
                masks_joined: loss.masks_joined,
                ..none
            },
            // Both access partial summaries, which metrics make longer.
            Self::Summary | Self::ValidRows => LossVariant {
                metrics: loss.metrics,
                sampled: loss.metrics && loss.sampled,
                ..none
            },
            Self::Softmax => none,
        }
    }

    /// Sets every choice that does not change this kernel to its default, so that equal texts share a pipeline.
    pub fn canonical(self, variant: &Variant) -> Variant {
        let v = Variant {
            loss: self.loss_choices(variant.loss),
            one_tile: variant.one_tile && self == Self::Distill,
            one_group: variant.one_group && self == Self::Distill,
            sharded: variant.sharded && self.knows_shards(),
            list_slots: match self {
                Self::Distill | Self::Observe | Self::MergeRowStats | Self::Apply => {
                    variant.list_slots
                }
                _ => 0,
            },
            ..*variant
        };
        let plain = Variant {
            student: Storage::F32,
            teacher: Storage::F32,
            gradient: None,
            access: Access::Element,
            accumulate: false,
            shared_buffers: false,
            in_place: false,
            soft_labels: None,
            row_weights: false,
            vectors_per_lane: 1,
            subgroup_min: None,
            ..v
        };
        match self {
            Self::Softmax => Variant {
                teacher: Storage::F32,
                in_place: false,
                accumulate: false,
                soft_labels: None,
                row_weights: false,
                vectors_per_lane: 1,
                ..v
            },
            Self::Observe => Variant {
                gradient: None,
                in_place: false,
                accumulate: false,
                ..v
            },
            Self::SecondSweep => Variant {
                gradient: None,
                in_place: false,
                accumulate: false,
                soft_labels: None,
                row_weights: false,
                vectors_per_lane: 1,
                ..v
            },
            Self::MergeRowStats => {
                let merging = Variant {
                    subgroup_min: v.subgroup_min,
                    ..plain
                };
                match v.loss.teacher_list {
                    None => merging,
                    // It reads the list, and the student's logits of its classes.
                    Some(_) => Variant {
                        student: v.student,
                        teacher: v.teacher,
                        access: v.access,
                        shared_buffers: v.shared_buffers,
                        ..merging
                    },
                }
            }
            Self::Apply => Variant {
                teacher: match v.loss.sampled {
                    true => Storage::F32,
                    false => v.teacher,
                },
                row_weights: false,
                subgroup_min: None,
                ..v
            },
            Self::Distill => v,
            Self::ValidRows => Variant {
                shared_buffers: v.shared_buffers,
                ..plain
            },
            Self::Decide => Variant {
                soft_labels: v.soft_labels.map(|_| Storage::F32),
                ..plain
            },
            Self::Summary => plain,
        }
    }
}
