//! The text of a kernel.
//!
//! A prelude of `const` and `alias` declarations states the variant. The kernel's file from `shaders/` follows, expanded by five rules:
//! - `#import name KEY=value ...` inserts `shaders/include/name.wgsl`. Equal lines insert it once. Every occurrence of a KEY is
//!   replaced, also within a word: `load_THIS` becomes `load_student`. WGSL has neither imports nor generic functions.
//! - `$KEY` is replaced by the variant's value: the access mode of inputs, for which WGSL has no constants, or the name of an include.
//! - The lines from `#if condition` to `#end` are kept in variants with that condition. WGSL has no conditional declarations.
//! - The lines from `#unroll` to `#end` are repeated for `$i` from 0 to `vectors_per_lane` - 1. Compilers would keep an array in
//!   memory, but single variables stay in registers. `#unroll condition` drops them in variants without that condition.
//! - The lines from `#moments` to `#end` are repeated for each moment of the variant: `moments.rs` has the keys. `#moments with a factor`
//!   leaves out those without a linear factor, `#moments of the rest` those that are not kept of the classes beside the label,
//!   `#moments with class weights` those without weights of classes, `#moments of a row` those with them. Beside a list, `of a row` and
//!   `of the checked path` keep only the moments of the hard part, as `#moments of the hard part` does.
//!
//! `#if` may stand within the other blocks. They do not nest otherwise.

use super::kernel::Kernel;
use super::source::source_text;
use super::variant::{Access, Variant};
use crate::config::divergences;
use crate::moments::{Factor, Moment};
use crate::rule::{ClassWeights, SweepSum};
use crate::{Selection, Similarity, Standardization, Storage, TeacherTail};

/// The compiler that the text is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// naga. It supports subgroup operations without `enable subgroups;` and rejects that directive.
    #[default]
    Naga,
    /// WGSL as specified (Tint in Chromium).
    Standard,
}

macro_rules! includes {
    ($($name:literal),* $(,)?) => {
        /// The texts of `#import`.
        const INCLUDES: &[(&str, &str)] = &[
            $(($name, source_text!(concat!("../../shaders/include/", $name, ".wgsl")))),*
        ];
    };
}

includes!(
    "accumulate",
    "accumulator",
    "aligned",
    "apply",
    "apply_kept",
    "apply_list",
    "below",
    "bf16",
    "class_weights",
    "complete",
    "count",
    "decide",
    "deviation",
    "f16",
    "invocation",
    "labels",
    "label_apart",
    "list",
    "log_sum",
    "main",
    "masks",
    "merge",
    "metric_bits",
    "metrics",
    "observe",
    "observe_list",
    "params",
    "partial",
    "reduce_subgroup",
    "reduce_workgroup",
    "report",
    "row",
    "rows_f32_element",
    "rows_f32_vec4",
    "rows_half_element",
    "rows_half_vec4",
    "rows_none",
    "shard",
    "similarity",
    "soft_labels",
    "statistics",
    "store_f32_element",
    "store_f32_vec4",
    "store_half_element",
    "store_half_vec4",
    "store_none",
    "student",
    "sums",
    "sweep",
    "sweep_kept",
    "sweep_sums",
    "teacher",
    "temperatures",
    "types",
    "valid",
    "vector",
);

/// The texts of the shapes of the gradient.
const SHAPES: &[(&str, &str)] = &[
    ("plain", source_text!("../../shaders/shapes/plain.wgsl")),
    (
        "log_ratio",
        source_text!("../../shaders/shapes/log_ratio.wgsl"),
    ),
    ("mixture", source_text!("../../shaders/shapes/mixture.wgsl")),
    ("below", source_text!("../../shaders/shapes/below.wgsl")),
    ("power", source_text!("../../shaders/shapes/power.wgsl")),
    ("linear", source_text!("../../shaders/shapes/linear.wgsl")),
];

macro_rules! rule_texts {
    ($(
        $(#[$doc:meta])*
        $variant:ident $({ $($fields:tt)* })? = $name:literal,
        $stem:ident, $shape:ident($($number:expr),*), [$($moment:ident),*], [$($sum:ident),*] $(, $kind:ident)?;
    )*) => {
        /// The texts of the divergences' rules.
        const RULES: &[(&str, &str)] = &[
            $(($name, source_text!(concat!("../../shaders/divergences/", stringify!($stem), ".wgsl")))),*
        ];
    };
}

divergences!(rule_texts);

/// The file of a kernel.
pub(super) fn source(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Softmax => source_text!("../../shaders/softmax.wgsl"),
        Kernel::Observe => source_text!("../../shaders/observe.wgsl"),
        Kernel::SecondSweep => source_text!("../../shaders/second_sweep.wgsl"),
        Kernel::MergeRowStats => source_text!("../../shaders/merge_row_stats.wgsl"),
        Kernel::Decide => source_text!("../../shaders/decide.wgsl"),
        Kernel::Apply => source_text!("../../shaders/apply.wgsl"),
        Kernel::Distill => source_text!("../../shaders/distill.wgsl"),
        Kernel::ValidRows => source_text!("../../shaders/valid_rows.wgsl"),
        Kernel::Summary => source_text!("../../shaders/summary.wgsl"),
    }
}

