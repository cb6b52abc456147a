//! Refusals: choices whose statistics do not merge, and shards that do not add up, by name and on every engine.

use wgpu_distill::{
    Batch, Config, Decision, Divergence, Engine, Error, GradWrite, Logits, Progress, Result,
    RowStats, Shard, Similarity, Standardization, SweepSums, finish_shards, merge_shards,
};

use super::slice;
use crate::adapter;
use crate::cases::Case;
use crate::cases::inputs::Kind;
use crate::steps::Steps;

const CLASSES: usize = 12;

fn engines() -> Vec<Engine> {
    let gpu = adapter::gpu().map(Engine::Gpu);
    [Engine::cpu()].into_iter().chain(gpu).collect()
}

/// The errors of every step on a slice.
fn steps(engine: &Engine, config: &Config, batch: &Batch<'_>, shard: Shard) -> Vec<Error> {
    let rows = batch.rows();
    let stats = vec![RowStats::identity(); rows];
    let decisions = vec![Decision::default(); rows];
    let refused = |done: Result<()>| done.expect_err("refused");
    vec![
        refused(engine.observe_shard(config, batch, shard).map(drop)),
        refused(engine.sweep_shard(config, batch, shard, &stats).map(drop)),
        refused(
            engine
                .apply_shard(config, batch, shard, &decisions)
                .map(drop),
        ),
    ]
}

/// Fails unless every step names the option that it does not support.
fn unsupported(config: &Config, batch: &Batch<'_>, shard: Shard, name: &str) {
    for engine in engines() {
        for error in steps(&engine, config, batch, shard) {
            let Error::Unsupported { what, why } = error else {
                panic!("{}, {name}: {error}", engine.describe());
            };
            assert!(what.contains(name) && !why.is_empty(), "{what}: {why}");
        }
    }
}

#[test]
fn choices_that_do_not_merge_are_refused_by_name() {
    let logits = [0.5f32; 4];
    let batch = Batch::new(&logits, &logits, &[1, 5], 2);
    let shard = Shard::new(4, CLASSES);
    let config = Config::default();
    let z = Config {
        standardization: Standardization::ZScore,
        ..config
    };
    unsupported(&z, &batch, shard, "`Standardization::ZScore`");
    for error in [
        merge_shards(&z, &[]).map(drop),
        finish_shards(&z, &[], &[]).map(drop),
        RowStats::identity()
            .merge(&RowStats::identity(), &z)
            .map(drop),
    ] {
        let text = error.expect_err("refused").to_string();
        assert!(text.contains("`Standardization::ZScore`"), "{text}");
    }
    let weighted = batch.with_class_weights(&[1.0, 2.0]);
    unsupported(&config, &weighted, shard, "`class_weights`");
    let listed = Batch::top_k(&logits, &logits[..2], &[0, 1], &[1, 5], 2);
    unsupported(&config, &listed, shard, "`teacher_ids`");
    let narrow = Batch {
        teacher_logits: Logits::new(&logits[..2], 1),
        ..batch
    };
    unsupported(
        &config,
        &narrow,
        shard,
        "a teacher with 1 columns beside a student with 2",
    );
}

#[test]
fn labels_are_classes_of_all_shards() {
    let logits = [0.5f32; 4];
    let shard = Shard::new(4, CLASSES);
    let config = Config::default();
    for engine in engines() {
        for label in [-1, CLASSES as i32, i32::MIN, i32::MAX] {
            let labels = [3, label];
            let batch = Batch::new(&logits, &logits, &labels, 2);
            for error in steps(&engine, &config, &batch, shard) {
                let want = Error::LabelOutOfRange {
                    row: 1,
                    label,
                    classes: CLASSES,
                };
                assert_eq!(error, want);
            }
        }
        for (first_class, classes) in [(11, CLASSES), (usize::MAX, CLASSES), (0, 1)] {
            let batch = Batch::new(&logits, &logits, &[0, 0], 2);
            for error in steps(&engine, &config, &batch, Shard::new(first_class, classes)) {
                let want = Error::ShardRange {
                    first_class,
                    own: 2,
                    classes,
                };
                assert_eq!(error, want);
            }
        }
        let batch = Batch::new(&logits, &logits, &[0, 0], 2);
        let too_many = Shard::new(0, (1 << 28) + 1);
        for error in steps(&engine, &config, &batch, too_many) {
            assert!(matches!(error, Error::LimitExceeded { .. }), "{error}");
        }
        let accumulate = Config {
            grad_write: GradWrite::Accumulate,
            ..config
        };
        let decisions = [Decision::default(); 2];
        let done = engine.apply_shard(&accumulate, &batch, shard, &decisions);
        assert!(matches!(done, Err(Error::Unsupported { .. })), "{done:?}");
        let done = engine.apply_shard(&config, &batch, shard, &decisions[1..]);
        let want = Error::RowCount {
            name: "decisions",
            rows: 2,
            got: 1,
        };
        assert_eq!(done, Err(want));
    }
}

