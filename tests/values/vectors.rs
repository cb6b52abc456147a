//! The CPU path's vectors and tails: row lengths around a vector and a tile, odd addresses, canaries, every instruction set.
//!
//! The cases are small enough for Miri, which checks each access of the `unsafe` code:
//! `cargo +nightly miri test --package wgpu-distill --test values vectors::`.

use crate::cases::Tolerance;
use crate::cases::tolerance::assert_close;
use half::{bf16, f16};
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{Batch, Config, GradientMut, Logits, Progress, Similarity, Values, reference};

/// Around the 8 and 16 lanes of a vector, and around the 1,024 classes of a tile.
const CLASSES: [usize; 11] = [1, 2, 7, 8, 9, 15, 16, 17, 33, 1024, 1029];

const CANARY: f32 = -7777.0;

fn wave(n: usize, seed: f32) -> Vec<f32> {
    (0..n)
        .map(|i| 6.0 * (seed + 0.7 * i as f32).sin())
        .collect()
}

fn check(cpu: &Cpu, classes: usize, similarity: Similarity, head: usize) {
    let rows = 2;
    let stride = classes + 3;
    let elements = head + (rows - 1) * stride + classes;
    // Elements between the rows must not affect the result.
    let between = |i: usize| i < head || (i - head) % stride >= classes;
    let poisoned = |seed: f32| -> Vec<f32> {
        let all = wave(elements, seed).into_iter().enumerate();
        all.map(|(i, x)| if between(i) { f32::NAN } else { x })
            .collect()
    };
    let (student, teacher) = (poisoned(1.0), poisoned(2.0));
    let [s16, t16] = [&student, &teacher]
        .map(|v| -> Vec<bf16> { v.iter().map(|x| bf16::from_f32(*x)).collect() });
    let pairs = [
        (Values::F32(&student[head..]), Values::F32(&teacher[head..])),
        (Values::Bf16(&s16[head..]), Values::Bf16(&t16[head..])),
    ];
    let mut pairs = pairs.to_vec();
    let halves: Vec<f16>;
    // Miri does not support the instructions that convert f16.
    if !cfg!(miri) {
        halves = student.iter().map(|x| f16::from_f32(*x)).collect();
        pairs.push((Values::F16(&halves[head..]), Values::F32(&teacher[head..])));
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
        };
        let about = format!(
            "{}, {classes} classes, {similarity:?}, from {head}",
            cpu.describe()
        );
        let want = reference::distill(&config, progress, &batch).expect("valid");
        let mut gradient = vec![CANARY; rows * classes + 2 * head + 2];
        let end = head + rows * classes;
        let target = GradientMut::new(&mut gradient[head..end], classes).into();
        let got = cpu
            .run_into(&config, progress, &batch, target)
            .expect("valid");
        let tolerance = Tolerance::F32;
        let allowed = tolerance.loss(want.summary.loss, 1.0);
        assert_close(&about, f64::from(got.loss), want.summary.loss, allowed);
        assert_close(&about, f64::from(got.kdr), want.summary.kdr, tolerance.unit);
        for (got, want) in gradient[head..end].iter().zip(&want.grad_student_logits) {
            assert_close(&about, f64::from(*got), *want, 1e-6);
        }
        let outside = gradient[..head].iter().chain(&gradient[end..]);
        assert!(
            outside.into_iter().all(|x| *x == CANARY),
            "{about}: written beside the gradient"
        );
    }
}

#[test]
fn vectors_stay_within_their_rows() {
    // Miri takes minutes where a normal run takes milliseconds, so each length has one similarity and one address.
    let heads = if cfg!(miri) { 1..2 } else { 0..6 };
    for cpu in Cpu::for_each_instruction_set() {
        println!("{}", cpu.describe());
        for (i, classes) in CLASSES.into_iter().enumerate() {
            for (j, similarity) in Similarity::ALL.into_iter().enumerate() {
                if cfg!(miri) && i % Similarity::ALL.len() != j {
                    continue;
                }
                for head in heads.clone() {
                    check(&cpu, classes, similarity, head);
                }
            }
        }
    }
}
