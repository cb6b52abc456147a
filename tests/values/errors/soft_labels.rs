//! Refusals of soft labels on slices: numbers out of range, other shapes, choices without terms of a soft label.

use wgpu_distill::{
    Batch, Config, Divergence, Engine, Error, Logits, Outputs, Selection, Standardization, Storage,
};

use super::{HALFWAY, SIX, engines, refused_on_slices, stride_too_small};
use crate::cases::inputs::Stored;

#[test]
fn bad_soft_labels_on_slices_are_refused() {
    let bad = |row, class, value| Error::SoftLabel { row, class, value };
    let good = [0.25, 0.75, -0.0, 0.0, 1.0, 1e6];
    let with = |changes: &[(usize, f32)]| {
        let mut y = good;
        changes.iter().for_each(|(at, value)| y[*at] = *value);
        y
    };
    // Exact in bf16.
    let tiny = 2f32.powi(-120);
    for (why, labels, y, want) in [
        (
            "a negative number",
            [0, 1],
            with(&[(5, -tiny)]),
            bad(1, 2, -tiny),
        ),
        (
            "a number above 1e6",
            [0, 1],
            with(&[(1, 1.1e6)]),
            bad(0, 1, 1.1e6),
        ),
        (
            "an infinity",
            [0, 1],
            with(&[(3, f32::INFINITY)]),
            bad(1, 0, f32::INFINITY),
        ),
        (
            "beside NaN in an ignored row",
            [-100, 1],
            with(&[(0, f32::NAN), (4, -1.0)]),
            bad(1, 1, -1.0),
        ),
    ] {
        let batch = Batch::new(&SIX, &SIX, &labels, 3).with_soft_labels(&y);
        refused_on_slices(why, &Config::default(), &batch, &want, false);
        let stored = Stored::round(&y, Storage::Bf16);
        let batch = batch.with_soft_labels(stored.values());
        let run = Engine::cpu().run(&Config::default(), HALFWAY, &batch, Outputs::ALL);
        let row = |e: &Error| match e {
            Error::SoftLabel { row, class, .. } => Some((*row, *class)),
            _ => None,
        };
        assert_eq!(
            run.as_ref().err().and_then(row),
            row(&want),
            "{why}: {run:?}"
        );
    }
    let batch = Batch::new(&SIX, &SIX, &[0, 1], 3).with_soft_labels(&good);
    for engine in engines() {
        let run = engine.run(&Config::default(), HALFWAY, &batch, Outputs::ALL);
        assert!(run.is_ok(), "{run:?}");
    }
}

#[test]
fn soft_labels_of_other_shapes_are_refused() {
    let zeros = [0.0; 16];
    for (why, [elements, classes, stride], want) in [
        (
            "other classes",
            [8, 4, 4],
            Error::SoftLabelShape { classes: 3, got: 4 },
        ),
        (
            "no classes",
            [6, 0, 3],
            Error::ZeroClasses {
                name: "soft_labels",
            },
        ),
        (
            "rows overlap",
            [6, 3, 2],
            stride_too_small("soft_labels", 2, 3),
        ),
        (
            "one short",
            [5, 3, 3],
            Error::SliceTooSmall {
                name: "soft_labels",
                needed: 6,
                got: 5,
            },
        ),
    ] {
        let soft_labels = Logits::new(&zeros[..elements], classes).with_row_stride(stride);
        let batch = Batch {
            soft_labels: Some(soft_labels),
            ..Batch::new(&SIX, &SIX, &[0, 1], 3)
        };
        refused_on_slices(why, &Config::default(), &batch, &want, true);
    }
}

#[test]
fn choices_without_terms_of_a_soft_label_are_refused() {
    let zeros = [0.0; 6];
    let batch = Batch::new(&SIX, &SIX, &[0, 1], 3).with_soft_labels(&zeros);
    let of_divergence = |divergence| Config {
        divergence,
        selection: Selection::Tstr,
        ..Config::default()
    };
    let plain = Config::default();
    let margin = Config {
        selection: Selection::Margin(0.25),
        ..plain
    };
    let standardized = Config {
        standardization: Standardization::ZScore,
        ..plain
    };
    let weighted = batch.with_class_weights(&[1.0, 2.0, 0.5]);
    let sampled = Batch {
        teacher_logits: Logits::new(&SIX[..2], 1),
        ..batch
    };
    let dkd = Divergence::Dkd {
        alpha: 1.0,
        beta: 8.0,
    };
    let nkd = Divergence::Nkd { gamma: 1.5 };
    for (config, batch, what) in [
        (of_divergence(dkd), batch, "the divergence `dkd:1:8`"),
        (of_divergence(nkd), batch, "the divergence `nkd:1.5`"),
        (
            of_divergence(Divergence::Wsld),
            batch,
            "the divergence `wsld`",
        ),
        (
            of_divergence(Divergence::K1 { clamp: 20.0 }),
            sampled,
            "the divergence `k1:20`",
        ),
        (
            of_divergence(Divergence::K2 { clamp: 20.0 }),
            sampled,
            "the divergence `k2:20`",
        ),
        (
            of_divergence(Divergence::K3 { clamp: 20.0 }),
            sampled,
            "the divergence `k3:20`",
        ),
        (margin, batch, "the selection `margin:0.25`"),
        (standardized, batch, "`Standardization::ZScore`"),
        (plain, weighted, "`class_weights`"),
    ] {
        let want = Error::Unsupported {
            what: format!("`soft_labels` with {what}"),
            why: "",
        };
        refused_on_slices(what, &config, &batch, &want, true);
    }
}
