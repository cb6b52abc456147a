//! Calls on slices and buffers: caller memory, progress, factors at the ends of their range, zero denominators, micro-batches and several teachers.

mod factors;
mod memory;
mod micro_batches;
mod teachers;
mod zero_denominator;

use crate::buffers;
use crate::steps::Steps;
use wgpu_distill::{Batch, Config, Engine, Error, Outputs, Progress, Selection, reference};

/// The CPU path, and the GPU if there is one.
fn engines() -> Vec<Engine> {
    let gpu = buffers::gpu().map(Engine::Gpu);
    [Engine::cpu()].into_iter().chain(gpu).collect()
}

const SIX: [f32; 6] = [0.5, -1.0, 2.0, 0.0, 1.5, -0.5];

#[test]
fn progress_is_asked_for_where_the_selection_needs_it() {
    let other = [1.0, 0.5, -2.0, 0.3, 0.1, 0.9];
    let batch = Batch::new(&SIX, &other, &[0, 2], 3);
    for selection in Selection::ALL {
        let config = Config {
            selection,
            ..Config::default()
        };
        let needs = !matches!(
            selection,
            Selection::Kdr | Selection::Fixed(_) | Selection::Margin(_)
        );
        assert_eq!(selection.needs_progress(), needs, "{selection}");
        for engine in engines() {
            let run = |progress| engine.run(&config, progress, &batch, Outputs::ALL);
            let stats = engine.observe(&config, &batch).expect("valid");
            let decide = engine.decide(&config, Progress::NONE, &stats, 3);
            if needs {
                let selection = selection.to_string();
                let want = Error::ProgressNeeded { selection };
                assert!(want.to_string().contains("Progress::new"), "{want}");
                assert_eq!(run(Progress::NONE), Err(want.clone()));
                assert_eq!(decide, Err(want.clone()));
                let truth = reference::distill(&config, Progress::NONE, &batch);
                assert_eq!(truth.map(|_| ()), Err(want));
            } else {
                let with = run(Progress::new(1, 2)).expect("valid");
                assert_eq!(run(Progress::NONE), Ok(with.clone()), "{selection}");
                // Single steps may round the sums of a row in another order.
                for (decided, row) in decide.expect("valid").iter().zip(&with.rows) {
                    let near = |a: f32, b: f32| (a - b).abs() <= 5e-7 * b.abs();
                    let (one, other) = (decided.result, row);
                    let same = near(one.loss, other.loss)
                        && near(one.kdr, other.kdr)
                        && near(one.tssr, other.tssr)
                        && one.flags == other.flags;
                    assert!(same, "{selection}: {one:?}, {other:?}");
                }
            }
        }
    }
}

#[test]
fn clamped_progress_is_always_accepted() {
    for (step, total, want) in [
        (0, 10, Progress::new(0, 10)),
        (10, 10, Progress::new(10, 10)),
        (11, 10, Progress::new(10, 10)),
        (u64::MAX, 3, Progress::new(3, 3)),
        (0, 0, Progress::new(1, 1)),
        (7, 0, Progress::new(1, 1)),
    ] {
        let progress = Progress::clamped(step, total);
        assert_eq!(progress, want, "{step} of {total}");
        let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
        let config = Config {
            selection: Selection::Tstr,
            ..Config::default()
        };
        for engine in engines() {
            let done = engine.run(&config, progress, &batch, Outputs::SUMMARY);
            assert_eq!(done.expect("valid").summary.tssr, want.tstr());
        }
    }
}