/// Two shards of a case's rows, of classes 0..5 and 5..12.
fn two_shards(config: &Config, case: &Case) -> [Vec<RowStats>; 2] {
    let (host, cpu) = (case.host(), Engine::cpu());
    let batch = host.batch();
    [0..5, 5..CLASSES].map(|columns| {
        let shard = Shard::new(columns.start, CLASSES);
        let own = slice(&batch, &columns, false);
        cpu.observe_shard(config, &own, shard).expect("valid")
    })
}

/// Fails unless an error of a row has this reason.
fn refused<T: std::fmt::Debug>(done: Result<T>, want_row: usize, part: &str) {
    match done {
        Err(Error::Shards { row, why }) => {
            assert_eq!(row, want_row, "{why}");
            assert!(why.contains(part), "`{why}` without `{part}`");
        }
        other => panic!("{other:?}, expected `{part}`"),
    }
}

#[test]
fn shards_that_do_not_add_up_are_refused() {
    let storage = [wgpu_distill::Storage::F32; 3];
    let case = Case::of_shape(4, CLASSES, Kind::Normal, storage);
    let config = Config::default();
    let [a, b] = two_shards(&config, &case);
    let merge = |shards: &[&[RowStats]]| merge_shards(&config, shards);
    let whole = merge(&[&a, &b]).expect("they meet");
    // Another order, one twice, a gap.
    refused(merge(&[&b, &a]), 0, "class 12 follows");
    refused(merge(&[&a, &a]), 0, "class 5 follows");
    let changed = |row: usize, change: fn(&mut RowStats)| {
        let mut b = b.clone();
        change(&mut b[row]);
        b
    };
    let gap = changed(2, |stats| stats.first_class = 6);
    refused(merge(&[&a, &gap]), 2, "starts at class 6");
    // Other rows, other vocabularies, whole rows.
    let other = changed(3, |stats| stats.label += 1);
    refused(merge(&[&a, &other]), 3, "label");
    let other = changed(1, |stats| stats.all_classes = 13);
    refused(merge(&[&a, &other]), 1, "the next of 13");
    let other = changed(1, |stats| stats.flags |= wgpu_distill::flags::IGNORED);
    refused(merge(&[&a, &other]), 1, "ignored");
    let twice = [&a, &b].map(|shard| {
        let mut shard = shard.clone();
        shard[0].flags &= !wgpu_distill::flags::LABEL_ELSEWHERE;
        shard
    });
    refused(merge(&[&twice[0], &twice[1]]), 0, "two have the label");
    let none = [&a, &b].map(|shard| {
        let mut shard = shard.clone();
        shard[0].flags |= wgpu_distill::flags::LABEL_ELSEWHERE;
        shard
    });
    let none = merge(&[&none[0], &none[1]]).expect("they meet");
    refused(finish_shards(&config, &none, &[]), 0, "none has the label");
    let finished = finish_shards(&config, &whole, &[]).expect("whole");
    refused(merge(&[&finished, &b]), 0, "whole rows");
    refused(finish_shards(&config, &finished, &[]), 0, "whole row");
    let rows = Error::RowCount {
        name: "shards",
        rows: 4,
        got: 3,
    };
    assert_eq!(merge(&[&a, &b[1..]]), Err(rows));
    // A part of the classes.
    for part in [&a, &b] {
        refused(finish_shards(&config, part, &[]), 0, "cover the classes");
    }
    refused(
        finish_shards(&config, &[RowStats::identity()], &[]),
        0,
        "cover the classes",
    );
    assert_eq!(merge(&[]), Ok(vec![]));
    // More rows than a task of the merge: the error names the first.
    let many = |shard: &[RowStats]| shard.repeat(2_000);
    let (a, mut b) = (many(&a), many(&b));
    assert_eq!(merge(&[&a, &b]).expect("they meet"), many(&whole));
    (b[3_777].first_class, b[7_000].first_class) = (7, 7);
    refused(merge(&[&a, &b]), 3_777, "starts at class 7");
}

