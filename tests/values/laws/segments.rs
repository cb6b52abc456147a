//! Statistics of a row's segments merge into those of the row, for any split of its columns.

use crate::steps::Steps;
use proptest::sample::select;
use proptest::strategy::Strategy;
use wgpu_distill::gpu::Gpu;
use wgpu_distill::plan::{PlanKind, Tiling};
use wgpu_distill::{Config, Divergence, Engine, RowStats, Similarity, Storage, reference};

use super::agree::{TOLERANCE, close};
use super::drawn::{Drawn, Kernels, Masked, drawn, for_all, on_every_engine};
use super::losses::{divergence, is_apart};
use crate::adapter;
use crate::buffers::Bench;
use crate::cases::compare;
use crate::cases::inputs::{Kind, Random};
use crate::cases::{Case, Ignores};

/// A range of the columns. Labels do not affect the merged statistics.
fn columns(of: &Drawn, start: usize, end: usize) -> Drawn {
    let cut = |values: &[f32]| -> Vec<f32> {
        let rows = values.chunks(of.classes);
        rows.flat_map(|row| row[start..end].to_vec()).collect()
    };
    Drawn {
        classes: end - start,
        student: cut(&of.student),
        teacher: cut(&of.teacher),
        labels: vec![0; of.rows],
        ..of.clone()
    }
}

/// Ranges of a row: up to eight cuts, with ranges of one class among them.
fn cuts(drawn: &Drawn) -> Vec<(usize, usize)> {
    let mut random = Random::new(drawn.seed);
    let wanted = 1 + random.next() as usize % 8;
    let mut at: Vec<usize> = (0..wanted)
        .map(|_| random.next() as usize % drawn.classes)
        .collect();
    at.extend([0, drawn.classes]);
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|w| (w[0], w[1])).collect()
}

/// The sums of [`RowStats`] in f64. Maxima are in units of the temperature.
#[derive(Clone, Copy, Default)]
struct Sums {
    ms: f64,
    zs: f64,
    mt: f64,
    zt: f64,
    difference: f64,
    moment: f64,
    cross: f64,
    ss: f64,
    tt: f64,
    masked: f64,
    offset: f64,
    count: f64,
    reverse_difference: f64,
    unseen: f64,
    hard: f64,
    power_cross: f64,
    power_difference: f64,
    student_power: f64,
    teacher_power: f64,
}

/// The exponents of teacher and student in the sums of powers.
fn exponents(config: &Config) -> [f64; 2] {
    match config.divergence {
        Divergence::AlphaBeta { alpha, beta } => [alpha.into(), beta.into()],
        Divergence::Taid { share } => [share.into(), (1.0 - share).into()],
        _ => [1.0, 1.0],
    }
}

impl Sums {
    fn of(stats: &RowStats, config: &Config) -> Self {
        let f = f64::from;
        Self {
            ms: f(stats.student_max) / f(config.student_temperature),
            zs: f(stats.student_sum),
            mt: f(stats.teacher_max) / f(config.teacher_temperature),
            zt: f(stats.teacher_sum),
            difference: f(stats.difference),
            moment: f(stats.teacher_moment),
            cross: match config.similarity {
                Similarity::Bhattacharyya => f(stats.root_cross),
                _ => f(stats.cross),
            },
            ss: f(stats.student_square),
            tt: f(stats.teacher_square),
            masked: f(stats.masked_mass),
            offset: f(stats.student_offset),
            count: f(stats.student_count),
            reverse_difference: f(stats.reverse_difference),
            unseen: f(stats.unseen_mass),
            hard: f(stats.hard_sum),
            power_cross: f(stats.power_cross),
            power_difference: f(stats.power_difference),
            student_power: f(stats.student_power),
            teacher_power: f(stats.teacher_power),
        }
    }

    /// `KL(p, q)`
    fn reverse_kl(&self) -> f64 {
        self.reverse_difference / self.zs - self.zs.ln() + self.zt.ln()
    }

    /// The same sums relative to larger maxima.
    fn relative_to(self, ms: f64, mt: f64, config: &Config) -> Self {
        let (ds, dt) = (self.ms - ms, self.mt - mt);
        let (fs, ft) = (ds.exp(), dt.exp());
        let seen = self.zt - self.masked;
        let [u, v] = exponents(config);
        let power = (u * dt + v * ds).exp();
        let hard = f64::from(config.student_temperature) / config.label_temperature();
        let cross = match config.similarity {
            Similarity::Bhattacharyya => ((ds + dt) / 2.0).exp(),
            _ => fs * ft,
        };
        Self {
            ms,
            zs: self.zs * fs,
            mt,
            zt: self.zt * ft,
            difference: ft * (self.difference + seen * (dt - ds)),
            moment: ft * (self.moment + seen * dt),
            cross: self.cross * cross,
            ss: self.ss * fs * fs,
            tt: self.tt * ft * ft,
            masked: self.masked * ft,
            offset: self.offset + self.count * ds,
            count: self.count,
            reverse_difference: fs
                * (self.reverse_difference + (self.zs - self.unseen) * (ds - dt)),
            unseen: self.unseen * fs,
            hard: self.hard * (hard * ds).exp(),
            power_cross: self.power_cross * power,
            power_difference: power * (self.power_difference + self.power_cross * (dt - ds)),
            student_power: self.student_power * ((u + v) * ds).exp(),
            teacher_power: self.teacher_power * ((u + v) * dt).exp(),
        }
    }

