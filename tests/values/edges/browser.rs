//! Buffers that a browser would refuse give an error of this crate. Buffers that a browser accepts are accepted.

use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs};
use wgpu_distill::{Config, Error, Progress, Result, Scope, Storage};

use crate::cases::inputs::Random;
use crate::record;
use crate::{adapter, buffers};

const ROWS: usize = 6;
const CLASSES: usize = 7;

/// One buffer with labels, student and teacher, each at a multiple of 256 bytes, and the gradient at `gradient`.
///
/// Returns the bytes of the whole buffer.
fn run(gpu: &Gpu, scope: Scope, gradient: u64) -> Result<Vec<u8>> {
    let mut random = Random::new(9);
    let mut words: Vec<f32> = (0..256).map(|_| random.normal()).collect();
    for (word, label) in words.iter_mut().zip([0, 6, -100, 3, 2, 2_i32]) {
        *word = f32::from_bits(label.cast_unsigned());
    }
    let whole = record::filled(gpu, bytemuck::cast_slice(&words));
    let matrix = |offset| GpuLogits {
        offset,
        ..GpuLogits::new(&whole, Storage::F32, CLASSES)
    };
    let batch = GpuBatch {
        rows: ROWS,
        student_logits: matrix(256),
        teacher_logits: matrix(512),
        labels: record::at(&whole, 0).into(),
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let outputs = GpuOutputs {
        gradient: Some(matrix(gradient)),
        ..GpuOutputs::default()
    };
    let config = Config {
        scope,
        ..Config::default()
    };
    let progress = Progress::new(1, 3);
    record::run(gpu, &config, progress, &batch, outputs, &[&whole])
        .map(|(_, mut read)| read.remove(0))
}

#[test]
fn browser_rules() {
    let Some(gpu) = buffers::gpu() else { return };
    let browser = adapter::by_browser_rules().expect("an adapter");
    for scope in [Scope::Row, Scope::Batch] {
        let apart = run(&browser, scope, 768).expect("nothing overlaps");
        assert_eq!(apart, run(&gpu, scope, 768).expect("valid"), "{scope:?}");

        // In place, the gradient and the student share one binding.
        let in_place = run(&browser, scope, 256).expect("one binding overlaps nothing");
        let gradient = ROWS * CLASSES * 4;
        assert_eq!(
            in_place[256..256 + gradient],
            apart[768..768 + gradient],
            "{scope:?}"
        );

        // The gradient follows the teacher so closely that its binding begins before the teacher ends.
        run(&gpu, scope, 704).expect("allowed natively");
        match run(&browser, scope, 704) {
            Err(Error::BufferOverlap { first, second, .. }) => {
                assert_eq!((first, second), ("teacher_logits", "gradient"), "{scope:?}");
            }
            other => panic!("{scope:?}: {other:?}"),
        }
    }
}
