//! Teacher and student in one buffer in every possible arrangement, with a gradient beside them.

use wgpu_distill::gpu::{Gpu, GpuBatch, GpuLogits, GpuOutputs};
use wgpu_distill::{Batch, Config, Error, Logits, Progress, Scope, Storage, Values, reference};

use crate::buffers;
use crate::cases::Case;
use crate::cases::compare;
use crate::cases::inputs::{Kind, Random, Stored};
use crate::record;

const ROWS: usize = 6;
const CLASSES: usize = 7;
const PROGRESS: Progress = Progress { step: 1, total: 3 };

/// Offset and stride of student and teacher, in elements.
const WAYS: [(&str, [usize; 2], [usize; 2]); 5] = [
    ("the same range", [3, 9], [3, 9]),
    ("one after the other", [0, 7], [42, 7]),
    ("row by row in turn", [0, 16], [8, 16]),
    ("shifted by a row", [0, 8], [8, 8]),
    ("shifted by an element", [0, 7], [1, 7]),
];

/// Elements of the buffer.
const ELEMENTS: usize = 112;

fn slice(values: Values<'_>, range: std::ops::Range<usize>) -> Values<'_> {
    match values {
        Values::F32(v) => Values::F32(&v[range]),
        Values::F16(v) => Values::F16(&v[range]),
        Values::Bf16(v) => Values::Bf16(&v[range]),
    }
}

fn numbers(storage: Storage) -> Stored {
    let mut random = Random::new(5);
    let values: Vec<f32> = (0..ELEMENTS).map(|_| 2.0 * random.normal()).collect();
    Stored::round(&values, storage)
}

fn widened(bytes: &[u8], storage: Storage) -> Vec<f32> {
    let n = bytes.len() / storage.bytes();
    match storage {
        Storage::F32 => bytemuck::pod_collect_to_vec(bytes),
        Storage::F16 => {
            let v = bytemuck::pod_collect_to_vec(bytes);
            (0..n).map(|i| Values::F16(&v).get(i)).collect()
        }
        Storage::Bf16 => {
            let v = bytemuck::pod_collect_to_vec(bytes);
            (0..n).map(|i| Values::Bf16(&v).get(i)).collect()
        }
    }
}

fn check(gpu: &Gpu, storage: Storage, scope: Scope) {
    let stored = numbers(storage);
    let bytes = stored.values().as_bytes();
    let labels = [0, 6, -100, 3, 2, 2];
    let labels_buffer = record::filled(gpu, bytemuck::cast_slice(&labels));
    let config = Config {
        scope,
        ..Config::default()
    };
    for (about, student, teacher) in WAYS {
        let about = format!("{about}, {storage:?}, {scope:?}, {}", gpu.describe());
        let host = |[offset, stride]: [usize; 2]| {
            let elements = (labels.len() - 1) * stride + CLASSES;
            let values = slice(stored.values(), offset..offset + elements);
            Logits::new(values, CLASSES).with_row_stride(stride)
        };
        let batch = Batch {
            student_logits: host(student),
            teacher_logits: host(teacher),
            labels: &labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let want = reference::distill(&config, PROGRESS, &batch).expect("valid");
        let inputs = record::filled(gpu, bytes);
        let on = |[offset, row_stride]: [usize; 2]| GpuLogits {
            offset: (offset * storage.bytes()) as u64,
            row_stride,
            ..GpuLogits::new(&inputs, storage, CLASSES)
        };
        let on_gpu = GpuBatch {
            rows: ROWS,
            student_logits: on(student),
            teacher_logits: on(teacher),
            labels: record::at(&labels_buffer, 0).into(),
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        let own = record::filled(gpu, &vec![0xa5; ROWS * CLASSES * storage.bytes()]);
        let outputs = |gradient| GpuOutputs {
            gradient: Some(gradient),
            ..GpuOutputs::default()
        };
        let beside = outputs(GpuLogits::new(&own, storage, CLASSES));
        let run = record::run(gpu, &config, PROGRESS, &on_gpu, beside, &[&inputs, &own]);
        let (mut got, read) = run.unwrap_or_else(|e| panic!("{about}: {e}"));
        assert_eq!(read[0], bytes, "{about}: the inputs were written");
        got.gradient = widened(&read[1], storage);
        let mut case = Case::of_shape(ROWS, CLASSES, Kind::Normal, [storage; 3]);
        case.config = config;
        if let Err(why) = compare::check(&case, &want, &got) {
            panic!("{about}: {why}");
        }

        // In place, the teacher must lie outside of the student's range. The gaps between the student's rows are inside.
        let run = record::run(
            gpu,
            &config,
            PROGRESS,
            &on_gpu,
            outputs(on(student)),
            &[&inputs],
        );
        if !about.starts_with("one after the other") {
            let refused = matches!(run, Err(Error::BufferOverlap { .. }));
            assert!(refused, "{about}: in place over the teacher");
            continue;
        }
        let (mut got, read) = run.unwrap_or_else(|e| panic!("{about}, in place: {e}"));
        let end = ROWS * CLASSES * storage.bytes();
        assert_eq!(
            read[0][end..],
            bytes[end..],
            "{about}: the teacher was written"
        );
        got.gradient = widened(&read[0][..end], storage);
        if let Err(why) = compare::check(&case, &want, &got) {
            panic!("{about}, in place: {why}");
        }
    }
}

#[test]
fn teacher_and_student_in_one_buffer() {
    let Some(gpu) = buffers::gpu() else { return };
    for storage in Storage::ALL {
        for scope in [Scope::Row, Scope::Batch] {
            check(&gpu, storage, scope);
        }
    }
}

/// On slices teacher and student can be the same memory. The loss is then the label's cross-entropy where TSSR is 1.
#[test]
fn a_student_that_is_its_own_teacher() {
    let stored = numbers(Storage::F32);
    let labels = [0, 6, -100, 3, 2, 2];
    let values = slice(stored.values(), 3..3 + labels.len() * CLASSES);
    let batch = Batch::new(values, values, &labels, CLASSES);
    let mut case = Case::of_shape(ROWS, CLASSES, Kind::Identical, [Storage::F32; 3]);
    case.config.selection = wgpu_distill::Selection::Kdr;
    super::check("its own teacher", &case, &batch);
}
