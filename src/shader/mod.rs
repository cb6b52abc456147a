//! The text door: assembled WGSL, its bindings and its parameters, for hosts that bring another wgpu or none.
//!
//! [`assemble`] makes the text of a kernel in a variant; which variant, and what is bound, a [`Plan`](crate::plan::Plan) says.

mod text;

pub use text::assemble;

pub use crate::params::Params;
use crate::{Similarity, Storage};

/// The kernels, one file and one reference twin each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Temperature softmax.
    Softmax,
    /// Observe: statistics and similarity (KDR) of each row.
    Observe,
    /// Observe, where rows are cut into segments: the second sweep of the similarities that need one.
    SecondSweep,
    /// Observe, where rows are cut into segments: statistics and KDR of each row from those of its segments.
    MergeRowStats,
    /// Decide: TSSR, loss and gradient coefficients of each row.
    Decide,
    /// Apply: the gradient of the weighted-target cross-entropy.
    Apply,
    /// Observe, decide and apply in one dispatch.
    Distill,
    /// How many rows a mean divides by.
    ValidRows,
    /// Loss, mean KDR, mean TSSR and counts of the batch.
    Summary,
}

/// How rows are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Four elements at a time: every row of every matrix starts at a multiple of four elements.
    Vec4,
    /// One at a time: rows start anywhere.
    Element,
}

/// What of a kernel is fixed when its pipeline is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// How the student's logits are stored.
    pub student: Storage,
    /// How the teacher's logits are stored.
    pub teacher: Storage,
    /// How the gradient is stored, if there is one.
    pub gradient: Option<Storage>,
    /// How rows are read and written.
    pub access: Access,
    /// How KDR is measured.
    pub similarity: Similarity,
    /// Whether the label is smoothed.
    pub smoothing: bool,
    /// Whether the gradient is added to what is there.
    pub accumulate: bool,
    /// Whether inputs are bound `read_write`: needed where an output lies in the same buffer.
    pub shared_buffers: bool,
    /// Whether the gradient takes the place of the student's logits, which are then read by its binding: two bindings of the same
    /// bytes may be taken for different ones by a compiler.
    pub in_place: bool,
    /// Invocations of a workgroup, a power of two.
    pub workgroup_size: u32,
    /// Invocations that own a row, a power of two up to `workgroup_size`.
    pub lanes: u32,
    /// Units of four classes that an invocation handles at a time, from 1 to [`MAX_VECTORS_PER_LANE`]. The last of a row stay in its registers.
    pub vectors_per_lane: u32,
    /// The device's smallest subgroup, to use subgroup operations; `workgroup_size` must be a multiple of its largest one.
    pub subgroup_min: Option<u32>,
}

/// The largest [`Variant::block`].
pub const MAX_VECTORS_PER_LANE: u32 = 16;

/// The kind of a binding in group 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindingKind {
    /// [`Params`].
    Uniform,
    /// A storage buffer that is read.
    Read,
    /// A storage buffer that is written, or must be bound like one.
    ReadWrite,
}

/// One binding of a kernel, in group 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// Its number.
    pub index: u32,
    /// Its name in the shader.
    pub name: &'static str,
    /// How it is bound.
    pub kind: BindingKind,
}

