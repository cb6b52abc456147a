//! Rows in shards: devices with rows of one batch agree on the batch's mean by two numbers for KDR and one for the labels.

use wgpu_distill::{
    Batch, Config, Engine, GradWrite, GradientMut, KdrSum, Outputs, OutputsMut, Progress,
    Reduction, RowStats, Scope, Shard, Similarity, finish_shards, merge_shards, reference,
};

use super::{cuts, slice};
use crate::adapter;
use crate::cases::Tolerance;
use crate::cases::inputs::{self, Kind};
use crate::cases::tolerance::{assert_close, gradient_weight};
use crate::steps::Steps;

const ROWS: usize = 41;
const CLASSES: usize = 70;

/// The rows of each device. One has no label, one has a single row, one has none.
const DEVICES: [std::ops::Range<usize>; 5] = [0..17, 17..18, 18..18, 18..21, 21..41];

struct Inputs {
    student: Vec<f32>,
    teacher: Vec<f32>,
    labels: Vec<i32>,
}

impl Inputs {
    fn new() -> Self {
        let (student, mut teacher) = inputs::logits(Kind::Normal, ROWS, CLASSES, CLASSES, 34);
        // Rows with equal logits, so that the mean KDR of the devices differs.
        teacher[..15 * CLASSES].copy_from_slice(&student[..15 * CLASSES]);
        let ignored = |row: usize| (18..21).contains(&row) || row % 7 == 2;
        let label = |row: usize| match ignored(row) {
            true => -100,
            false => (row % CLASSES) as i32,
        };
        Self {
            student,
            teacher,
            labels: (0..ROWS).map(label).collect(),
        }
    }

    fn batch(&self, rows: &std::ops::Range<usize>) -> Batch<'_> {
        let of = rows.start * CLASSES..rows.end * CLASSES;
        let labels = &self.labels[rows.clone()];
        Batch::new(
            &self.student[of.clone()],
            &self.teacher[of],
            labels,
            CLASSES,
        )
    }

    /// The labels of a device that count.
    fn counted(&self, rows: &std::ops::Range<usize>) -> u32 {
        let labels = &self.labels[rows.clone()];
        labels.iter().filter(|label| **label != -100).count() as u32
    }
}

fn engines() -> Vec<Engine> {
    let gpu = adapter::gpu().map(Engine::Gpu);
    [Engine::cpu()].into_iter().chain(gpu).collect()
}

/// Compares the sums over the devices with the reference of the whole batch.
fn check(config: &Config, progress: Progress, loss: f64, gradient: &[f32], inputs: &Inputs) {
    let want = reference::distill(config, progress, &inputs.batch(&(0..ROWS))).expect("valid");
    let tolerance = Tolerance::F32.loss(want.summary.loss, 1.0);
    assert_close("loss", loss, want.summary.loss, tolerance);
    let weight = gradient_weight(config, want.summary.valid_rows);
    let rows = gradient.chunks(CLASSES);
    assert_eq!(rows.len(), ROWS);
    for (g, w) in rows.zip(want.grad_student_logits.chunks(CLASSES)) {
        let largest = w.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let tolerance = Tolerance::F32.gradient(largest, weight);
        for (g, w) in g.iter().zip(w) {
            assert_close("gradient", f64::from(*g), *w, tolerance);
        }
    }
}

