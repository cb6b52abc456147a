//! Refusals of a teacher that is a list of classes: entries that are no class or there twice, other sizes, choices without terms of a list.

use wgpu_distill::plan::{Limits, Plan, Problem};
use wgpu_distill::{
    Batch, Config, Divergence, Error, GradientMut, MaskedClasses, Outputs, Selection,
    Standardization, Storage, TeacherTail, reference,
};

use super::{HALFWAY, SIX, engines, limit, refused};
use crate::problems::problem;

const LOG_PROBABILITIES: [f32; 4] = [-0.5, -1.0, -2.0, -0.25];

/// Two rows of three classes beside two entries each.
fn batch<'a>(ids: &'a [i32], labels: &'a [i32]) -> Batch<'a> {
    Batch::top_k(&SIX, &LOG_PROBABILITIES, ids, labels, 3)
}

/// Every call on slices that takes a list refuses this input.
fn refused_lists(about: &str, config: &Config, batch: &Batch<'_>, want: &Error) {
    for engine in engines() {
        let about = |call: &str| format!("{about}, {call} on {}", engine.describe());
        let run = engine.run(config, HALFWAY, batch, Outputs::ALL);
        refused(&about("run"), run, want);
        let mut gradient = vec![7.0; batch.rows() * batch.classes()];
        let into = GradientMut::new(&mut gradient, batch.classes()).into();
        let run_into = engine.run_into(config, HALFWAY, batch, into);
        refused(&about("run_into"), run_into, want);
        assert!(gradient.iter().all(|g| *g == 7.0), "{}", about("run_into"));
    }
}

/// The reference refuses what the shapes and the choices tell, not the entries.
fn refused_everywhere(about: &str, config: &Config, batch: &Batch<'_>, want: &Error) {
    refused_lists(about, config, batch, want);
    let distill = reference::distill(config, HALFWAY, batch);
    refused(&format!("{about}, reference::distill"), distill, want);
}

fn unsupported(what: &str) -> Error {
    Error::Unsupported {
        what: format!("`teacher_ids` {what}"),
        why: "",
    }
}

#[test]
fn bad_entries_of_lists_are_refused() {
    let classes = 3;
    let out = |row, id| Error::TeacherIdOutOfRange { row, id, classes };
    let twice = |row, id| Error::TeacherIdTwice { row, id };
    for (why, labels, ids, want) in [
        ("the number of classes", [0, 1], [2, 3, 0, 1], out(0, 3)),
        ("below an empty place", [0, 1], [2, 0, -2, 1], out(1, -2)),
        ("far above", [0, 1], [2, 0, 1, i32::MAX], out(1, i32::MAX)),
        ("far below", [0, 1], [i32::MIN, 0, 1, 2], out(0, i32::MIN)),
        ("a class twice", [0, 1], [0, 1, 2, 2], twice(1, 2)),
        ("class 0 twice", [0, 1], [0, 0, 2, 2], twice(0, 0)),
        ("below an ignored row", [-100, 1], [7, 7, 1, 1], twice(1, 1)),
    ] {
        refused_lists(why, &Config::default(), &batch(&ids, &labels), &want);
    }
    // Empty places may repeat, and nothing examines the entries of an ignored row.
    for (labels, ids) in [([0, 1], [-1, -1, 2, -1]), ([0, -100], [2, 0, 9, 9])] {
        for engine in engines() {
            let batch = batch(&ids, &labels);
            let run = engine.run(&Config::default(), HALFWAY, &batch, Outputs::ALL);
            assert!(run.is_ok(), "{ids:?}: {run:?}");
        }
    }
}

const ENTRIES: &str = "the number of a row's entries in `teacher_ids`";
const CLASSES: &str = "the number of classes beside `teacher_ids`";