/// The element type of a matrix's binding.
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
    /// Returns true if two rows of the gradient may share a word: rows of 16-bit numbers that may start within a word.
    fn grad_is_atomic(&self) -> bool {
        let half = matches!(self.gradient, Some(Storage::F16 | Storage::Bf16));
        half && self.access == Access::Element
    }

    /// The width of loads of the teacher's logits. Sampled tokens and lists have a few numbers a row, which start anywhere.
    fn teacher_access(&self) -> Access {
        match self.loss.has_teacher_row() {
            true => self.access,
            false => Access::Element,
        }
    }

    fn prelude(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        line(format!(
            "const WORKGROUP_SIZE: u32 = {}u;",
            self.workgroup_size
        ));
        line(format!("const LANES: u32 = {}u;", self.lanes));
        line(format!(
            "const VECTORS_PER_LANE: u32 = {}u;",
            self.vectors_per_lane
        ));
        if let Some(min) = self.subgroup_min {
            line(format!("const SUBGROUP_MIN: u32 = {min}u;"));
        }
        line(format!(
            "const WRITE_GRAD: bool = {};",
            self.gradient.is_some()
        ));
        line(format!("const ACCUMULATE: bool = {};", self.accumulate));
        line(format!("const SMOOTHING: bool = {};", self.loss.smoothing));
        line(format!(
            "const SMOOTHING_UNMASKED: bool = {};",
            self.loss.smoothing_unmasked
        ));
        line(format!("const IN_PLACE: bool = {};", self.in_place));
        line(format!("const SHARDED: bool = {};", self.sharded));
        let upper = |name: &str| name.to_ascii_uppercase().replace('-', "_");
        for similarity in Similarity::ALL {
            let (name, index) = (upper(similarity.name()), similarity.index());
            line(format!("const {name}: u32 = {index}u;"));
        }
        line(format!(
            "const SIMILARITY: u32 = {};",
            upper(self.loss.similarity.name())
        ));
        for selection in Selection::ALL {
            let (name, index) = (upper(selection.name()), selection.index());
            line(format!("const SELECTION_{name}: u32 = {index}u;"));
        }
        line("const SWEEP_NONE: u32 = 0u;".to_owned());
        for (i, sum) in SweepSum::ALL.into_iter().enumerate() {
            line(format!(
                "const SWEEP_{}: u32 = {}u;",
                upper(sum.name()),
                i + 1
            ));
        }
        let [first, second] = self
            .loss
            .sweep
            .map(|sum| sum.map_or("NONE".to_owned(), |s| upper(s.name())));
        line(format!("const SWEEP_FIRST: u32 = SWEEP_{first};"));
        line(format!("const SWEEP_SECOND: u32 = SWEEP_{second};"));
        line(format!(
            "const SWEEPS_SIMILARITY: bool = {};",
            self.loss.similarity.needs_second_sweep()
        ));
        line(format!(
            "const LABEL_APART: bool = {};",
            self.loss.label_apart
        ));
        line(format!(
            "const TEACHER_LABEL: bool = {};",
            self.loss.teacher_label
        ));
        let listed = self.loss.teacher_list.is_some();
        line(format!("const LISTED: bool = {listed};"));
        if listed {
            let (slots, rows) = (self.list_slots, self.workgroup_size / self.lanes);
            line(format!("const LIST_SLOTS: u32 = {slots}u;"));
            line(format!("const LIST_SHIFT: u32 = {}u;", 32 - slots.ilog2()));
            line(format!("const LIST_TABLE: u32 = {}u;", slots * rows));
        }
        let soft_labels = self.soft_labels.is_some();
        line(format!("const SOFT_LABELS: bool = {soft_labels};"));
        line(format!("const HARD_OWN: bool = {};", self.loss.hard_own));
        line(format!(
            "const KEEP_LOGITS: bool = {};",
            self.loss.keeps_logits()
        ));
        line(format!(
            "const TSSR_ATTACHED: bool = {};",
            self.loss.tssr_attached
        ));
        let offsets = self.loss.moments.has(Moment::StudentOffset);
        let hard = self.loss.moments.has(Moment::HardSum);
        let teacher_hard = self.loss.moments.has(Moment::TeacherHardSum);
        line(format!("const TEACHER_HARD_SUMMED: bool = {teacher_hard};"));
        line(format!("const HARD_SUMMED: bool = {hard};"));
        let reverse = self.loss.moments.has(Moment::ReverseDifference);
        line(format!("const CHECK_EDGES: bool = {offsets};"));
        let checked = reverse || self.loss.masks_joined;
        line(format!("const CHECK_TEACHER_EDGES: bool = {checked};"));
        // The smallest distance of a teacher's maximum that is told apart.
        let lowest = if reverse { "-1e37" } else { "-1e4" };
        line(format!("const LOWEST_DT: f32 = {lowest};"));
        if self.loss.standardized {
            let floor = Standardization::FLOOR;
            line(format!("const DEVIATION_FLOOR: f32 = {floor:e};"));
        }
        line(format!(
            "alias StudentWord = {};",
            word(self.student, self.access)
        ));
        line(format!(
            "alias TeacherWord = {};",
            word(self.teacher, self.teacher_access())
        ));
        if let Some(storage) = self.soft_labels {
            let word = word(storage, self.access);
            line(format!("alias SoftLabelWord = {word};"));
        }
        if let Some(storage) = self.gradient {
            let word = match self.grad_is_atomic() {
                true => "atomic<u32>",
                false => word(storage, self.access),
            };
            line(format!("alias GradWord = {word};"));
        }
        text
    }

    /// The value of a `$KEY`.
    fn value(&self, key: &str) -> String {
        match key {
            "INPUT_ACCESS" => match self.shared_buffers {
                true => "read_write".to_owned(),
                false => "read".to_owned(),
            },
            "STUDENT_ROWS" => include_of("rows", self.student, self.access),
            "TEACHER_ROWS" => include_of("rows", self.teacher, self.teacher_access()),
            "SOFT_LABEL_ROWS" => match self.soft_labels {
                Some(storage) => include_of("rows", storage, self.access),
                None => "rows_none".to_owned(),
            },
            "GRAD_STORE" => match self.gradient {
                Some(storage) => include_of("store", storage, self.access),
                None => "store_none".to_owned(),
            },
            "DIVERGENCE" => format!("divergence {}", self.loss.divergence),
            "SHAPE" => format!("shape {}", self.loss.shape.name()),
            "REDUCE" => match self.subgroup_min {
                Some(_) => "reduce_subgroup".to_owned(),
                None => "reduce_workgroup".to_owned(),
            },
            other => panic!("no shader key `{other}`"),
        }
    }

    /// Returns true if the lines under `#if condition` are part of the text.
    fn holds(&self, condition: &str) -> bool {
        match condition {
            "gradient" => self.gradient.is_some(),
            "plain" => self.loss.is_plain(),
            "shaped" => self.loss.is_shaped(),
            "sampled" => self.loss.sampled,
            "listed" => self.loss.teacher_list.is_some(),
            "not_listed" => self.loss.teacher_list.is_none(),
            "ghost_tail" => self.loss.teacher_list == Some(TeacherTail::Ghost),
            "teacher_known" => !self.loss.sampled,
            "teacher_row" => self.loss.has_teacher_row(),
            "student_alone" => !self.loss.has_teacher_row(),
            "masks_joined" => self.loss.masks_joined && self.loss.has_teacher_row(),
            "cosine" => self.loss.similarity == Similarity::Cosine,
            "bhattacharyya" => self.loss.similarity == Similarity::Bhattacharyya,
            "exp_neg_kl" => self.loss.similarity == Similarity::ExpNegKl,
            "jensen_shannon" => self.loss.similarity == Similarity::JensenShannon,
            "label_apart" => self.loss.label_apart,
            "metrics" => self.loss.metrics,
            "results_alone" => !self.loss.metrics,
            "label_whole" => !self.loss.label_apart,
            "row_whole" => !self.loss.label_apart && self.loss.teacher_list.is_none(),
            "one_tile" => self.one_tile,
            "many_tiles" => !self.one_tile,
            "one_group" => self.one_group,
            "many_groups" => !self.one_group,
            "sharded" => self.sharded,
            "whole_classes" => !self.sharded,
            "standardized" => self.loss.standardized,
            "shared_temperatures" => !self.loss.standardized,
            "student_bound" => !self.in_place,
            "soft_labels" => self.soft_labels.is_some(),
            "hard_labels" => self.soft_labels.is_none(),
            "weighted_rows" => self.row_weights,
            "equal_rows" => !self.row_weights,
            "class_weights" => self.loss.class_weights != ClassWeights::default(),
            "label_equal" => !self.loss.class_weights.label,
            "label_weighted" => self.loss.class_weights.label,
            "smoothing_weighted" => self.loss.class_weights.smoothing,
            "soft_equal" => !self.loss.class_weights.soft,
            "soft_weighted" => self.loss.class_weights.soft,
            "sums_weighted" => self.loss.class_weights.smoothing || self.loss.class_weights.soft,
            "in_place_words" => self.in_place && !self.grad_is_atomic(),
            "in_place_atomics" => self.in_place && self.grad_is_atomic(),
            other => panic!("no shader condition `{other}`"),
        }
    }
}

