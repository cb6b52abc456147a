//! The CPU path's vectors and tails: row lengths around a vector and a tile, odd addresses, canaries, every instruction set.
//!
//! The cases are small enough for Miri, which checks each access of the `unsafe` code:
//! `cargo +nightly miri test --package wgpu-distill --test values vectors::`.

use crate::cases::Tolerance;
use crate::cases::tolerance::{assert_close, gradient_weight};
use half::{bf16, f16};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{
    Batch, Config, GradientMut, Logits, Outputs, Progress, Reduction, Similarity, Values, reference,
};

/// Around the 8 and 16 lanes of a vector, and around the 1,024 classes of a tile.
const CLASSES: [usize; 11] = [1, 2, 7, 8, 9, 15, 16, 17, 33, 1024, 1029];

const CANARY: f32 = -7777.0;

fn wave(n: usize, seed: f32) -> Vec<f32> {
    (0..n)
        .map(|i| 6.0 * (seed + 0.7 * i as f32).sin())
        .collect()
}

fn check(cpu: &Cpu, classes: usize, similarity: Similarity, misalignment: usize) {
    let rows = 2;
    let stride = classes + 3;
    let elements = misalignment + (rows - 1) * stride + classes;
    // Elements between the rows must not affect the result.
    let between = |i: usize| i < misalignment || (i - misalignment) % stride >= classes;
    let poisoned = |seed: f32| -> Vec<f32> {
        let all = wave(elements, seed).into_iter().enumerate();
        all.map(|(i, x)| if between(i) { f32::NAN } else { x })
            .collect()
    };
    let (student, teacher) = (poisoned(1.0), poisoned(2.0));
    let [s16, t16] = [&student, &teacher]
        .map(|v| -> Vec<bf16> { v.iter().map(|x| bf16::from_f32(*x)).collect() });
    let pairs = [
        (
            Values::F32(&student[misalignment..]),
            Values::F32(&teacher[misalignment..]),
        ),
        (
            Values::Bf16(&s16[misalignment..]),
            Values::Bf16(&t16[misalignment..]),
        ),
    ];
    let mut pairs = pairs.to_vec();
    let halves: Vec<f16>;
    // Miri does not support the instructions that convert f16.
    if !cfg!(miri) {
        halves = student.iter().map(|x| f16::from_f32(*x)).collect();
        pairs.push((
            Values::F16(&halves[misalignment..]),
            Values::F32(&teacher[misalignment..]),
        ));
    }
    let config = Config {
        similarity,
        ..Config::default()
    };
    let progress = Progress::new(1, 3);
    for (s, t) in pairs {
        let on = |values| Logits {
            values,
            classes,
            row_stride: stride,
        };
        let labels = [0, classes as i32 - 1];
        let batch = Batch {
            student_logits: on(s),
            teacher_logits: on(t),
            labels: &labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let about = format!(
            "{}, {classes} classes, {similarity:?}, from {misalignment}",
            cpu.describe()
        );
        let want = reference::distill(&config, progress, &batch).expect("valid");
        let mut gradient = vec![CANARY; rows * classes + 2 * misalignment + 2];
        let end = misalignment + rows * classes;
        let target = GradientMut::new(&mut gradient[misalignment..end], classes).into();
        let got = cpu
            .run_into(&config, progress, &batch, target)
            .expect("valid");
        let tolerance = Tolerance::F32;
        let allowed = tolerance.loss(want.summary.loss, 1.0);
        assert_close(&about, f64::from(got.loss), want.summary.loss, allowed);
        assert_close(&about, f64::from(got.kdr), want.summary.kdr, tolerance.unit);
        let weight = gradient_weight(&config, want.summary.valid_rows);
        let got = gradient[misalignment..end].chunks(classes);
        for (got, want) in got.zip(want.grad_student_logits.chunks(classes)) {
            let largest = want.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            let allowed = tolerance.gradient(largest, weight);
            for (got, want) in got.iter().zip(want) {
                assert_close(&about, f64::from(*got), *want, allowed);
            }
        }
        let outside = gradient[..misalignment].iter().chain(&gradient[end..]);
        assert!(
            outside.into_iter().all(|x| *x == CANARY),
            "{about}: written beside the gradient"
        );
    }
}

#[test]
fn vectors_stay_within_their_rows() {
    // Miri takes minutes where a normal run takes milliseconds, so each length has one similarity and one address.
    let misalignments = if cfg!(miri) { 1..2 } else { 0..6 };
    for cpu in Cpu::for_each_instruction_set() {
        println!("{}", cpu.describe());
        for (i, classes) in CLASSES.into_iter().enumerate() {
            for (j, similarity) in Similarity::ALL.into_iter().enumerate() {
                if cfg!(miri) && i % Similarity::ALL.len() != j {
                    continue;
                }
                for misalignment in misalignments.clone() {
                    check(&cpu, classes, similarity, misalignment);
                }
            }
        }
    }
}

/// Short rows are computed in groups, beside which rows with masked classes or without a label stand alone.
#[test]
fn a_row_has_the_same_bits_in_any_group() {
    let (rows, classes) = (if cfg!(miri) { 18 } else { 37 }, 21);
    let (mut student, teacher) = (wave(rows * classes, 1.0), wave(rows * classes, 2.0));
    student[5 * classes + 3] = f32::NEG_INFINITY;
    let mut labels: Vec<i32> = (0..rows as i32).map(|row| row % classes as i32).collect();
    labels[9] = -100;
    let config = Config {
        reduction: Reduction::Sum,
        ..Config::default()
    };
    let run = |cpu: &Cpu, rows: std::ops::Range<usize>| {
        let elements = rows.start * classes..rows.end * classes;
        let (student, teacher) = (&student[elements.clone()], &teacher[elements]);
        let batch = Batch::new(student, teacher, &labels[rows], classes);
        let progress = Progress::new(1, 3);
        let got = cpu.run(&config, progress, &batch, Outputs::ALL);
        let got = got.expect("valid");
        (got.rows, got.gradient.expect("asked for").into_f32())
    };
    for cpu in Cpu::for_each_instruction_set() {
        let (results, gradient) = run(&cpu, 0..rows);
        for row in 0..rows {
            let (result, alone) = run(&cpu, row..row + 1);
            assert_eq!(results[row], result[0], "row {row}, {}", cpu.describe());
            let together = &gradient[row * classes..(row + 1) * classes];
            assert_eq!(together, alone, "row {row}, {}", cpu.describe());
        }
        assert!(results[5].loss.is_infinite() && results[9].is_ignored());
    }
}
