//! The loss from hidden states stays within its budget of memory, and far below the logits.

use wgpu_distill::cpu::Cpu;
use wgpu_distill::linear::{FusedLinear, Linear, LinearBatch, LinearOutputs, Teacher};
use wgpu_distill::{Batch, Config, GradientMut, Progress, RowResult, Scope};

use crate::allocator::peak_of;
use crate::cases::inputs::Random;
use crate::report;

const ROWS: usize = 2048;
const HIDDEN: usize = 64;
const CLASSES: usize = 32_000;
const THREADS: usize = 2;
const MIB: usize = 1 << 20;

/// Bytes besides the chunk, as `FusedLinear::with_memory_budget` documents them.
const BESIDE: usize =
    THREADS * (MIB * 6 / 5 + 4 * if CLASSES > 32_768 { CLASSES } else { 32_768 }) + 512 * ROWS;

fn numbers(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| random.normal() / 4.0).collect()
}

/// The plain way from logits that are there: all of both and the gradient.
fn plain(cpu: &Cpu, config: &Config, labels: &[i32]) -> usize {
    let ((), peak) = peak_of(|| {
        let [student, teacher] = [0.5f32, 0.25].map(|x| vec![x; ROWS * CLASSES]);
        let mut gradient = vec![0.0f32; ROWS * CLASSES];
        let batch = Batch::new(&student, &teacher, labels, CLASSES);
        let outputs = GradientMut::new(&mut gradient, CLASSES).into();
        let done = cpu.run_into(config, Progress::new(1, 2), &batch, outputs);
        assert!(done.is_ok(), "{done:?}");
    });
    peak
}

#[test]
fn a_call_stays_within_its_budget() {
    let _turn = crate::turn();
    let mut random = Random::new(5);
    let states = [0, 1].map(|_| numbers(&mut random, ROWS * HIDDEN));
    let weights = [0, 1].map(|_| numbers(&mut random, CLASSES * HIDDEN));
    let labels: Vec<i32> = (0..ROWS as i32)
        .map(|row| if row % 9 == 2 { -100 } else { row })
        .collect();
    let [student, teacher] = [0, 1].map(|i| Linear::new(&states[i], &weights[i], HIDDEN, CLASSES));
    let batch = LinearBatch::new(student, Teacher::Linear(teacher), &labels);
    let mut grad_hidden_states = vec![0.0; ROWS * HIDDEN];
    let mut grad_weights = vec![0.0; CLASSES * HIDDEN];
    let mut rows = vec![RowResult::default(); ROWS];
    let cpu = Cpu::new().with_threads(THREADS);
    for scope in [Scope::Row, Scope::Batch] {
        let config = Config {
            scope,
            ..Config::default()
        };
        let plain = plain(&cpu, &config, &labels);
        assert!(plain >= 3 * 4 * ROWS * CLASSES, "{plain} bytes");
        for budget in [FusedLinear::MEMORY_BUDGET, 16 * MIB] {
            let loss = FusedLinear::on(cpu.clone()).with_memory_budget(budget);
            let (summary, peak) = peak_of(|| {
                let outputs = LinearOutputs {
                    rows: Some(&mut rows),
                    grad_hidden_states: Some(&mut grad_hidden_states),
                    grad_weights: Some(&mut grad_weights),
                    ..LinearOutputs::default()
                };
                loss.run_into(&config, Progress::new(1, 2), &batch, outputs)
            });
            let summary = summary.expect("valid");
            assert!(summary.loss.is_finite() && grad_weights[5] != 0.0);
            let about = format!("{scope:?}: budget {budget}, peak {peak}, plain {plain}");
            assert!(peak <= budget + BESIDE, "{about}");
            // Most of a budget is used, or it was not counted.
            assert!(peak >= budget / 2, "{about}");
            assert!(10 * peak < plain, "{about}");
            report::ran(&format!("memory: linear, {about}"));
        }
    }
}