/// The lines of a text that a variant keeps.
pub(super) fn lines_of_variant<'a>(
    variant: &Variant,
    text: &'a str,
) -> impl Iterator<Item = &'a str> {
    let mut condition = None;
    text.lines().filter(move |line| {
        if let Some(name) = line.strip_prefix("#if ") {
            condition = Some(variant.holds(name));
            return false;
        }
        if *line == "#end" && condition.is_some() {
            condition = None;
            return false;
        }
        condition.unwrap_or(true)
    })
}

/// The text with each `$KEY` replaced by its value.
pub(super) fn substitute(variant: &Variant, text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('$') {
        out.push_str(before);
        let is_key = |c: char| c.is_ascii_uppercase() || c == '_';
        let end = tail.find(|c| !is_key(c)).unwrap_or(tail.len());
        out.push_str(&variant.value(&tail[..end]));
        rest = &tail[end..];
    }
    out + rest
}

/// Appends a text and its imports. `done` has the imports that are already part of `out`.
fn expand(variant: &Variant, text: &str, done: &mut Vec<String>, out: &mut String) {
    let mut lines = lines_of_variant(variant, text);
    while let Some(line) = lines.next() {
        if let Some(condition) = line.strip_prefix("#unroll") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "#end").collect();
            let condition = condition.trim_start();
            let kept = condition.is_empty() || variant.holds(condition);
            for i in 0..if kept { variant.vectors_per_lane } else { 0 } {
                for line in &body {
                    out.push_str(&line.replace("$i", &i.to_string()));
                    out.push('\n');
                }
            }
        } else if let Some(filter) = line.strip_prefix("#moments") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "#end").collect();
            let whole = variant.loss.teacher_list.is_none();
            let wanted = |m: &Moment| match filter.trim_start() {
                "" => true,
                "with a factor" => m.factor() != Factor::One,
                "of the rest" => m.is_of_rest(),
                "of the hard part" => m.is_of_hard_part(),
                "of the checked path" => whole || m.is_of_hard_part(),
                "of a row" => !m.has_class_weights() && (whole || m.is_of_hard_part()),
                "with class weights" => m.has_class_weights(),
                other => panic!("no moments `{other}`"),
            };
            for moment in variant.loss.moments.iter().filter(wanted) {
                for line in &body {
                    out.push_str(&moment.expand(line));
                    out.push('\n');
                }
            }
        } else if let Some(import) = line.strip_prefix("#import ") {
            let import = substitute(variant, import);
            // The same include with other keys gives another text.
            if !done.contains(&import) {
                done.push(import.clone());
                expand(variant, &include(&import), done, out);
            }
        } else {
            out.push_str(&substitute(variant, line));
            out.push('\n');
        }
    }
}

