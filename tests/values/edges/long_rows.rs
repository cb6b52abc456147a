//! The KDR error of rows as long as a vocabulary: within the promise for all temperatures, common offsets and storage types.

use wgpu_distill::{
    Batch, Config, Engine, Outputs, Progress, Reduction, Similarity, Storage, reference,
};

use crate::adapter;
use crate::cases::inputs::{self, Kind, Stored};
use crate::cases::{self, Tolerance};

const PROMISE: f64 = Tolerance::F32.unit;

/// Rows and classes. A lane of a software adapter adds thousands of vectors. A quick run has the first two.
const SHAPES: [(usize, usize); 3] = [(5, 32_000), (1, 262_144), (2, 128_256)];

/// Student and teacher temperatures. With (7.3, 1) the distributions differ class by class. With (0.7, 50) the teacher is nearly flat.
const TEMPERATURES: [(f32, f32); 3] = [(7.3, 1.0), (7.3, 7.3), (0.7, 50.0)];

/// Logits of every storage type at an offset, and logits whose terms are all equal. A plain sum of equal terms rounds in one direction.
fn inputs() -> Vec<(Kind, Storage)> {
    vec![
        (Kind::Offset(1000.0), Storage::Bf16),
        (Kind::Offset(-300.0), Storage::F16),
        (Kind::Offset(0.0), Storage::F32),
        (Kind::Identical, Storage::F32),
        (Kind::Flat, Storage::F32),
        (Kind::FlatHalves, Storage::F32),
    ]
}

/// The largest error of KDR. Panics if it exceeds the bound.
fn largest_error(similarity: Similarity, engines: &[Engine]) -> f64 {
    let shapes = if cases::is_full() { 3 } else { 2 };
    let mut worst = 0.0f64;
    for (kind, storage) in inputs() {
        for (rows, classes) in SHAPES.into_iter().take(shapes) {
            let (student, teacher) = inputs::logits(kind, rows, classes, classes, 9);
            let student = Stored::round(&student, storage);
            let teacher = Stored::round(&teacher, storage);
            let labels = vec![1; rows];
            let batch = Batch::new(student.values(), teacher.values(), &labels, classes);
            for (student_temperature, teacher_temperature) in TEMPERATURES {
                let config = Config {
                    similarity,
                    student_temperature,
                    teacher_temperature,
                    reduction: Reduction::Sum,
                    ..Config::default()
                };
                let progress = Progress::new(1, 2);
                let want = reference::observe(&config, &batch).expect("valid");
                let outputs = Outputs {
                    rows: true,
                    gradient: None,
                    metrics: false,
                };
                for engine in engines {
                    let got = engine
                        .run(&config, progress, &batch, outputs)
                        .expect("valid");
                    assert_eq!(got.rows.len(), rows);
                    for (g, w) in got.rows.iter().zip(&want) {
                        let error = (f64::from(g.kdr) - w.kdr).abs();
                        worst = worst.max(error);
                        assert!(
                            error <= PROMISE,
                            "{} {storage:?} {kind:?} {rows} x {classes} at {student_temperature} and {teacher_temperature}, {}: {}, want {}",
                            similarity.name(),
                            engine.describe(),
                            g.kdr,
                            w.kdr,
                        );
                    }
                }
            }
        }
    }
    worst
}

#[test]
fn kdr_of_long_rows() {
    let gpus = [adapter::gpu(), adapter::without_subgroups()];
    let gpus = gpus.into_iter().flatten().map(Engine::Gpu);
    let engines: Vec<Engine> = [Engine::cpu()].into_iter().chain(gpus).collect();
    for similarity in Similarity::ALL {
        let worst = largest_error(similarity, &engines);
        println!(
            "KDR of long rows, {}: off by {worst:.1e} at most",
            similarity.name()
        );
    }
}