    fn merge(self, other: Self, config: &Config) -> Self {
        let (ms, mt) = (self.ms.max(other.ms), self.mt.max(other.mt));
        let (a, b) = (
            self.relative_to(ms, mt, config),
            other.relative_to(ms, mt, config),
        );
        Self {
            ms,
            zs: a.zs + b.zs,
            mt,
            zt: a.zt + b.zt,
            difference: a.difference + b.difference,
            moment: a.moment + b.moment,
            cross: a.cross + b.cross,
            ss: a.ss + b.ss,
            tt: a.tt + b.tt,
            masked: a.masked + b.masked,
            offset: a.offset + b.offset,
            count: a.count + b.count,
            reverse_difference: a.reverse_difference + b.reverse_difference,
            unseen: a.unseen + b.unseen,
            hard: a.hard + b.hard,
            power_cross: a.power_cross + b.power_cross,
            power_difference: a.power_difference + b.power_difference,
            student_power: a.student_power + b.student_power,
            teacher_power: a.teacher_power + b.teacher_power,
        }
    }
}

/// The segments' sums, merged by the formulas of the kernels, equal those of the row, masked classes included.
#[test]
fn row_stats_of_segments_merge_into_those_of_the_row() {
    on_every_engine(
        |of| drawn(of, false),
        |engine, mut drawn| {
            // These leave the label's class out of the sums.
            if is_apart(drawn.config.divergence) {
                drawn.config.divergence = Divergence::SoftCrossEntropy;
            }
            let config = &drawn.config;
            let stats = |of: &Drawn| {
                let stored = of.stored();
                engine
                    .observe(config, &of.batch(&stored))
                    .map_err(|e| e.to_string())
            };
            let whole = stats(&drawn)?;
            let mut segments = Vec::new();
            for (start, end) in cuts(&drawn) {
                segments.push(stats(&columns(&drawn, start, end))?);
            }
            for (row, whole) in whole.iter().enumerate() {
                let sums = segments
                    .iter()
                    .map(|segment| Sums::of(&segment[row], config));
                let merged = sums.reduce(|a, b| a.merge(b, config));
                let m = merged.expect("there is a segment");
                let check = |what: &str, got: f64, want: f64| {
                    let tolerance = TOLERANCE.statistic(want);
                    close(&format!("{what} of row {row}"), got, want, tolerance)
                };
                check("student_lse", m.ms + m.zs.ln(), whole.student_lse(config))?;
                check("teacher_lse", m.mt + m.zt.ln(), whole.teacher_lse(config))?;
                // A probability below 1e-38 counts as 0 in f32. In a segment it may be the only one, so both results are right.
                if m.masked > 1e-36 * m.zt {
                    check("kl", f64::INFINITY, whole.kl())?;
                } else if m.masked == 0.0 {
                    let kl = m.difference / m.zt - m.zt.ln() + m.zs.ln();
                    check("kl", kl.max(0.0), whole.kl())?;
                    let entropy = m.zt.ln() - m.moment / m.zt;
                    check("teacher_entropy", entropy, whole.teacher_entropy())?;
                }
                let w = Sums::of(whole, config);
                // The same for a probability of the student.
                if m.unseen > 1e-36 * m.zs && w.unseen == 0.0 {
                    return Err(format!("unseen mass of row {row}: 0, want {:e}", m.unseen));
                } else if m.unseen == 0.0 && config.divergence == Divergence::ReverseKl {
                    check("reverse KL", m.reverse_kl().max(0.0), w.reverse_kl())?;
                }
                for (what, got, want) in [
                    ("hard_sum", m.hard, w.hard),
                    ("power_cross", m.power_cross, w.power_cross),
                    ("student_power", m.student_power, w.student_power),
                    ("teacher_power", m.teacher_power, w.teacher_power),
                ] {
                    // A sum below this is 0 in f32.
                    if got.max(want) > 1e-36 {
                        check(what, got.ln(), want.ln())?;
                    }
                }
                if matches!(config.divergence, Divergence::Taid { .. }) && m.power_cross > 1e-30 {
                    let of = |s: &Sums| s.power_difference / s.power_cross;
                    check("power_difference, its mean", of(&m), of(&w))?;
                }
                // The smoothing sum counts its classes. The loss uses its mean.
                let count = f64::from(whole.student_count);
                if m.count != count {
                    return Err(format!(
                        "student_count of row {row}: {}, want {count}",
                        m.count
                    ));
                }
                let mean = |offset: f64| offset / count.max(1.0);
                let want = mean(f64::from(whole.student_offset));
                check("student_offset, its mean", mean(m.offset), want)?;
                let is_seen = |x: &&f32| drawn.config.label_smoothing > 0.0 && x.is_finite();
                let seen = drawn.student[row * drawn.classes..(row + 1) * drawn.classes].iter();
                if count != seen.filter(is_seen).count() as f64 {
                    return Err(format!("student_count of row {row}: {count}"));
                }
                let kdr = f64::from(whole.kdr);
                match config.similarity {
                    Similarity::Cosine => check("kdr", m.cross / (m.ss * m.tt).sqrt(), kdr)?,
                    Similarity::Bhattacharyya => check("kdr", m.cross / (m.zs * m.zt).sqrt(), kdr)?,
                    _ => {}
                }
            }
            Ok(())
        },
    );
}