#[test]
fn lists_of_other_sizes_are_refused() {
    for got in [2, 3, 5, 8] {
        let ids = vec![-1; got];
        let batch = Batch {
            teacher_ids: Some(&ids),
            ..batch(&[0, 1, 0, 1], &[0, 1])
        };
        let (k, expected) = (2, 4);
        let want = Error::TeacherIds { k, expected, got };
        refused_everywhere("another number", &Config::default(), &batch, &want);
    }
    for (why, classes, k, want) in [
        ("more than the classes", 3, 4, limit(ENTRIES, 4, 3)),
        ("too many", 2000, 1025, limit(ENTRIES, 1025, 1024)),
        (
            "too many classes",
            (1 << 20) + 1,
            1,
            limit(CLASSES, (1 << 20) + 1, 1 << 20),
        ),
    ] {
        let (student, teacher, ids) = (vec![0.0; classes], vec![-9.0; k], vec![-1; k]);
        let batch = Batch::top_k(&student, &teacher, &ids, &[0], classes);
        refused_everywhere(why, &Config::default(), &batch, &want);
        let problem = Problem {
            teacher_list: true,
            teacher_classes: k,
            ..problem(1, classes, Storage::F32)
        };
        let plan = Plan::new(&Config::default(), &problem, &Limits::DEFAULT);
        refused(&format!("{why}, plan"), plan, &want);
    }
}

/// Choices without terms of a list, and their names.
fn refused_choices() -> Vec<(Config, &'static str)> {
    let plain = Config::default();
    let of_divergence = |divergence| Config {
        divergence,
        selection: Selection::Tstr,
        ..plain
    };
    let dkd = Divergence::Dkd {
        alpha: 1.0,
        beta: 8.0,
    };
    let margin = Config {
        selection: Selection::Margin(0.25),
        ..plain
    };
    let standardized = Config {
        standardization: Standardization::ZScore,
        ..plain
    };
    let hot = Config {
        teacher_temperature: 2.0,
        ..plain
    };
    let joined = Config {
        masked_classes: MaskedClasses::Both,
        ..plain
    };
    let nkd = Divergence::Nkd { gamma: 1.5 };
    vec![
        (of_divergence(dkd), "the divergence `dkd:1:8`"),
        (of_divergence(nkd), "the divergence `nkd:1.5`"),
        (of_divergence(Divergence::Wsld), "the divergence `wsld`"),
        (
            of_divergence(Divergence::K1 { clamp: 20.0 }),
            "the divergence `k1:20`",
        ),
        (
            of_divergence(Divergence::K2 { clamp: 20.0 }),
            "the divergence `k2:20`",
        ),
        (
            of_divergence(Divergence::K3 { clamp: 20.0 }),
            "the divergence `k3:20`",
        ),
        (margin, "the selection `margin:0.25`"),
        (standardized, "`Standardization::ZScore`"),
        (hot, "`teacher_temperature` 2"),
        (joined, "`MaskedClasses::Both`"),
    ]
}

#[test]
fn choices_without_terms_of_a_list_are_refused() {
    let batch = batch(&[2, 0, 1, 2], &[0, 1]);
    let problem = Problem {
        teacher_list: true,
        teacher_classes: 2,
        ..problem(2, 3, Storage::F32)
    };
    for (config, what) in refused_choices() {
        let want = unsupported(&format!("with {what}"));
        refused_everywhere(what, &config, &batch, &want);
        let plan = Plan::new(&config, &problem, &Limits::DEFAULT);
        refused(&format!("{what}, plan"), plan, &want);
    }
    // The renormalised list has a distribution at every temperature.
    let renormalized = Config {
        teacher_temperature: 2.0,
        teacher_tail: TeacherTail::Renormalized,
        ..Config::default()
    };
    for engine in engines() {
        let run = engine.run(&renormalized, HALFWAY, &batch, Outputs::ALL);
        assert!(run.is_ok(), "{run:?}");
    }
}

#[test]
fn inputs_beside_a_list_are_refused() {
    let config = Config::default();
    let plain = batch(&[2, 0, 1, 2], &[0, 1]);
    let soft_labels = [0.25; 6];
    for (batch, what) in [
        (
            plain.with_class_weights(&[1.0, 2.0, 0.5]),
            "`class_weights`",
        ),
        (plain.with_soft_labels(&soft_labels), "`soft_labels`"),
    ] {
        let want = unsupported(&format!("with {what}"));
        refused_everywhere(what, &config, &batch, &want);
    }
    let want = unsupported("with metrics of rows");
    let with_metrics = Outputs {
        metrics: true,
        ..Outputs::ALL
    };
    for engine in engines() {
        let run = engine.run(&config, HALFWAY, &plain, with_metrics);
        refused(&engine.describe(), run, &want);
    }
    let problem = Problem {
        teacher_list: true,
        teacher_classes: 2,
        metrics: true,
        ..problem(2, 3, Storage::F32)
    };
    let plan = Plan::new(&config, &problem, &Limits::DEFAULT);
    refused("plan", plan, &want);
}