/// What the text is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// naga, which knows subgroups without being told and rejects `enable subgroups;`.
    #[default]
    Naga,
    /// WGSL as specified (Tint in Chromium).
    Standard,
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

    /// The stem of its file, of its reference twin and of its cases.
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

    /// The bindings of group 0 in this variant. The entry point is `main`.
    pub fn bindings(self, variant: &Variant) -> Vec<Binding> {
        use BindingKind::{Read, ReadWrite, Uniform};
        let input = if variant.shared_buffers {
            ReadWrite
        } else {
            Read
        };
        let gradient = variant
            .gradient
            .map(|_| (4, "grad_student_logits", ReadWrite));
        let student = (!variant.in_place).then_some((1, "student_logits", input));
        let teacher = (2, "teacher_logits", input);
        let labels = (3, "labels", input);
        let mut list = vec![(0, "params", Uniform)];
        match self {
            Self::Softmax => {}
            Self::Observe => list.extend([
                teacher,
                labels,
                (5, "row_stats", ReadWrite),
                (6, "partials", ReadWrite),
            ]),
            Self::SecondSweep => list.extend([
                teacher,
                (5, "segment_stats", Read),
                (8, "similarity_sums", ReadWrite),
            ]),
            Self::MergeRowStats => list.extend([
                (5, "segment_stats", Read),
                (6, "partials", ReadWrite),
                (7, "similarity_sums", Read),
                (8, "row_stats", ReadWrite),
            ]),
            Self::Decide => list.extend([
                (5, "row_stats", Read),
                (6, "partials", ReadWrite),
                (7, "stats_summary", Read),
                (8, "decisions", ReadWrite),
                (9, "row_results", ReadWrite),
            ]),
            Self::Apply => list.extend([teacher, (8, "decisions", Read)]),
            Self::Distill => list.extend([
                teacher,
                labels,
                (5, "row_results", ReadWrite),
                (6, "partials", ReadWrite),
                (7, "valid_rows", Read),
            ]),
            Self::ValidRows => list.extend([labels, (7, "valid_rows", ReadWrite)]),
            Self::Summary => list.extend([(6, "partials", Read), (7, "summary", ReadWrite)]),
        }
        if matches!(self, Self::Softmax | Self::Apply | Self::Distill) {
            list.extend(gradient);
        }
        if matches!(
            self,
            Self::Softmax | Self::Observe | Self::SecondSweep | Self::Apply | Self::Distill
        ) {
            list.extend(student);
        }
        list.sort_by_key(|&(index, ..)| index);
        let binding = |(index, name, kind)| Binding { index, name, kind };
        list.into_iter().map(binding).collect()
    }

    /// The variant with everything that this kernel does not look at set to a default, so that equal texts share a pipeline.
    pub fn canonical(self, variant: &Variant) -> Variant {
        let plain = Variant {
            student: Storage::F32,
            teacher: Storage::F32,
            gradient: None,
            access: Access::Element,
            similarity: Similarity::Cosine,
            smoothing: false,
            accumulate: false,
            shared_buffers: false,
            in_place: false,
            workgroup_size: variant.workgroup_size,
            lanes: variant.lanes,
            vectors_per_lane: 1,
            subgroup_min: None,
        };
        let v = *variant;
        match self {
            Self::Softmax => Variant {
                teacher: Storage::F32,
                in_place: false,
                similarity: Similarity::Cosine,
                smoothing: false,
                accumulate: false,
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
                vectors_per_lane: 1,
                ..v
            },
            Self::MergeRowStats => Variant {
                similarity: v.similarity,
                smoothing: v.smoothing,
                subgroup_min: v.subgroup_min,
                ..plain
            },
            Self::Decide => Variant {
                smoothing: v.smoothing,
                ..plain
            },
            Self::Apply => Variant {
                similarity: Similarity::Cosine,
                smoothing: false,
                subgroup_min: None,
                ..v
            },
            Self::Distill => v,
            Self::ValidRows => Variant {
                shared_buffers: v.shared_buffers,
                ..plain
            },
            Self::Summary => plain,
        }
    }
}

impl Variant {
    /// Bytes of workgroup memory that a kernel of this variant declares, at most.
    pub fn workgroup_bytes(&self) -> u32 {
        const SUMS: u32 = 13 * 4;
        const PARTIAL: u32 = 12 * 4;
        let meeting = match self.subgroup_min {
            Some(min) => (self.workgroup_size / min).max(1),
            None => self.workgroup_size,
        };
        let leaders = self.workgroup_size / self.lanes;
        let meeting = meeting.saturating_mul(SUMS + 4);
        meeting
            .saturating_add(leaders.saturating_mul(PARTIAL))
            .saturating_add(16)
    }
}
