//! The text door: assembled WGSL, its bindings and its parameters, for hosts that bring another wgpu or none.
//!
//! A kernel's file from `shaders/` is expanded by three rules and no others: `#import name KEY=value ...` pastes
//! `shaders/include/name.wgsl`, each text once, with the keys replaced in it; `$KEY` is replaced by the variant's value;
//! the lines from `#unroll` to `#end` are repeated for `$i` from 0 to [`Variant::block`] - 1.
//! In front stands a prelude of `const`s that make the variant.

use std::collections::HashSet;
use std::fmt::Write;

pub use crate::params::Params;
use crate::{Similarity, Storage};

/// The kernels, one file and one reference twin each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Temperature softmax.
    Softmax,
    /// Observe: statistics and similarity (KDR) of each row.
    RowStats,
    /// Observe, where rows are cut into pieces: the second sweep of the similarities that need one.
    RowSimilarity,
    /// Observe, where rows are cut into pieces: statistics and KDR of each row from those of its pieces.
    MergeRowStats,
    /// Decide: TSSR, loss and gradient coefficients of each row.
    Select,
    /// Apply: the gradient of the weighted-target cross-entropy.
    WeightedCrossEntropy,
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
    /// Invocations of a workgroup, a power of two.
    pub workgroup_size: u32,
    /// Invocations that own a row, a power of two up to `workgroup_size`.
    pub lanes: u32,
    /// Units of four classes that an invocation handles at a time, from 1 to [`MOST_BLOCK`]. The last of a row stay in its registers.
    pub block: u32,
    /// The device's smallest subgroup, to use subgroup operations; `workgroup_size` must be a multiple of its largest one.
    pub subgroup_min: Option<u32>,
}

/// The largest [`Variant::block`].
pub const MOST_BLOCK: u32 = 16;

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

macro_rules! includes {
    ($($name:literal),* $(,)?) => {
        /// The texts that `#import` finds.
        const INCLUDES: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../shaders/include/", $name, ".wgsl")))),*
        ];
    };
}

includes!(
    "accumulate",
    "apply",
    "apply_kept",
    "bf16",
    "complete",
    "count",
    "decide",
    "f16",
    "main",
    "merge",
    "observe",
    "params",
    "partial",
    "place",
    "reduce_subgroup",
    "reduce_workgroup",
    "rows_f32_element",
    "rows_f32_vec4",
    "rows_half_element",
    "rows_half_vec4",
    "similarity",
    "statistics",
    "store_f32_element",
    "store_f32_vec4",
    "store_half_element",
    "store_half_vec4",
    "store_none",
    "sums",
    "sweep",
    "sweep_kept",
    "types",
);

impl Kernel {
    /// Every kernel.
    pub const ALL: [Self; 9] = [
        Self::Softmax,
        Self::RowStats,
        Self::RowSimilarity,
        Self::MergeRowStats,
        Self::Select,
        Self::WeightedCrossEntropy,
        Self::Distill,
        Self::ValidRows,
        Self::Summary,
    ];

