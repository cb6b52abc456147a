//! Micro-batches with `Scope::Batch` as `Reduction::SumOver` documents them: loss and gradient equal those of the whole batch.

use wgpu_distill::{
    Batch, Config, GradWrite, GradientMut, Outputs, OutputsMut, Progress, Reduction, Scope,
};

use super::engines;
use crate::cases::Tolerance;
use crate::cases::inputs::{self, Kind};
use crate::cases::tolerance::{assert_close, gradient_weight};

#[test]
fn micro_batches_with_the_kdr_of_all_equal_the_whole() {
    let (rows, classes) = (50, 70);
    let (student, mut teacher) = inputs::logits(Kind::Normal, rows, classes, classes, 33);
    // 20 of the 50 rows have equal student and teacher logits, so that the KDR means of the micro-batches differ.
    teacher[..20 * classes].copy_from_slice(&student[..20 * classes]);
    let label = |row: usize| {
        if row % 7 == 2 {
            -100
        } else {
            (row % classes) as i32
        }
    };
    let labels: Vec<i32> = (0..rows).map(label).collect();
    let progress = Progress::new(9, 10);
    let config = Config {
        scope: Scope::Batch,
        ..Config::default()
    };
    let parts = [0..17, 17..18, 18..50];
    let batch = |part: &std::ops::Range<usize>| {
        let of = part.start * classes..part.end * classes;
        let (student, teacher) = (&student[of.clone()], &teacher[of]);
        Batch::new(student, teacher, &labels[part.clone()], classes)
    };
    for engine in engines() {
        let whole = engine.run(&config, progress, &batch(&(0..rows)), Outputs::GRADIENT);
        let whole = whole.expect("valid");
        let row = Config {
            scope: Scope::Row,
            ..config
        };
        let (mut kdr, mut averaged) = (0.0, 0);
        for part in &parts {
            let done = engine.run(&row, progress, &batch(part), Outputs::SUMMARY);
            let done = done.expect("valid").summary;
            let counted = done.valid_rows - done.non_finite_rows;
            kdr += f64::from(done.kdr) * f64::from(counted);
            averaged += counted;
        }
        let kdr = (kdr / f64::from(averaged)) as f32;
        // Both are means of the same KDRs, so half the promise is enough.
        let tolerance = Tolerance::F32.unit / 2.0;
        let both = [kdr, whole.summary.kdr].map(f64::from);
        assert_close("kdr", both[0], both[1], tolerance);
        let valid = whole.summary.valid_rows as f32;
        let given = |kdr: f32| Config {
            scope: Scope::Given(kdr.clamp(0.0, 1.0)),
            reduction: Reduction::SumOver(valid),
            grad_write: GradWrite::Accumulate,
            ..config
        };
        let run = |config_of: &dyn Fn(f32) -> Config| {
            let mut gradient = vec![0.0f32; rows * classes];
            let mut loss = 0.0;
            for part in &parts {
                let of = part.start * classes..part.end * classes;
                let own = &mut gradient[of];
                let outputs = OutputsMut::from(GradientMut::new(own, classes));
                let done = engine.run_into(&config_of(kdr), progress, &batch(part), outputs);
                loss += done.expect("valid").loss;
            }
            (loss, gradient)
        };
        let (loss, gradient) = run(&given);
        let want = f64::from(whole.summary.loss);
        let tolerance = Tolerance::F32.loss(want, 1.0);
        assert_close("loss", f64::from(loss), want, tolerance);
        let weight = gradient_weight(&config, whole.summary.valid_rows);
        let whole_gradient = whole.into_grad_student_logits();
        let apart = |gradient: &[f32]| {
            let pairs = gradient.iter().zip(&whole_gradient);
            pairs.map(|(g, w)| (g - w).abs()).fold(0.0, f32::max)
        };
        // One engine computes both, so the rounding of `p` and `y` alone remains.
        let tolerance = Tolerance::F32.of_two().gradient(0.0, weight);
        let off = f64::from(apart(&gradient));
        assert!(off <= tolerance, "{off:e}, allowed {tolerance:e}");
        // A KDR per micro-batch gives another gradient, so both passes are needed.
        let (_, own) = run(&|kdr| Config {
            scope: Scope::Batch,
            ..given(kdr)
        });
        assert!(apart(&own) > 1e-5, "{}", apart(&own));
    }
}
