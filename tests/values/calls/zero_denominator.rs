//! `Reduction::SumOver(0)`: the denominator of a batch without labels.

use wgpu_distill::{
    Batch, Config, Decision, Error, Outputs, OutputsMut, Progress, Reduction, Scope, Storage,
    reference,
};

use super::{SIX, engines};
use crate::buffers::Bench;
use crate::cases::inputs::Kind;
use crate::cases::{Case, Ignores, compare};
use crate::steps::Steps;

const HALFWAY: Progress = Progress { step: 1, total: 2 };

fn configs() -> [Config; 2] {
    [Scope::Row, Scope::Batch].map(|scope| Config {
        reduction: Reduction::SumOver(0.0),
        scope,
        ..Config::default()
    })
}

#[test]
fn no_label_gives_a_loss_and_a_gradient_of_0() {
    let batch = Batch::new(&SIX, &SIX, &[-100, -100], 3);
    for config in configs() {
        let truth = reference::distill(&config, HALFWAY, &batch).expect("valid");
        assert_eq!(truth.summary.loss, 0.0);
        assert_eq!(truth.grad_student_logits, [0.0; 6]);
        for engine in engines() {
            let done = engine.run(&config, HALFWAY, &batch, Outputs::ALL);
            let done = done.expect("valid");
            let summary = done.summary;
            assert_eq!((summary.loss, summary.ignored_rows), (0.0, 2));
            assert_eq!((summary.valid_rows, summary.invalid_labels), (0, 0));
            assert_eq!(done.into_grad_student_logits(), [0.0; 6]);
        }
    }
}

#[test]
fn a_label_on_slices_is_refused() {
    let batch = Batch::new(&SIX, &SIX, &[-100, 2], 3);
    let want = Error::ZeroDenominator { row: 1, label: 2 };
    for config in configs() {
        for engine in engines() {
            let run = engine.run(&config, HALFWAY, &batch, Outputs::ALL);
            assert_eq!(run, Err(want.clone()));
            let run = engine.run_into(&config, HALFWAY, &batch, OutputsMut::default());
            assert_eq!(run, Err(want.clone()));
            assert_eq!(engine.observe(&config, &batch), Err(want.clone()));
            let decisions = [Decision::default(); 2];
            assert_eq!(engine.apply(&config, &batch, &decisions), Err(want.clone()));
            let stats = engine.observe(&Config::default(), &batch).expect("valid");
            let decide = engine.decide(&config, HALFWAY, &stats, 3);
            assert_eq!(decide, Err(want.clone()));
        }
    }
    let message = want.to_string();
    assert!(
        message.contains("row 1") && message.contains("label 2"),
        "{message}"
    );
}

/// Labels in buffers are not read before the call. A row with a label contradicts the denominator: it gets NaN and is counted.
#[test]
fn a_label_on_buffers_is_counted() {
    let Some(gpu) = crate::buffers::gpu() else {
        return;
    };
    let bench = Bench::new(gpu);
    for config in configs() {
        for ignores in [Ignores::EveryThird, Ignores::All] {
            for bad_labels in [false, true] {
                let mut case = Case::of_shape(9, 40, Kind::Normal, [Storage::F32; 3]);
                (case.config, case.ignores, case.bad_labels) = (config, ignores, bad_labels);
                let want = reference::distill(&config, case.progress, &case.host().batch());
                let want = want.expect("valid");
                let invalid = if ignores == Ignores::All { 0 } else { 6 };
                assert_eq!(want.summary.invalid_labels, invalid);
                assert_eq!(want.summary.loss.is_nan(), invalid > 0);
                let got = bench.run(&case).expect("valid");
                if let Err(why) = compare::check(&case, &want, &got) {
                    panic!("{config:?}, {ignores:?}, bad labels {bad_labels}: {why}");
                }
            }
        }
    }
}

#[test]
fn a_denominator_of_minus_0_is_0() {
    let config = Config {
        reduction: Reduction::SumOver(-0.0),
        ..Config::default()
    };
    let batch = Batch::new(&SIX, &SIX, &[-100, -100], 3);
    for engine in engines() {
        let done = engine.run(&config, HALFWAY, &batch, Outputs::ALL);
        assert_eq!(done.expect("valid").summary.loss, 0.0);
    }
}
