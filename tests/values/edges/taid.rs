//! TAID where the sum of its mixture is near the end of f32.

use super::engines;
use crate::cases::Tolerance;
use crate::cases::tolerance::assert_close;
use wgpu_distill::{
    Batch, Config, Divergence, NonFinite, Outputs, Progress, Reduction, Selection, flags, reference,
};

const CLASSES: usize = 40;

/// A row whose peaks are `distance` nats apart. All other classes are far below both.
fn peaks(distance: f32) -> [Vec<f32>; 2] {
    [3, 30].map(|peak| {
        let mut row = vec![0.0; CLASSES];
        row[peak] = distance;
        row
    })
}

/// The share, distances at which the largest term of the mixture's sum is above 1.2e-38 by a factor of 2 or more, and one at which it is
/// below by more than the two terms make up for.
const BORDERS: [(f32, [f32; 4], f32); 3] = [
    (0.5, [20.0, 130.0, 165.0, 173.0], 177.0),
    (0.25, [20.0, 250.0, 330.0, 346.0], 353.0),
    (0.875, [20.0, 500.0, 650.0, 692.0], 704.0),
];

fn config(share: f32) -> Config {
    Config {
        divergence: Divergence::Taid { share },
        selection: Selection::Fixed(0.0),
        reduction: Reduction::Sum,
        // A loss scale of mixed-precision training.
        grad_loss: 65_536.0,
        ..Config::default()
    }
}

#[test]
fn distant_peaks_keep_loss_and_gradient() {
    for (share, distances, _) in BORDERS {
        for distance in distances {
            let [student, teacher] = peaks(distance);
            let batch = Batch::new(&student, &teacher, &[0], CLASSES);
            let config = config(share);
            let want = reference::distill(&config, Progress::NONE, &batch).expect("valid");
            let gradient = want.grad_student_logits.iter();
            let largest = gradient.fold(0.0f64, |m, x| m.max(*x));
            // Below 1/2 the mixture is nearly the student.
            assert!(largest > 1e4 || share < 0.5, "{want:?}");
            for engine in engines() {
                let about = format!("{share}, {distance} nats, {}", engine.describe());
                let done = engine.run(&config, Progress::NONE, &batch, Outputs::ALL);
                let done = done.unwrap_or_else(|e| panic!("{about}: {e}"));
                assert_eq!(done.rows[0].flags & flags::NO_GRADIENT, 0, "{about}");
                // The loss is a difference of logarithms up to 87.3.
                let allowed = 2e-5 + 1e-5 * want.summary.loss;
                let loss = f64::from(done.summary.loss);
                assert_close(&about, loss, want.summary.loss, allowed);
                // So is the rounding of the mixture's exponents.
                let allowed = Tolerance::F32.gradient(largest, 65_536.0) + 65_536.0 * 1e-5;
                let gradient = done.into_grad_student_logits().into_iter();
                for (got, want) in gradient.zip(&want.grad_student_logits) {
                    assert_close(&about, f64::from(got), *want, allowed);
                }
            }
        }
    }
}

/// The loss is finite in exact arithmetic. No engine reports another finite number.
#[test]
fn a_mixture_below_f32_is_infinite_and_flagged() {
    for (share, _, distance) in BORDERS {
        let [student, teacher] = peaks(distance);
        let batch = Batch::new(&student, &teacher, &[0], CLASSES);
        let exact = reference::distill(&config(share), Progress::NONE, &batch).expect("valid");
        assert!(exact.summary.loss < 1000.0, "{exact:?}");
        for engine in engines() {
            let about = format!("{share}, {distance} nats, {}", engine.describe());
            let run = |non_finite| {
                let config = Config {
                    non_finite,
                    ..config(share)
                };
                let done = engine.run(&config, Progress::NONE, &batch, Outputs::ALL);
                done.unwrap_or_else(|e| panic!("{about}: {e}"))
            };
            let done = run(NonFinite::Propagate);
            assert_eq!(done.summary.loss, f32::INFINITY, "{about}");
            assert_ne!(done.rows[0].flags & flags::NO_GRADIENT, 0, "{about}");
            let gradient = done.into_grad_student_logits();
            assert!(gradient.iter().all(|g| g.is_nan()), "{about}");
            let skipped = run(NonFinite::Skip);
            assert_eq!(skipped.summary.loss, 0.0, "{about}");
            assert!(skipped.into_grad_student_logits().iter().all(|g| *g == 0.0));
        }
    }
}