/// The same for the reference and its merge, to ten digits.
#[test]
fn the_references_segments_merge_into_the_row() {
    // The reference has no statistics for a segment with masked classes only.
    let unmasked = drawn(Kernels::Any, false).prop_filter("masked", |d| d.masked == Masked::None);
    for_all("reference", [200, 4000], &unmasked, |drawn| {
        let stats = |of: &Drawn| {
            let stored = of.stored();
            reference::observe(&of.config, &of.batch(&stored)).map_err(|e| e.to_string())
        };
        let whole = stats(&drawn)?;
        let mut segments = Vec::new();
        for (start, end) in cuts(&drawn) {
            segments.push(stats(&columns(&drawn, start, end))?);
        }
        for (row, want) in whole.iter().enumerate() {
            let of_row: Vec<_> = segments
                .iter()
                .map(|segment| segment[row].clone())
                .collect();
            let got = reference::merge_row_stats(&of_row);
            for (what, got, want) in [
                ("student_lse", got.student_lse, want.student_lse),
                ("teacher_lse", got.teacher_lse, want.teacher_lse),
                ("kl", got.kl, want.kl),
                ("teacher_entropy", got.teacher_entropy, want.teacher_entropy),
            ] {
                close(
                    &format!("{what} of row {row}"),
                    got,
                    want,
                    1e-10 * want.abs().max(1.0),
                )?;
            }
        }
        Ok(())
    });
}

/// The kernels' merge of a row in any number of segments matches the reference, also with more segments than vectors.
fn rows_in_segments(gpu: &Gpu) {
    let name = Engine::Gpu(gpu.clone()).describe();
    let kinds = vec![
        Kind::Normal,
        Kind::Peaked,
        Kind::MaskedBoth,
        Kind::Broken,
        Kind::Huge,
    ];
    let strategy = (
        (1usize..6, 1usize..900, 2u32..41),
        select(vec![8u32, 32]),
        1u32..3,
        select(kinds),
        (
            select(Similarity::ALL.to_vec()),
            select(vec![0.0f32, 0.0, 0.25]),
            divergence(),
        ),
        select(Storage::ALL.to_vec()),
        0usize..4,
    );
    let subgroup = gpu.limits().subgroup;
    // A kernel depends on workgroup size, tile, similarity, smoothing and storage type, but not on shape and segments.
    for_all(
        &name,
        [16, 1500],
        &strategy,
        |(
            (rows, classes, segments),
            lanes,
            vectors_per_lane,
            kind,
            (similarity, smoothing, divergence),
            storage,
            gap,
        )| {
            let storage = if kind == Kind::Huge {
                Storage::F32
            } else {
                storage
            };
            let mut case = Case::of_shape(rows, classes, kind, [storage; 3]);
            case.config.similarity = similarity;
            case.config.label_smoothing = smoothing;
            case.config.divergence = divergence;
            case.gaps = [gap; 3];
            case.ignores = Ignores::EveryThird;
            // A workgroup has whole subgroups.
            let lanes = subgroup.map_or(lanes, |(_, max)| lanes.max(max));
            let tiling = Tiling {
                lanes,
                workgroup_size: lanes,
                vectors_per_lane,
                subgroup_min: subgroup.map(|(min, _)| min),
                segments,
            };
            let host = case.host();
            let want = reference::distill(&case.config, case.progress, &host.batch());
            let want = want.map_err(|e| e.to_string())?;
            let got = Bench::with_tiling(gpu.clone(), tiling, PlanKind::Split).run(&case)?;
            compare::check(&case, &want, &got)
        },
    );
}

#[test]
fn a_row_in_any_number_of_segments_is_the_row() {
    let Some(gpu) = adapter::without_subgroups() else {
        return;
    };
    rows_in_segments(&gpu);
}

#[test]
fn a_row_in_any_number_of_segments_is_the_row_with_subgroups() {
    let what = "laws of rows in segments with subgroups";
    if let Some(gpu) = adapter::with_subgroups(what) {
        rows_in_segments(&gpu);
    }
}
