//! Chunks and threads: the size of a chunk is the documented one, and no result depends on the threads.

use wgpu_distill::cpu::Cpu;
use wgpu_distill::linear::{FusedLinear, LinearOutputs};
use wgpu_distill::{Config, GradWrite, Scope};

use crate::problem::{HALFWAY, Kind, Problem};

#[test]
fn the_budget_gives_the_documented_number_of_rows() {
    for kind in [Kind::Linear, Kind::Logits, Kind::TopK(3)] {
        let problem = Problem::new(100, [24, 17], [70, 70], kind);
        let chunk_rows = |bytes: usize| {
            let loss = FusedLinear::new().with_memory_budget(bytes);
            loss.chunk_rows(&problem.batch())
        };
        let row = problem.row_bytes();
        for (budget, want) in [
            (0, 1),
            (row - 1, 1),
            (2 * row - 1, 1),
            (2 * row, 2),
            // 34 and 34 and 32 rows would be more even; blocks of 16 rows compute faster.
            (49 * row, 48),
            // Two chunks of 50 rows, rounded up.
            (80 * row, 64),
            (99 * row, 64),
            (100 * row - 1, 64),
            (100 * row, 100),
            (usize::MAX, 100),
        ] {
            assert_eq!(chunk_rows(budget), want, "{kind:?}, {budget}");
        }
    }
    let problem = Problem::new(100, [24, 17], [70, 70], Kind::Linear);
    assert_eq!(FusedLinear::MEMORY_BUDGET, 64 << 20);
    assert_eq!(FusedLinear::new().chunk_rows(&problem.batch()), 100);
}

#[test]
fn threads_change_no_bit() {
    for kind in [Kind::Linear, Kind::TopK(6)] {
        let problem = Problem::new(67, [600, 17], [2600, 2600], kind);
        let run = |threads: usize, chunk_rows: usize| {
            let loss = FusedLinear::on(Cpu::new().with_threads(threads));
            let loss = loss.with_memory_budget(chunk_rows * problem.row_bytes());
            problem.run(&loss, &Config::default(), 0.0).bits()
        };
        for chunk_rows in [67, 20] {
            let one = run(1, chunk_rows);
            for threads in [2, 3, 8] {
                assert!(one == run(threads, chunk_rows), "{threads} threads");
            }
        }
    }
}

/// Each output alone is what it is beside the others.
#[test]
fn parts_of_the_outputs() {
    let problem = Problem::new(37, [24, 17], [70, 70], Kind::Linear);
    for scope in [Scope::Row, Scope::Batch] {
        let config = Config {
            scope,
            ..Config::default()
        };
        let loss = problem.loss(10);
        let all = problem.run(&loss, &config, 0.0);
        let batch = problem.batch();
        let run = |outputs: LinearOutputs<'_>| {
            let summary = loss
                .run_into(&config, HALFWAY, &batch, outputs)
                .expect("valid");
            assert_near(&[summary.loss], &[all.summary.loss]);
            assert_near(&[summary.kdr], &[all.summary.kdr]);
        };
        run(LinearOutputs::default());
        let mut hidden = vec![f32::NAN; 37 * 24];
        run(LinearOutputs {
            grad_hidden_states: Some(&mut hidden),
            ..LinearOutputs::default()
        });
        assert_near(&hidden, &all.grad_hidden_states);
        let mut weights = vec![f32::NAN; 70 * 24];
        run(LinearOutputs {
            grad_weights: Some(&mut weights),
            ..LinearOutputs::default()
        });
        assert_near(&weights, &all.grad_weights);
        let mut bias = vec![f32::NAN; 70];
        run(LinearOutputs {
            grad_bias: Some(&mut bias),
            ..LinearOutputs::default()
        });
        assert_near(&bias, &all.grad_bias);
        let mut rows = vec![Default::default(); 37];
        run(LinearOutputs {
            rows: Some(&mut rows),
            ..LinearOutputs::default()
        });
        for (got, want) in rows.iter().zip(&all.rows) {
            assert_near(
                &[got.loss, got.kdr, got.tssr],
                &[want.loss, want.kdr, want.tssr],
            );
            assert_eq!(got.flags, want.flags);
        }
    }
}