#[test]
fn devices_with_rows_give_the_mean_of_the_batch() {
    let inputs = Inputs::new();
    let progress = Progress::new(9, 10);
    for engine in engines() {
        for scope in [Scope::Row, Scope::Batch] {
            let config = Config {
                scope,
                ..Config::default()
            };
            let valid: u32 = DEVICES.iter().map(|rows| inputs.counted(rows)).sum();
            let mut kdr = KdrSum::default();
            for rows in &DEVICES {
                let row = Config::default();
                let done = engine.run(&row, progress, &inputs.batch(rows), Outputs::SUMMARY);
                let own = KdrSum::of_summary(&done.expect("valid").summary);
                let stats = engine.observe(&row, &inputs.batch(rows)).expect("valid");
                let of_rows = KdrSum::of_rows(&stats);
                assert_eq!(own.rows, of_rows.rows);
                assert_eq!(own.rows, u64::from(inputs.counted(rows)));
                let tolerance = Tolerance::F32.unit;
                assert_close(
                    "KDR of a device",
                    own.mean().into(),
                    of_rows.mean().into(),
                    tolerance,
                );
                kdr = kdr.merge(&own);
            }
            let scope = match scope {
                Scope::Batch => kdr.scope(),
                other => other,
            };
            let own = Config {
                scope,
                reduction: Reduction::SumOver(valid as f32),
                grad_write: GradWrite::Accumulate,
                ..config
            };
            let mut gradient = vec![0.0f32; ROWS * CLASSES];
            let mut loss = 0.0;
            for rows in &DEVICES {
                let part = &mut gradient[rows.start * CLASSES..rows.end * CLASSES];
                let outputs = OutputsMut::from(GradientMut::new(part, CLASSES));
                let done = engine.run_into(&own, progress, &inputs.batch(rows), outputs);
                loss += f64::from(done.expect("valid").loss);
            }
            check(&config, progress, loss, &gradient, &inputs);
        }
    }
}

#[test]
fn no_rows_have_a_mean_of_0() {
    let none = KdrSum::default();
    assert_eq!((none.mean(), none.scope()), (0.0, Scope::Given(0.0)));
    assert_eq!(none.merge(&KdrSum::of_rows(&[])), none);
    assert_eq!(size_of::<KdrSum>(), 16);
}

/// A grid of devices: each has some rows and some classes.
#[test]
fn devices_with_rows_and_classes_give_the_mean_of_the_batch() {
    let inputs = Inputs::new();
    let progress = Progress::new(9, 10);
    let config = Config {
        scope: Scope::Batch,
        similarity: Similarity::Overlap,
        ..Config::default()
    };
    let columns = cuts(CLASSES, 3, false);
    let groups: Vec<_> = DEVICES.iter().filter(|rows| !rows.is_empty()).collect();
    for engine in engines() {
        let mut of_groups = Vec::new();
        for rows in &groups {
            let batch = inputs.batch(rows);
            let own = |c: &std::ops::Range<usize>| {
                (Shard::new(c.start, CLASSES), slice(&batch, c, false))
            };
            let observed = columns.iter().map(|c| {
                let (shard, batch) = own(c);
                engine.observe_shard(&config, &batch, shard).expect("valid")
            });
            let observed: Vec<Vec<RowStats>> = observed.collect();
            let lists: Vec<&[RowStats]> = observed.iter().map(Vec::as_slice).collect();
            let merged = merge_shards(&config, &lists).expect("they meet");
            let swept = columns.iter().map(|c| {
                let (shard, batch) = own(c);
                let sums = engine.sweep_shard(&config, &batch, shard, &merged);
                sums.expect("valid")
            });
            let swept: Vec<_> = swept.collect();
            let lists: Vec<_> = swept.iter().map(Vec::as_slice).collect();
            of_groups.push(finish_shards(&config, &merged, &lists).expect("whole"));
        }
        let sums = of_groups.iter().map(|stats| KdrSum::of_rows(stats));
        let kdr = sums.fold(KdrSum::default(), |all, own| all.merge(&own));
        let valid: u32 = groups.iter().map(|rows| inputs.counted(rows)).sum();
        let given = Config {
            scope: kdr.scope(),
            reduction: Reduction::SumOver(valid as f32),
            ..config
        };
        let mut gradient = vec![f32::NAN; ROWS * CLASSES];
        let mut loss = 0.0;
        for (rows, stats) in groups.iter().zip(&of_groups) {
            let batch = inputs.batch(rows);
            let decisions = engine.decide(&given, progress, stats, CLASSES);
            let decisions = decisions.expect("valid");
            let losses = decisions.iter().map(|d| f64::from(d.result.loss));
            loss += losses.sum::<f64>() / f64::from(valid);
            for c in &columns {
                let shard = Shard::new(c.start, CLASSES);
                let own = slice(&batch, c, false);
                let part = engine.apply_shard(&given, &own, shard, &decisions);
                for (i, part) in part.expect("valid").chunks(c.len()).enumerate() {
                    let at = (rows.start + i) * CLASSES;
                    gradient[at + c.start..at + c.end].copy_from_slice(part);
                }
            }
        }
        check(&config, progress, loss, &gradient, &inputs);
    }
}
