//! Sampled tokens whose log-probabilities are masked, undefined, above 0 or beyond the clamp.

use super::check;
use crate::cases::Case;
use crate::cases::inputs::{Kind, Stored};
use wgpu_distill::{
    Batch, Divergence as D, Logits, NonFinite, Selection, Storage, flags, reference,
};

const MASKED: f32 = f32::NEG_INFINITY;
const CLAMP: f32 = 4.0;

/// The student's logit of the label, the teacher's log-probability, and `r` after the clamp; `None` for a row without a finite result.
const ROWS: [(f32, f32, Option<f64>); 9] = [
    // The others are 0: p is about 1 / classes.
    (0.0, MASKED, Some(-4.0)),
    (MASKED, -1.0, Some(4.0)),
    (MASKED, MASKED, Some(0.0)),
    (0.0, f32::MIN, Some(-4.0)),
    (0.0, 1e30, Some(4.0)),
    (-1e30, -2.0, Some(4.0)),
    (0.0, f32::NAN, None),
    (0.0, f32::INFINITY, None),
    // Ignored: nothing is examined.
    (0.0, f32::NAN, None),
];

/// The value of a token with this `r`.
fn value(divergence: D, r: f64) -> f64 {
    match divergence {
        D::K1 { .. } => -r,
        D::K2 { .. } => r * r / 2.0,
        _ => r.exp_m1() - r,
    }
}

#[test]
fn tokens_beyond_the_clamp_have_no_gradient() {
    for (classes, storage) in [(6, Storage::F32), (1003, Storage::Bf16)] {
        let mut student = vec![0.0f32; ROWS.len() * classes];
        let mut labels = vec![2; ROWS.len()];
        for (row, (logit, _, _)) in ROWS.iter().enumerate() {
            student[row * classes + 2] = *logit;
        }
        labels[ROWS.len() - 1] = -100;
        let tokens = ROWS.map(|(_, log_q, _)| log_q);
        let tokens = Stored::round(&tokens, storage);
        let batch = Batch {
            student_logits: Logits::new(&student, classes),
            teacher_logits: Logits::new(tokens.values(), 1),
            labels: &labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        for divergence in [
            D::K1 { clamp: CLAMP },
            D::K2 { clamp: CLAMP },
            D::K3 { clamp: CLAMP },
        ] {
            for non_finite in [NonFinite::Propagate, NonFinite::Skip] {
                let mut case = Case::of_shape(
                    ROWS.len(),
                    classes,
                    Kind::Normal,
                    [Storage::F32, storage, Storage::F32],
                );
                case.metrics = true;
                case.teacher_classes = 1;
                case.config.divergence = divergence;
                case.config.selection = Selection::Fixed(0.0);
                case.config.non_finite = non_finite;
                let about = format!("{divergence}, {classes} classes, {non_finite:?}");
                let want = reference::distill(&case.config, case.progress, &batch).expect("valid");
                for (row, (_, _, r)) in ROWS.iter().enumerate() {
                    let result = want.rows[row];
                    match r {
                        Some(r) => {
                            assert_eq!(result.loss, value(divergence, *r), "{about}, row {row}");
                            let gradient = &want.grad_student_logits[row * classes..][..classes];
                            assert!(gradient.iter().all(|g| *g == 0.0), "{about}, row {row}");
                        }
                        None if row + 1 < ROWS.len() => {
                            assert_ne!(result.flags & flags::NON_FINITE, 0, "{about}, row {row}");
                        }
                        None => assert_eq!(result.flags, flags::IGNORED, "{about}"),
                    }
                }
                check(&about, &case, &batch);
            }
        }
    }
}

/// A log-probability above 0 is a number as any other: 16-bit rounding of numbers near 0, or of a difference of large logits, gives such.
#[test]
fn a_log_probability_may_be_above_0() {
    let classes = 6;
    let student = [2.0f32, 0.5, -1.0, 0.25, 1.5, -0.5];
    for log_q in [1e-3f32, 0.5] {
        for divergence in [
            D::K1 { clamp: 20.0 },
            D::K2 { clamp: 20.0 },
            D::K3 { clamp: 20.0 },
        ] {
            let mut case = Case::of_shape(1, classes, Kind::Normal, [Storage::F32; 3]);
            case.teacher_classes = 1;
            case.config.divergence = divergence;
            case.config.selection = Selection::Fixed(0.25);
            let tokens = [log_q];
            let batch = Batch {
                student_logits: Logits::new(&student, classes),
                teacher_logits: Logits::new(&tokens, 1),
                labels: &[1],
                soft_labels: None,
                row_weights: None,
                class_weights: None,
                teacher_ids: None,
            };
            check(&format!("{divergence}, {log_q}"), &case, &batch);
        }
    }
}