/// The second exchange is neither left out nor made for nothing.
#[test]
fn sums_of_the_second_sweep_cover_all_classes() {
    let storage = [wgpu_distill::Storage::F32; 3];
    let case = Case::of_shape(4, CLASSES, Kind::Normal, storage);
    let two = Config {
        similarity: Similarity::Overlap,
        ..Config::default()
    };
    let loss = Config {
        divergence: Divergence::TotalVariation,
        ..Config::default()
    };
    assert!(two.sweeps_twice() && loss.sweeps_twice());
    assert!(!Config::default().sweeps_twice());
    let host = case.host();
    let batch = host.batch();
    for engine in engines() {
        for config in [two, loss] {
            let [a, b] = two_shards(&config, &case);
            let merged = merge_shards(&config, &[&a, &b]).expect("they meet");
            let sweep = |columns: std::ops::Range<usize>, merged: &[RowStats]| {
                let shard = Shard::new(columns.start, CLASSES);
                engine.sweep_shard(&config, &slice(&batch, &columns, false), shard, merged)
            };
            let sums = [0..5, 5..CLASSES].map(|c| sweep(c, &merged).expect("valid"));
            let finish = |sums: &[&[SweepSums]]| finish_shards(&config, &merged, sums);
            assert!(finish(&[&sums[0], &sums[1]]).is_ok());
            refused(finish(&[]), 0, "cover 0 classes, expected 12");
            refused(finish(&[&sums[0]]), 0, "cover 5 classes");
            refused(finish(&[&sums[1], &sums[1]]), 0, "cover 14 classes");
            let rows = Error::RowCount {
                name: "sweeps",
                rows: 4,
                got: 2,
            };
            assert_eq!(finish(&[&sums[0], &sums[1][2..]]), Err(rows));
            refused(sweep(0..5, &a), 0, "cover the classes 0 to 5");
            let rows = Error::RowCount {
                name: "merged",
                rows: 4,
                got: 3,
            };
            assert_eq!(sweep(0..5, &merged[1..]), Err(rows));
        }
        let config = Config::default();
        let [a, b] = two_shards(&config, &case);
        let merged = merge_shards(&config, &[&a, &b]).expect("they meet");
        let shard = Shard::new(0, CLASSES);
        let own = slice(&batch, &(0..5), false);
        let sums = engine.sweep_shard(&config, &own, shard, &merged);
        let sums = sums.expect("valid");
        assert!(
            sums.iter()
                .all(|s| [s.similarity, s.first, s.second] == [0.0; 3])
        );
        let done = finish_shards(&config, &merged, &[&sums]);
        refused(done, 0, "cover 5 classes, expected 0");
    }
}

#[test]
fn statistics_of_shards_are_no_statistics_of_rows() {
    let storage = [wgpu_distill::Storage::F32; 3];
    let case = Case::of_shape(4, CLASSES, Kind::Normal, storage);
    let config = Config::default();
    let [a, b] = two_shards(&config, &case);
    let merged = merge_shards(&config, &[&a, &b]).expect("they meet");
    let mut row_stats = finish_shards(&config, &merged, &[]).expect("whole");
    for engine in engines() {
        let decide =
            |stats: &[RowStats]| engine.decide(&config, Progress::new(1, 2), stats, CLASSES);
        assert!(decide(&row_stats).is_ok());
        refused(decide(&merged), 0, "`finish_shards`");
    }
    row_stats[2] = a[2];
    refused(
        Engine::cpu().decide(&config, Progress::new(1, 2), &row_stats, CLASSES),
        2,
        "`finish_shards`",
    );
}