/// Without metrics the CPU path may round the sums of a short row in another order.
fn assert_near(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= 1e-6 * largest, "{got}, want {want}");
    }
}

/// Micro-batches that add up the head's gradient give that of the whole batch.
#[test]
fn micro_batches_accumulate_the_gradient_of_the_head() {
    let whole = Problem::new(40, [24, 17], [70, 70], Kind::Linear);
    let sum = Config {
        reduction: wgpu_distill::Reduction::SumOver(32.0),
        ..Config::default()
    };
    let truth = whole.truth(&sum);
    let mut gradient = vec![0.0; 70 * 24];
    let config = Config {
        grad_write: GradWrite::Accumulate,
        ..sum
    };
    for start in [0, 15] {
        let mut part = Problem::new(40, [24, 17], [70, 70], Kind::Linear);
        let end = if start == 0 { 15 } else { 40 };
        part.labels.truncate(end);
        part.labels.drain(..start);
        for side in [&mut part.student, &mut part.teacher] {
            side.hidden_states.truncate(end * side.hidden);
            side.hidden_states.drain(..start * side.hidden);
        }
        let outputs = LinearOutputs {
            grad_weights: Some(&mut gradient),
            ..LinearOutputs::default()
        };
        let loss = part.loss(4);
        loss.run_into(&config, HALFWAY, &part.batch(), outputs)
            .expect("valid");
    }
    for (i, (got, (want, bound))) in gradient.iter().zip(&truth.gradients[1]).enumerate() {
        let off = (f64::from(*got) - want).abs();
        assert!(off <= *bound, "{i}: {got:e}, {want:e}, allowed {bound:e}");
    }
}

/// A call that finds the memory of another one gives the bits of a call with new memory.
#[test]
fn the_memory_of_earlier_calls_has_no_effect() {
    let long = Problem::new(30, [600, 17], [2600, 2600], Kind::Linear);
    let short = Problem::new(53, [24, 40], [70, 70], Kind::Linear);
    let listed = Problem::new(21, [24, 17], [90, 90], Kind::TopK(6));
    let mut broken = Problem::new(40, [24, 17], [2000, 2000], Kind::Linear);
    broken.student.hidden_states[3..].fill(f32::NAN);
    broken.teacher.weights.fill(f32::NAN);
    for budget in [100_000, FusedLinear::MEMORY_BUDGET] {
        let new = || FusedLinear::new().with_memory_budget(budget);
        let kept = new();
        for problem in [&broken, &short, &long, &broken, &listed, &long, &short] {
            let done = problem.run(&kept, &Config::default(), 0.0);
            let want = problem.run(&new(), &Config::default(), 0.0);
            assert!(done.bits() == want.bits(), "{budget}, {:?}", problem.kind);
        }
        let clone = kept.clone();
        let done = short.run(&clone, &Config::default(), 0.0);
        assert!(done.bits() == short.run(&kept, &Config::default(), 0.0).bits());
    }
}

/// Calls on several threads at once share one `FusedLinear`.
#[test]
fn calls_at_once_do_not_meet() {
    let loss = FusedLinear::new().with_memory_budget(100_000);
    let problems = [19, 30, 41].map(|n| Problem::new(n, [24, 17], [700, 700], Kind::Linear));
    let wants = problems.each_ref().map(|problem| {
        let new = loss.clone();
        problem.run(&new, &Config::default(), 0.0).bits()
    });
    std::thread::scope(|scope| {
        for (problem, want) in problems.iter().zip(&wants) {
            let loss = &loss;
            scope.spawn(move || {
                for _ in 0..20 {
                    let done = problem.run(loss, &Config::default(), 0.0);
                    assert!(done.bits() == *want);
                }
            });
        }
    });
}
