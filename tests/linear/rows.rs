//! Rows that are ignored, left out or not finite, and batches without any other.

use wgpu_distill::{Config, GradWrite, NonFinite, flags};

use crate::problem::{Kind, Problem};

/// Nothing reads the hidden states of rows that are ignored, and NaN times 0 would be NaN.
#[test]
fn ignored_rows_are_not_read() {
    for kind in [Kind::Linear, Kind::Logits, Kind::TopK(6)] {
        let config = Config::default();
        let clean = Problem::new(53, [24, 17], [70, 70], kind);
        let mut broken = Problem::new(53, [24, 17], [70, 70], kind);
        for row in (3..53).step_by(5) {
            assert_eq!(broken.labels[row], -100);
            for side in [&mut broken.student, &mut broken.teacher] {
                side.hidden_states[row * side.hidden..][..side.hidden].fill(f32::NAN);
            }
        }
        for chunk_rows in [53, 10] {
            let run = |problem: &Problem| problem.run(&problem.loss(chunk_rows), &config, 7.0);
            let done = run(&broken);
            assert_eq!(done.bits(), run(&clean).bits(), "{kind:?}");
            assert!(
                done.grad_hidden_states[3 * 24..4 * 24]
                    .iter()
                    .all(|g| *g == 0.0)
            );
            assert_eq!(done.rows[3].flags, flags::IGNORED);
            assert_eq!((done.rows[3].loss, done.rows[3].kdr), (0.0, 0.0));
        }
    }
}

#[test]
fn batches_without_a_row_that_counts() {
    for rows in [0, 4] {
        let mut problem = Problem::new(rows, [24, 17], [70, 70], Kind::Linear);
        problem.labels.fill(-100);
        for (grad_write, want) in [(GradWrite::Overwrite, 0.0), (GradWrite::Accumulate, 7.0)] {
            let config = Config {
                grad_write,
                ..Config::default()
            };
            let done = problem.run(&problem.loss(2), &config, 7.0);
            assert_eq!(done.summary.loss, 0.0);
            assert_eq!(done.summary.valid_rows, 0);
            assert_eq!(done.summary.ignored_rows, rows as u32);
            for gradient in done.gradients() {
                assert!(gradient.iter().all(|g| *g == want), "{grad_write:?}");
            }
        }
    }
}

/// A row with NaN is left out of every gradient, or makes the head's gradient NaN.
#[test]
fn rows_without_a_finite_result() {
    let clean = Problem::new(53, [24, 17], [70, 70], Kind::Linear);
    for (row, value) in [(6, f32::NAN), (0, f32::INFINITY), (52, f32::NEG_INFINITY)] {
        let mut broken = Problem::new(53, [24, 17], [70, 70], Kind::Linear);
        broken.student.hidden_states[row * 24 + 5] = value;
        let config = Config {
            non_finite: NonFinite::Skip,
            reduction: wgpu_distill::Reduction::SumOver(11.0),
            ..Config::default()
        };
        let mut without = Problem::new(53, [24, 17], [70, 70], Kind::Linear);
        without.labels[row] = -100;
        for chunk_rows in [53, 7] {
            let done = broken.run(&broken.loss(chunk_rows), &config, f32::NAN);
            let truth = without.truth(&config);
            assert_eq!(done.rows[row].flags & flags::SKIPPED, flags::SKIPPED);
            assert_eq!(done.summary.non_finite_rows, 1);
            let names = ["hidden states", "weights", "bias"];
            let pairs = done
                .gradients()
                .into_iter()
                .zip(&truth.gradients)
                .zip(names);
            for ((got, want), name) in pairs {
                for (i, (got, (want, bound))) in got.iter().zip(want).enumerate() {
                    let off = (f64::from(*got) - want).abs();
                    assert!(
                        off <= *bound,
                        "{name} {i}: {got:e}, {want:e}, allowed {bound:e}"
                    );
                }
            }
            let propagating = Config {
                non_finite: NonFinite::Propagate,
                ..config
            };
            let done = broken.run(&broken.loss(chunk_rows), &propagating, 0.0);
            assert!(done.summary.loss.is_nan());
            let own = &done.grad_hidden_states[row * 24..][..24];
            assert!(own.iter().all(|g| g.is_nan()), "{own:?}");
            assert!(done.grad_weights.iter().all(|g| g.is_nan()));
            // Other rows are unaffected.
            let other = if row == 1 { 2 } else { 1 };
            let of = |gradient: &[f32]| gradient[other * 24..][..24].to_vec();
            let whole = clean.run(&clean.loss(chunk_rows), &propagating, 0.0);
            assert_eq!(of(&done.grad_hidden_states), of(&whole.grad_hidden_states));
        }
    }
}

/// A bias of `-inf` masks a class: its gradients are 0.
#[test]
fn a_bias_masks_classes() {
    let mut problem = Problem::new(21, [24, 17], [70, 70], Kind::Linear);
    for side in [&mut problem.student, &mut problem.teacher] {
        side.bias.as_mut().expect("a bias")[33] = f32::NEG_INFINITY;
    }
    assert!(!problem.labels.contains(&33));
    let config = Config::default();
    let truth = problem.truth(&config);
    for chunk_rows in [21, 4] {
        let done = problem.run(&problem.loss(chunk_rows), &config, f32::NAN);
        problem.check("masked", &config, &truth, &done, 0.0);
        assert!(
            done.grad_weights[33 * 24..34 * 24]
                .iter()
                .all(|g| *g == 0.0)
        );
        assert_eq!(done.grad_bias[33], 0.0);
    }
}
