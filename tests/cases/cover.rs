//! A cover of pairs: cases of the table that contain every pair of values that some case of the table contains.
//!
//! A driver compiles a case's kernels far slower than it runs them, and most faults depend on at most two choices.

use std::collections::HashMap;

use super::case::{Case, TeacherList, Weights};
use super::inputs::Kind;
use super::table::all;
use wgpu_distill::{GradWrite, Scope, Selection};

/// Upper bounds of the ranges of row lengths: one class, one vector, one subgroup and so on. Lengths within a range count as equal.
const ROW_LENGTHS: [usize; 7] = [1, 4, 32, 64, 256, 1024, 4096];
/// Upper bounds of the ranges of row counts.
const ROW_COUNTS: [usize; 3] = [1, 16, 4096];

fn class_of(value: usize, bounds: &[usize]) -> String {
    match bounds.iter().find(|bound| value <= **bound) {
        Some(bound) => format!("<={bound}"),
        None => "more".to_owned(),
    }
}

/// The alignment of the elements before the first row: none, whole vectors, or any number.
fn alignment(elements: [usize; 3]) -> &'static str {
    match elements {
        [0, 0, 0] => "none",
        all if all.iter().all(|n| n.is_multiple_of(4)) => "vectors",
        all if all.iter().all(|n| n.is_multiple_of(2)) => "words of 16-bit numbers",
        _ => "odd",
    }
}

/// The name of a value without its numbers: `Given(0.375)` is `Given`.
fn variant(value: impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split(['(', ' ', '{'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The dimensions of the table with the value of a case in each.
pub fn choices(case: &Case) -> Vec<(&'static str, String)> {
    let config = &case.config;
    let [student, teacher, gradient] = case.storage.map(|s| s.name().to_owned());
    let write = match (case.in_place, config.grad_write) {
        (true, _) => "in place",
        (_, GradWrite::Accumulate) => "accumulate",
        _ => "overwrite",
    };
    let temperatures = [config.student_temperature, config.teacher_temperature];
    let kind = match case.kind {
        Kind::Offset(offset) => format!("offset of 1e{:.0}", offset.abs().log10()),
        other => variant(other),
    };
    let selection = match config.selection {
        Selection::Fixed(w) => format!("fixed:{w}"),
        other => variant(other),
    };
    let scope = match config.scope {
        Scope::Given(_) => "given".to_owned(),
        other => variant(other),
    };
    let weights = [config.soft_weight, config.hard_weight].map(|weight| match weight {
        0.0 => "0",
        1.0 => "1",
        _ => "other",
    });
    let teacher_list = match case.teacher_list {
        TeacherList::None => "none".to_owned(),
        of => format!("{of:?} {:?}", config.teacher_tail),
    };
    let class_weights = match case.class_weights {
        Weights::None => "none".to_owned(),
        of => format!("{of:?} {:?}", config.class_weighting),
    };
    vec![
        ("divergence", variant(config.divergence)),
        ("hard temperature", variant(config.hard_temperature)),
        ("weights", weights.join(" and ")),
        ("z-loss", (config.z_loss > 0.0).to_string()),
        ("standardization", variant(config.standardization)),
        ("TSSR", variant(config.tssr_gradient)),
        ("similarity", variant(config.similarity)),
        ("selection", selection),
        ("scope", scope),
        ("reduction", variant(config.reduction)),
        ("student storage", student),
        ("teacher storage", teacher),
        ("gradient storage", gradient),
        ("kind of logits", kind),
        ("row length", class_of(case.classes, &ROW_LENGTHS)),
        (
            "row length by vectors",
            case.classes.is_multiple_of(4).to_string(),
        ),
        ("rows", class_of(case.rows, &ROW_COUNTS)),
        ("gaps", alignment(case.gaps).to_owned()),
        ("offsets", alignment(case.offsets).to_owned()),
        ("gradient", write.to_owned()),
        ("ignored rows", variant(case.ignores)),
        ("labels out of range", case.bad_labels.to_string()),
        ("metrics", case.metrics.to_string()),
        ("soft labels", variant(case.soft_labels)),
        ("teacher's list", teacher_list),
        ("row weights", variant(case.weights)),
        ("class weights", class_weights),
        ("masked classes", variant(config.masked_classes)),
        ("rows that are not finite", variant(config.non_finite)),
        ("smoothing", (config.label_smoothing > 0.0).to_string()),
        (
            "temperatures",
            temperatures
                .map(|t| t != 1.0)
                .map(u8::from)
                .map(|t| t.to_string())
                .concat(),
        ),
        ("scaling", variant(config.temperature_scaling)),
        (
            "teacher's classes",
            variant(case.teacher_classes.cmp(&case.classes)),
        ),
    ]
}

/// A pair of values in two dimensions.
pub type Pair = ((&'static str, String), (&'static str, String));

pub fn pairs(case: &Case) -> Vec<Pair> {
    let choices = choices(case);
    let mut list = Vec::new();
    for (i, a) in choices.iter().enumerate() {
        list.extend(choices[i + 1..].iter().map(|b| (a.clone(), b.clone())));
    }
    list
}

/// The cover, chosen greedily: the case with the most missing pairs, and the smallest of several with equally many.
pub fn cover() -> Vec<Case> {
    cover_of(all(), pairs)
}

/// The same for other cases and for a part of the pairs.
pub fn cover_of(table: Vec<Case>, pairs: impl Fn(&Case) -> Vec<Pair>) -> Vec<Case> {
    let mut ids = HashMap::new();
    let of_case: Vec<Vec<usize>> = table
        .iter()
        .map(|case| {
            let id = |pair| {
                let next = ids.len();
                *ids.entry(pair).or_insert(next)
            };
            pairs(case).into_iter().map(id).collect()
        })
        .collect();
    let mut missing = vec![true; ids.len()];
    let mut chosen = Vec::new();
    loop {
        let gain = |n: usize| of_case[n].iter().filter(|id| missing[**id]).count();
        let size = |n: usize| table[n].rows * table[n].classes;
        let best =
            (0..table.len()).max_by_key(|n| (gain(*n), usize::MAX - size(*n), usize::MAX - n));
        let best = best.filter(|n| gain(*n) > 0);
        let Some(best) = best else { break };
        of_case[best].iter().for_each(|id| missing[*id] = false);
        chosen.push(best);
    }
    chosen.sort_unstable();
    chosen.into_iter().map(|n| table[n].clone()).collect()
}
