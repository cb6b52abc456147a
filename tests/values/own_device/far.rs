//! Rows so far apart that the last starts beyond 2^31 elements and 2^32 bytes give the same results as contiguous rows.

use crate::steps::Steps;
use wgpu_distill::cpu::Cpu;
use wgpu_distill::{
    Batch, Config, Engine, Logits, Outputs, Progress, Scope, half, reference, wgpu,
};

use super::{App, ROUNDING, TOLERANCE, check_rows, check_summary, close, labels, noise};

const ROWS: usize = 10;
const CLASSES: usize = 37;
/// The largest allowed stride.
const STRIDE: usize = 1 << 28;
/// Elements from a student's row to its teacher's row in the shared allocation.
const BESIDE: usize = 4096;

/// 5 GB of zeros, of which the system commits only the pages that are written.
///
/// Holds the rows of both matrices at the stride and contiguously.
struct Work {
    far: Vec<half::bf16>,
    close: [Vec<half::bf16>; 2],
    labels: Vec<i32>,
}

impl Work {
    fn new() -> Self {
        let halves = |seed| -> Vec<half::bf16> {
            let values = noise(ROWS * CLASSES, seed);
            values.into_iter().map(half::bf16::from_f32).collect()
        };
        let close = [halves(51), halves(52)];
        let elements = (ROWS - 1) * STRIDE + BESIDE + CLASSES;
        let mut far: Vec<half::bf16> = bytemuck::allocation::zeroed_vec(elements);
        for (n, matrix) in close.iter().enumerate() {
            for (row, values) in matrix.chunks(CLASSES).enumerate() {
                far[row * STRIDE + n * BESIDE..][..CLASSES].copy_from_slice(values);
            }
        }
        Self {
            far,
            close,
            labels: labels(ROWS, CLASSES),
        }
    }

    fn far(&self) -> Batch<'_> {
        let matrix =
            |start: usize| Logits::new(&self.far[start..], CLASSES).with_row_stride(STRIDE);
        Batch {
            student_logits: matrix(0),
            teacher_logits: matrix(BESIDE),
            labels: &self.labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        }
    }

    fn close(&self) -> Batch<'_> {
        let [student, teacher] = &self.close;
        Batch {
            student_logits: Logits::new(&student[..], CLASSES),
            teacher_logits: Logits::new(&teacher[..], CLASSES),
            labels: &self.labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        }
    }
}

#[test]
fn rows_beyond_2_to_the_31_elements() {
    let work = Work::new();
    let (far, near) = (work.far(), work.close());
    let gpu = App::new(wgpu::Limits::default()).map(|app| Engine::Gpu(app.gpu()));
    let progress = Progress::new(1, 3);
    for scope in [Scope::Row, Scope::Batch] {
        let config = Config {
            scope,
            ..Config::default()
        };
        // The CPU path gives the same bits with every instruction set.
        for cpu in Cpu::for_each_instruction_set() {
            let run = |batch| cpu.run(&config, progress, batch, Outputs::ALL);
            let got = run(&far);
            assert!(got.is_ok(), "{got:?}");
            assert_eq!(got, run(&near), "{}, {scope:?}", cpu.describe());
            let softmax = |l: &Logits<'_>| cpu.softmax(l, ROWS, 2.0).expect("valid");
            let [ours, theirs] = [&far, &near].map(|b| softmax(&b.teacher_logits));
            assert_eq!(ours, theirs, "{}", cpu.describe());
            let stats = |batch| cpu.observe(&config, batch).expect("valid");
            assert_eq!(stats(&far), stats(&near), "{}", cpu.describe());
        }
        // Slices on the GPU, where each row is a row range of its own.
        let Some(engine) = &gpu else { continue };
        let about = format!("{}, {scope:?}", engine.describe());
        let want = reference::distill(&config, progress, &near).expect("valid");
        let got = engine.run(&config, progress, &far, Outputs::ALL);
        let got = got.unwrap_or_else(|e| panic!("{about}: {e}"));
        check_summary(&about, &want.summary, &got.summary);
        let rows = got.rows.clone();
        let w = 1.0 / f64::from(want.summary.valid_rows);
        let gradient = got.into_grad_student_logits();
        check_rows(&about, &want, &rows, &gradient, 1.0, ROUNDING * w);
        let p = engine
            .softmax(&far.teacher_logits, ROWS, 2.0)
            .expect("valid");
        let wanted = reference::softmax(&near.teacher_logits, ROWS, 2.0).expect("valid");
        assert_eq!(p.len(), wanted.len());
        for (got, want) in p.iter().zip(wanted) {
            close(&about, *got, want, TOLERANCE.gradient(want, 1.0));
        }
    }
}
