//! A masked class has probability exactly 0, not a tiny probability, which would show beside a probability of 1e-27.

use wgpu_distill::{
    Batch, Config, Engine, Outputs, Progress, Reduction, Scope, Selection, Similarity, Storage,
    reference,
};

use super::engines;
use crate::adapter;
use crate::cases::Tolerance;
use crate::cases::inputs::{Random, Stored};
use crate::cases::tolerance::assert_close;

const ROWS: usize = 5;

/// A finite logit with a probability close to 0. One side has it where the other side is masked.
const FAR_BELOW: f32 = -60.0;

fn is_masked(i: usize) -> bool {
    i % 3 == 1
}

/// One side's logits `[rows, classes]`; every third class has the logit `third`.
fn logits(classes: usize, third: f32, random: &mut Random) -> Vec<f32> {
    let value = |i: usize| match is_masked(i % classes) {
        true => third,
        false => random.normal(),
    };
    (0..ROWS * classes).map(value).collect()
}

#[test]
fn a_masked_class_has_probability_exactly_0() {
    let plain = adapter::without_subgroups().map(Engine::Gpu);
    let engines: Vec<Engine> = engines().into_iter().chain(plain).collect();
    let mut random = Random::new(12);
    // Every engine reads the longer rows twice.
    for classes in [6, 9001] {
        for (student, teacher) in [
            (FAR_BELOW, f32::NEG_INFINITY),
            (f32::NEG_INFINITY, FAR_BELOW),
        ] {
            for (storage, scope, similarity) in [
                (Storage::F32, Scope::Row, Similarity::Cosine),
                (Storage::Bf16, Scope::Row, Similarity::Overlap),
                (Storage::F16, Scope::Batch, Similarity::JensenShannon),
            ] {
                let sides = [student, teacher].map(|third| logits(classes, third, &mut random));
                let [s, t] = sides.each_ref().map(|side| Stored::round(side, storage));
                let labels: Vec<i32> = (0..ROWS).map(|row| 3 * (row as i32 % 2)).collect();
                let batch = Batch::new(s.values(), t.values(), &labels, classes);
                let config = Config {
                    similarity,
                    scope,
                    selection: Selection::Fixed(0.5),
                    reduction: Reduction::Sum,
                    ..Config::default()
                };
                let progress = Progress::new(1, 2);
                let want = reference::distill(&config, progress, &batch).expect("valid");
                for engine in &engines {
                    let got = engine.run(&config, progress, &batch, Outputs::GRADIENT);
                    let got = got.expect("valid").into_grad_student_logits();
                    let pairs = got.iter().zip(&want.grad_student_logits).enumerate();
                    for (i, (g, w)) in pairs.filter(|(i, _)| is_masked(i % classes)) {
                        // The gradient is the other side's tiny probability, far below 1.
                        assert!(*w != 0.0 && w.abs() < 1e-24);
                        let about = format!(
                            "{}: {student} {teacher} {storage:?}, {i} of {classes}",
                            engine.describe()
                        );
                        let tolerance = Tolerance::F32.probability(*w);
                        assert_close(&about, f64::from(*g), *w, tolerance);
                    }
                }
            }
        }
    }
}
