//! A teacher with another vocabulary, by its common prefix: missing classes count as masked and extra classes have no effect. Masks that
//! are joined.

use wgpu_distill::{
    Batch, Divergence, Engine, Logits, MaskedClasses, Outputs, TeacherClasses, TssrGradient,
};

use super::agree::outcomes;
use super::drawn::{Drawn, drawn, on_every_engine, on_the_cpu_path};
use crate::cases::compare::Outcome;
use crate::cases::inputs::{Random, Stored, spread};

/// Runs a batch with another teacher `[rows, classes]`.
fn run(engine: &Engine, drawn: &Drawn, teacher: &[f32], classes: usize) -> Result<Outcome, String> {
    let [student, _] = drawn.stored();
    let stride = classes + drawn.gaps[1];
    let teacher = Stored::round(&spread(teacher, classes, stride, 0), drawn.storage[1]);
    let mut config = drawn.config;
    config.teacher_classes = TeacherClasses::CommonPrefix;
    let batch = Batch {
        student_logits: Logits::new(student.values(), drawn.classes)
            .with_row_stride(drawn.classes + drawn.gaps[0]),
        teacher_logits: Logits::new(teacher.values(), classes).with_row_stride(stride),
        labels: &drawn.labels,
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let outputs = Outputs {
        rows: true,
        gradient: Some(drawn.storage[2]),
        metrics: false,
    };
    let done = engine.run(&config, drawn.progress, &batch, outputs);
    let done = done.map_err(|e| e.to_string())?;
    Ok(Outcome {
        summary: done.summary,
        rows: done.rows.clone(),
        metrics: done.metrics.clone(),
        gradient: done.into_grad_student_logits(),
    })
}

#[test]
fn classes_that_the_teacher_lacks_are_masked() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, drawn| {
            let n = drawn.classes;
            let common = 1 + drawn.seed as usize % n;
            let rows = drawn.teacher.chunks(n);
            let short: Vec<f32> = rows.flat_map(|row| row[..common].to_vec()).collect();
            let mut masked = drawn.clone();
            for row in masked.teacher.chunks_mut(n) {
                row[common..].fill(f32::NEG_INFINITY);
            }
            let got = run(engine, &drawn, &short, common)?;
            outcomes(&drawn, &got, &masked.run(engine)?)
        },
    );
}

/// Extra classes have no effect, even if they are NaN or huge.
#[test]
fn classes_that_only_the_teacher_has_are_not_looked_at() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, drawn| {
            let n = drawn.classes;
            let mut random = Random::new(drawn.seed);
            let more = 1 + random.next() as usize % 9;
            let mut wide = Vec::new();
            for row in drawn.teacher.chunks(n) {
                wide.extend_from_slice(row);
                let values = [f32::NAN, f32::INFINITY, 3e4, -1.0];
                wide.extend((0..more).map(|_| values[random.next() as usize % 4]));
            }
            let got = run(engine, &drawn, &wide, n + more)?;
            outcomes(&drawn, &got, &drawn.run(engine)?)
        },
    );
}

/// Joined masks change nothing but the logits: each row has the masks of both.
#[test]
fn joined_masks_are_those_of_both_rows() {
    on_the_cpu_path(
        |of| drawn(of, true),
        |engine, mut drawn| {
            let mut random = Random::new(drawn.seed);
            let divergences = [
                Divergence::SoftCrossEntropy,
                Divergence::ReverseKl,
                Divergence::Jsd { beta: 0.5 },
            ];
            drawn.config.divergence = divergences[random.next() as usize % divergences.len()];
            // Not every divergence has it.
            drawn.config.tssr_gradient = TssrGradient::Detached;
            let masked = f32::NEG_INFINITY;
            for x in drawn.student.iter_mut().chain(&mut drawn.teacher) {
                if random.next().is_multiple_of(4) {
                    *x = masked;
                }
            }
            let mut premasked = drawn.clone();
            for (s, t) in premasked.student.iter_mut().zip(&mut premasked.teacher) {
                if *s == masked || *t == masked {
                    (*s, *t) = (masked, masked);
                }
            }
            drawn.config.masked_classes = MaskedClasses::Both;
            outcomes(&premasked, &drawn.run(engine)?, &premasked.run(engine)?)
        },
    );
}