    /// The stem of its file, of its reference twin and of its cases.
    pub fn name(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::RowStats => "row_stats",
            Self::RowSimilarity => "row_similarity",
            Self::MergeRowStats => "merge_row_stats",
            Self::Select => "select",
            Self::WeightedCrossEntropy => "weighted_cross_entropy",
            Self::Distill => "distill",
            Self::ValidRows => "valid_rows",
            Self::Summary => "summary",
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::Softmax => include_str!("../shaders/softmax.wgsl"),
            Self::RowStats => include_str!("../shaders/row_stats.wgsl"),
            Self::RowSimilarity => include_str!("../shaders/row_similarity.wgsl"),
            Self::MergeRowStats => include_str!("../shaders/merge_row_stats.wgsl"),
            Self::Select => include_str!("../shaders/select.wgsl"),
            Self::WeightedCrossEntropy => include_str!("../shaders/weighted_cross_entropy.wgsl"),
            Self::Distill => include_str!("../shaders/distill.wgsl"),
            Self::ValidRows => include_str!("../shaders/valid_rows.wgsl"),
            Self::Summary => include_str!("../shaders/summary.wgsl"),
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
        let student = (1, "student_logits", input);
        let teacher = (2, "teacher_logits", input);
        let labels = (3, "labels", input);
        let mut list = vec![(0, "params", Uniform)];
        match self {
            Self::Softmax => list.push(student),
            Self::RowStats => list.extend([
                student,
                teacher,
                labels,
                (5, "row_stats", ReadWrite),
                (6, "partials", ReadWrite),
            ]),
            Self::RowSimilarity => list.extend([
                student,
                teacher,
                (5, "piece_stats", Read),
                (8, "swept", ReadWrite),
            ]),
            Self::MergeRowStats => list.extend([
                (5, "piece_stats", Read),
                (6, "partials", ReadWrite),
                (7, "swept", Read),
                (8, "row_stats", ReadWrite),
            ]),
            Self::Select => list.extend([
                (5, "row_stats", Read),
                (6, "partials", ReadWrite),
                (7, "observed", Read),
                (8, "decisions", ReadWrite),
                (9, "row_results", ReadWrite),
            ]),
            Self::WeightedCrossEntropy => list.extend([student, teacher, (8, "decisions", Read)]),
            Self::Distill => list.extend([
                student,
                teacher,
                labels,
                (5, "row_results", ReadWrite),
                (6, "partials", ReadWrite),
                (7, "valid_rows", Read),
            ]),
            Self::ValidRows => list.extend([labels, (7, "valid_rows", ReadWrite)]),
            Self::Summary => list.extend([(6, "partials", Read), (7, "summary", ReadWrite)]),
        }
        if matches!(
            self,
            Self::Softmax | Self::WeightedCrossEntropy | Self::Distill
        ) {
            list.extend(gradient);
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
            workgroup_size: variant.workgroup_size,
            lanes: variant.lanes,
            block: 1,
            subgroup_min: None,
        };
        let v = *variant;
        match self {
            Self::Softmax => Variant {
                teacher: Storage::F32,
                similarity: Similarity::Cosine,
                smoothing: false,
                accumulate: false,
                block: 1,
                ..v
            },
            Self::RowStats => Variant {
                gradient: None,
                accumulate: false,
                ..v
            },
            Self::RowSimilarity => Variant {
                gradient: None,
                accumulate: false,
                block: 1,
                ..v
            },
            Self::MergeRowStats => Variant {
                similarity: v.similarity,
                smoothing: v.smoothing,
                subgroup_min: v.subgroup_min,
                ..plain
            },
            Self::Select => Variant {
                smoothing: v.smoothing,
                ..plain
            },
            Self::WeightedCrossEntropy => Variant {
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

fn word(storage: Storage, access: Access) -> &'static str {
    match (storage, access) {
        (Storage::F32, Access::Vec4) => "vec4<u32>",
        (_, Access::Vec4) => "vec2<u32>",
        (_, Access::Element) => "u32",
    }
}

fn include_of(stem: &str, storage: Storage, access: Access) -> String {
    let access = match access {
        Access::Vec4 => "vec4",
        Access::Element => "element",
    };
    match storage {
        Storage::F32 => format!("{stem}_f32_{access}"),
        Storage::F16 | Storage::Bf16 => {
            format!("{stem}_half_{access} HALF={}", storage.name())
        }
    }
}

impl Variant {
    fn prelude(&self) -> String {
        let mut text = String::new();
        let mut constant = |name: &str, kind: &str, value: String| {
            writeln!(text, "const {name}: {kind} = {value};").expect("writing to a string");
        };
        constant("WORKGROUP_SIZE", "u32", format!("{}u", self.workgroup_size));
        constant("LANES", "u32", format!("{}u", self.lanes));
        constant("BLOCK", "u32", format!("{}u", self.block));
        if let Some(min) = self.subgroup_min {
            constant("SUBGROUP_MIN", "u32", format!("{min}u"));
        }
        constant("WRITE_GRAD", "bool", self.gradient.is_some().to_string());
        constant("ACCUMULATE", "bool", self.accumulate.to_string());
        constant("SMOOTHING", "bool", self.smoothing.to_string());
        for (i, similarity) in Similarity::ALL.into_iter().enumerate() {
            let name = similarity.name().to_uppercase().replace('-', "_");
            constant(&name, "u32", format!("{i}u"));
        }
        let at = Similarity::ALL.iter().position(|s| *s == self.similarity);
        let at = at.expect("ALL holds every similarity");
        constant("SIMILARITY", "u32", format!("{at}u"));
        text
    }

    fn value(&self, key: &str) -> Option<String> {
        let input = if self.shared_buffers {
            "read_write"
        } else {
            "read"
        };
        Some(match key {
            "STUDENT_ACCESS" | "TEACHER_ACCESS" | "LABELS_ACCESS" => input.to_owned(),
            "STUDENT_WORD" => word(self.student, self.access).to_owned(),
            "TEACHER_WORD" => word(self.teacher, self.access).to_owned(),
            "STUDENT_ROWS" => include_of("rows", self.student, self.access),
            "TEACHER_ROWS" => include_of("rows", self.teacher, self.access),
            "GRAD_STORE" => match self.gradient {
                Some(storage) => include_of("store", storage, self.access),
                None => "store_none".to_owned(),
            },
            "GRAD_BINDING" => match self.gradient {
                Some(storage) => {
                    let word = match (storage, self.access) {
                        (Storage::F16 | Storage::Bf16, Access::Element) => "atomic<u32>",
                        _ => word(storage, self.access),
                    };
                    format!(
                        "@group(0) @binding(4) var<storage, read_write> grad_student_logits: array<{word}>;  // [rows, grad_stride]"
                    )
                }
                None => String::new(),
            },
            "REDUCE" => match self.subgroup_min {
                Some(_) => "reduce_subgroup".to_owned(),
                None => "reduce_workgroup".to_owned(),
            },
            _ => return None,
        })
    }

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

/// Replaces whole words; `keys` are few and texts short.
fn replace_words(text: &str, keys: &[(&str, &str)]) -> String {
    let mut out = text.to_owned();
    for (key, value) in keys {
        out = out.replace(key, value);
    }
    out
}

fn substitute(variant: &Variant, line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let is_key = |c: char| !(c.is_ascii_uppercase() || c == '_');
        let end = tail.find(is_key).unwrap_or(tail.len());
        let key = &tail[..end];
        let value = variant.value(key);
        out.push_str(&value.unwrap_or_else(|| panic!("no shader key `{key}`")));
        rest = &tail[end..];
    }
    out + rest
}

/// The text with every passage from `#unroll` to `#end` repeated.
fn unroll(variant: &Variant, text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once("#unroll\n") {
        let (body, after) = tail.split_once("#end\n").expect("#unroll has its #end");
        out.push_str(before);
        for i in 0..variant.block {
            out.push_str(&body.replace("$i", &i.to_string()));
        }
        rest = after;
    }
    out + rest
}

fn expand(variant: &Variant, text: &str, done: &mut HashSet<String>, out: &mut String) {
    for line in unroll(variant, text).lines() {
        let line = substitute(variant, line);
        let Some(import) = line.strip_prefix("#import ") else {
            out.push_str(&line);
            out.push('\n');
            continue;
        };
        // The same include with other keys is another text.
        if !done.insert(import.to_owned()) {
            continue;
        }
        let mut words = import.split_whitespace();
        let name = words.next().unwrap_or_default();
        let found = INCLUDES.iter().find(|(n, _)| *n == name);
        let (_, body) = found.unwrap_or_else(|| panic!("no include `{name}`"));
        let keys: Vec<(&str, &str)> = words.filter_map(|w| w.split_once('=')).collect();
        expand(variant, &replace_words(body, &keys), done, out);
    }
}

/// The complete WGSL of a kernel. Its entry point is `main`, its bindings are [`Kernel::bindings`], in group 0.
pub fn assemble(kernel: Kernel, variant: &Variant, dialect: Dialect) -> String {
    let variant = kernel.canonical(variant);
    let mut out = String::new();
    if dialect == Dialect::Standard && variant.subgroup_min.is_some() {
        out.push_str("enable subgroups;\n");
    }
    out.push_str(&variant.prelude());
    out.push('\n');
    expand(&variant, kernel.source(), &mut HashSet::new(), &mut out);
    out
}