/// The text of `name KEY=value ...`.
fn include(import: &str) -> String {
    let mut words = import.split_whitespace();
    let mut name = words.next().unwrap_or_default();
    let list = match name {
        "divergence" => RULES,
        "shape" => SHAPES,
        _ => INCLUDES,
    };
    if name == "divergence" || name == "shape" {
        name = words.next().unwrap_or_default();
    }
    let found = list.iter().find(|(n, _)| *n == name);
    let (_, text) = found.unwrap_or_else(|| panic!("no include `{name}`"));
    let keys = words.filter_map(|word| word.split_once('='));
    keys.fold((*text).to_owned(), |text, (key, value)| {
        text.replace(key, value)
    })
}

/// The complete WGSL of a kernel. Its entry point is `main`; its bindings, all in group 0, are [`Kernel::bindings`].
pub fn assemble(kernel: Kernel, variant: &Variant, dialect: Dialect) -> String {
    let variant = kernel.canonical(variant);
    let mut out = String::new();
    if dialect == Dialect::Standard && variant.subgroup_min.is_some() {
        out.push_str("enable subgroups;\nrequires subgroup_id;\n");
    }
    out.push_str(&variant.prelude());
    out.push('\n');
    expand(&variant, source(kernel), &mut Vec::new(), &mut out);
    out
}
