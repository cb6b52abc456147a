//! The similarity lies in [0, 1], including where the exact value is 1 and rounding could exceed it.

use crate::steps::Steps;
use proptest::strategy::Strategy;
use wgpu_distill::{Engine, RowStats, Similarity};

use super::agree::{self, close};
use super::drawn::{Drawn, STEP, drawn, on_every_engine};
use crate::cases::Tolerance;

/// Runs a batch and returns the rows' KDR. Fails if a row's KDR, or the mean of KDR or TSSR, is outside [0, 1].
fn within_the_unit(engine: &Engine, drawn: &Drawn) -> Result<Vec<f32>, String> {
    let got = drawn.run(engine)?;
    let rows: Vec<f32> = got.rows.iter().map(|r| r.kdr).collect();
    let all = rows.iter().chain([&got.summary.kdr, &got.summary.tssr]);
    let outside = all.copied().find(|x| !(0.0..=1.0).contains(x));
    match outside {
        Some(x) => Err(format!("kdr or tssr {x:e}, {:e} above 1", x - 1.0)),
        None => Ok(rows),
    }
}

#[test]
fn the_similarity_lies_between_0_and_1() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, drawn| within_the_unit(engine, &drawn).map(|_| ()),
    );
}

/// The similarity is symmetric in teacher and student. `ExpNegKl` alone is not.
#[test]
fn the_similarity_is_symmetric() {
    let symmetric = |of| {
        drawn(of, true).prop_filter("no symmetric one", |d| {
            d.config.similarity != Similarity::ExpNegKl
        })
    };
    on_every_engine(symmetric, |engine, mut drawn| {
        drawn.config.teacher_temperature = drawn.config.student_temperature;
        let mut other = drawn.clone();
        std::mem::swap(&mut other.student, &mut other.teacher);
        other.gaps.swap(0, 1);
        other.storage.swap(0, 1);
        let (got, want) = (other.run(engine)?, drawn.run(engine)?);
        for (row, (g, w)) in got.rows.iter().zip(&want.rows).enumerate() {
            let about = format!("kdr of row {row}");
            close(&about, f64::from(g.kdr), f64::from(w.kdr), agree::UNIT)?;
        }
        Ok(())
    });
}

fn stats(engine: &Engine, drawn: &Drawn) -> Result<Vec<RowStats>, String> {
    let stored = drawn.stored();
    let stats = engine.observe(&drawn.config, &drawn.batch(&stored));
    stats.map_err(|e| e.to_string())
}

#[test]
fn equal_rows_have_similarity_1() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, mut drawn| {
            drawn.config.teacher_temperature = drawn.config.student_temperature;
            drawn.student.clone_from(&drawn.teacher);
            let ignored = drawn.config.ignore_index;
            for (row, kdr) in within_the_unit(engine, &drawn)?.into_iter().enumerate() {
                if drawn.labels[row] != ignored {
                    // Equal rows have equal sums on both sides, so half the promise is enough.
                    let tolerance = Tolerance::F32.unit / 2.0;
                    close(&format!("kdr of row {row}"), f64::from(kdr), 1.0, tolerance)?;
                }
            }
            for (row, stats) in stats(engine, &drawn)?.iter().enumerate() {
                let kl = stats.kl();
                if drawn.labels[row] != ignored
                    && !(0.0..=Tolerance::F32.statistic(0.0)).contains(&kl)
                {
                    return Err(format!("KL of row {row}: {kl:e}"));
                }
            }
            Ok(())
        },
    );
}

/// One class of each row differs by a step: close enough to 1 that rounding could exceed 1, or make a divergence negative.
#[test]
fn nearly_equal_rows_have_no_similarity_above_1() {
    on_every_engine(
        |of| drawn(of, true),
        |engine, mut drawn| {
            drawn.config.teacher_temperature = drawn.config.student_temperature;
            drawn.student.clone_from(&drawn.teacher);
            let class = drawn.seed as usize % drawn.classes;
            for row in drawn.student.chunks_mut(drawn.classes) {
                row[class] -= STEP * drawn.unit;
            }
            within_the_unit(engine, &drawn)?;
            let stats = stats(engine, &drawn)?;
            match stats
                .iter()
                .find(|s| !(0.0..=1.0).contains(&s.kdr) || s.kl() < 0.0)
            {
                Some(s) => Err(format!("kdr {:e}, KL {:e}", s.kdr, s.kl())),
                None => Ok(()),
            }
        },
    );
}

/// Sums of equal rows, each rounded differently, can give a negative divergence. The result is clamped to 0.
#[test]
fn a_divergence_below_0_is_rounding() {
    let mut stats = RowStats::default();
    (stats.student_sum, stats.teacher_sum) = (3.0, 3.0);
    stats.difference = -1e-6;
    assert_eq!(stats.kl(), 0.0);
    stats.difference = 0.75;
    assert_eq!(stats.kl(), 0.25);
}
