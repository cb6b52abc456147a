//! The text of a kernel.
//!
//! A kernel's file from `shaders/` is expanded by three rules and no others: `#import name KEY=value ...` pastes
//! `shaders/include/name.wgsl`, each text once, with the keys replaced in it; `$KEY` is replaced by the variant's value;
//! the lines from `#unroll` to `#end` are repeated for `$i` from 0 to `block` - 1.
//! In front stands a prelude of `const`s that make the variant.

use std::collections::HashSet;
use std::fmt::Write;

use super::{Access, Dialect, Kernel, Variant};
use crate::{Similarity, Storage};

macro_rules! includes {
    ($($name:literal),* $(,)?) => {
        /// The texts that `#import` finds.
        const INCLUDES: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../shaders/include/", $name, ".wgsl")))),*
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
    "log_sum",
    "main",
    "merge",
    "observe",
    "params",
    "partial",
    "invocation",
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
    fn source(self) -> &'static str {
        match self {
            Self::Softmax => include_str!("../../shaders/softmax.wgsl"),
            Self::Observe => include_str!("../../shaders/observe.wgsl"),
            Self::SecondSweep => include_str!("../../shaders/second_sweep.wgsl"),
            Self::MergeRowStats => include_str!("../../shaders/merge_row_stats.wgsl"),
            Self::Decide => include_str!("../../shaders/decide.wgsl"),
            Self::Apply => include_str!("../../shaders/apply.wgsl"),
            Self::Distill => include_str!("../../shaders/distill.wgsl"),
            Self::ValidRows => include_str!("../../shaders/valid_rows.wgsl"),
            Self::Summary => include_str!("../../shaders/summary.wgsl"),
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

/// The declaration of logits `[rows, stride]`, and the function by which their words are read.
fn logits_binding(index: u32, this: &str, access: &str, word: &str) -> String {
    format!(
        "@group(0) @binding({index}) var<storage, {access}> {this}_logits: array<{word}>;  // [rows, {this}_stride]
fn {this}_word(at: u32) -> {word} {{ return {this}_logits[at]; }}"
    )
}

impl Variant {
    /// Rows of 16-bit numbers that start anywhere share words with each other.
    fn grad_is_atomic(&self) -> bool {
        let half = matches!(self.gradient, Some(Storage::F16 | Storage::Bf16));
        half && self.access == Access::Element
    }

    fn prelude(&self) -> String {
        let mut text = String::new();
        let mut constant = |name: &str, kind: &str, value: String| {
            writeln!(text, "const {name}: {kind} = {value};").expect("writing to a string");
        };
        constant("WORKGROUP_SIZE", "u32", format!("{}u", self.workgroup_size));
        constant("LANES", "u32", format!("{}u", self.lanes));
        constant(
            "VECTORS_PER_LANE",
            "u32",
            format!("{}u", self.vectors_per_lane),
        );
        if let Some(min) = self.subgroup_min {
            constant("SUBGROUP_MIN", "u32", format!("{min}u"));
        }
        constant("WRITE_GRAD", "bool", self.gradient.is_some().to_string());
        constant("ACCUMULATE", "bool", self.accumulate.to_string());
        constant("SMOOTHING", "bool", self.smoothing.to_string());
        constant("IN_PLACE", "bool", self.in_place.to_string());
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
            "LABELS_ACCESS" => input.to_owned(),
            "STUDENT_BINDING" if self.in_place => {
                let word = word(self.student, self.access);
                let at = match self.grad_is_atomic() {
                    true => "atomicLoad(&grad_student_logits[at])",
                    false => "grad_student_logits[at]",
                };
                format!("fn student_word(at: u32) -> {word} {{ return {at}; }}  // in place")
            }
            "STUDENT_BINDING" => {
                logits_binding(1, "student", input, word(self.student, self.access))
            }
            "TEACHER_BINDING" => {
                logits_binding(2, "teacher", input, word(self.teacher, self.access))
            }
            "STUDENT_ROWS" => include_of("rows", self.student, self.access),
            "TEACHER_ROWS" => include_of("rows", self.teacher, self.access),
            "GRAD_STORE" => match self.gradient {
                Some(storage) => include_of("store", storage, self.access),
                None => "store_none".to_owned(),
            },
            "GRAD_BINDING" => match self.gradient {
                Some(storage) => {
                    let word = match self.grad_is_atomic() {
                        true => "atomic<u32>",
                        false => word(storage, self.access),
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
        for i in 0..variant.vectors_per_lane {
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
        out.push_str("enable subgroups;\nrequires subgroup_id;\n");
    }
    out.push_str(&variant.prelude());
    out.push('\n');
    expand(&variant, kernel.source(), &mut HashSet::new(), &mut out);
    out
}
