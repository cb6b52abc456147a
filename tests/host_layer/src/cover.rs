//! Few cases of the table that together have each of its choices.

use std::collections::BTreeSet;
use std::fmt::Debug;

use wgpu_distill::{
    Reduction, Scope, Selection, Similarity, Storage, TeacherClasses, TemperatureScaling,
};

use crate::cases::Case;

/// Rows of a single tile, of many tiles, and of lengths that are no multiple of anything.
const CLASSES: [usize; 8] = [1, 5, 100, 256, 1000, 4097, 32_000, 50_257];
/// One row, a workgroup's rest, more rows than are counted at a time, and more than workgroups in a dimension.
const ROWS: [usize; 5] = [1, 3, 77, 1025, 65_537];

/// A part of the table.
pub struct Cover {
    pub cases: Vec<Case>,
    /// Choices that no case has.
    pub missing: BTreeSet<String>,
}

/// Takes each case that has a choice which no case before it has.
pub fn of(table: Vec<Case>) -> Cover {
    let mut missing = wanted(&table);
    let mut cases = table;
    cases.retain(|case| {
        let before = missing.len();
        for choice in choices(case) {
            missing.remove(&choice);
        }
        missing.len() < before
    });
    Cover { cases, missing }
}

/// The name of an enum's variant without its fields.
fn variant(choice: impl Debug) -> String {
    let mut name = format!("{choice:?}");
    name.truncate(name.find('(').unwrap_or(name.len()));
    name
}

fn kdr(similarity: Similarity, scope: Scope) -> String {
    format!("{similarity} with scope {}", variant(scope))
}

fn reduction(reduction: Reduction, scope: Scope) -> String {
    format!(
        "reduction {} with scope {}",
        variant(reduction),
        variant(scope)
    )
}

fn storage([student, other]: [Storage; 2], role: &str) -> String {
    format!("student {} and {role} {}", student.name(), other.name())
}

fn layout(storage: Storage, classes: usize, gap: usize) -> String {
    let kind = match (gap, classes % 2) {
        (0, 0) => "even rows",
        (0, _) => "odd rows",
        _ => "gaps between rows",
    };
    format!("{kind} of {}", storage.name())
}

/// Choices that change a factor or a sum.
const OPTIONS: [&str; 7] = [
    "two temperatures",
    "unscaled temperatures",
    "label smoothing",
    "a negative upstream gradient",
    "ignored rows",
    "a smaller teacher",
    "a larger teacher",
];

fn options(case: &Case) -> impl Iterator<Item = &'static str> {
    let config = &case.config;
    let is_prefix = config.teacher_classes == TeacherClasses::CommonPrefix;
    let shown = [
        config.student_temperature != config.teacher_temperature,
        config.student_temperature != 1.0 && config.temperature_scaling == TemperatureScaling::None,
        config.label_smoothing > 0.0,
        config.grad_loss < 0.0,
        case.labels().contains(&config.ignore_index),
        is_prefix && case.teacher_classes < case.classes,
        is_prefix && case.teacher_classes > case.classes,
    ];
    let both = OPTIONS.into_iter().zip(shown);
    both.filter_map(|(option, is_shown)| is_shown.then_some(option))
}

/// The choices of a case, in words.
fn choices(case: &Case) -> Vec<String> {
    let config = &case.config;
    let [student, teacher, gradient] = case.storage;
    let mut choices = vec![
        kdr(config.similarity, config.scope),
        reduction(config.reduction, config.scope),
        format!("selection {}", variant(config.selection)),
        storage([student, teacher], "teacher"),
        storage([student, gradient], "gradient"),
        layout(student, case.classes, case.gaps[0]),
        format!("inputs {}", variant(case.kind)),
        format!("{} classes", case.classes),
        format!("{} rows", case.rows),
    ];
    choices.extend(options(case).map(str::to_owned));
    choices
}

/// Choices that the cover must have. Kinds of inputs are those of the table.
fn wanted(table: &[Case]) -> BTreeSet<String> {
    let mut wanted = BTreeSet::new();
    for scope in [Scope::Row, Scope::Batch, Scope::Given(0.5)] {
        wanted.extend(Similarity::ALL.map(|s| kdr(s, scope)));
        let reductions = [
            Reduction::None,
            Reduction::Sum,
            Reduction::Mean,
            Reduction::SumOver(2.0),
        ];
        wanted.extend(reductions.map(|r| reduction(r, scope)));
    }
    wanted.extend(Selection::ALL.map(|s| format!("selection {}", variant(s))));
    for student in Storage::ALL {
        wanted.extend(Storage::ALL.map(|other| storage([student, other], "teacher")));
        wanted.extend(Storage::ALL.map(|other| storage([student, other], "gradient")));
        wanted.extend([(2, 0), (1, 0), (1, 1)].map(|(classes, gap)| layout(student, classes, gap)));
    }
    wanted.extend(table.iter().map(|c| format!("inputs {}", variant(c.kind))));
    wanted.extend(CLASSES.map(|n| format!("{n} classes")));
    wanted.extend(ROWS.map(|n| format!("{n} rows")));
    wanted.extend(OPTIONS.map(str::to_owned));
    wanted
}
