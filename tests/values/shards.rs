//! Classes in shards: any cut of the columns gives loss, KDR, TSSR and gradient of the whole row. `rows` has rows in shards.

mod buffers;
mod refused;
mod rows;

use std::collections::BTreeSet;
use std::ops::Range;

use wgpu_distill::cpu::Cpu;
use wgpu_distill::{
    Batch, Config, Divergence, Engine, GradWrite, Logits, NonFinite, Result, RowStats, Shard,
    Similarity, Standardization, Storage, Summary, SweepSums, TeacherClasses, Values, bytemuck,
    finish_shards, flags, merge_shards, reference, wgpu,
};

use crate::cases::compare::{self, Outcome};
use crate::cases::inputs::Kind;
use crate::cases::tolerance::close;
use crate::cases::{self, Case, SoftLabels, TeacherList, Tolerance, Weights};
use crate::steps::Steps;
use crate::{adapter, report};

/// The columns of a matrix.
fn cut<'a>(logits: &Logits<'a>, columns: &Range<usize>) -> Logits<'a> {
    let from = columns.start;
    let values = match logits.values {
        Values::F32(v) => Values::F32(&v[from..]),
        Values::F16(v) => Values::F16(&v[from..]),
        Values::Bf16(v) => Values::Bf16(&v[from..]),
    };
    Logits::new(values, columns.len()).with_row_stride(logits.row_stride)
}

/// The columns of a batch that one device has. The teacher of sampled tokens is the same on all.
fn slice<'a>(batch: &Batch<'a>, columns: &Range<usize>, sampled: bool) -> Batch<'a> {
    Batch {
        student_logits: cut(&batch.student_logits, columns),
        teacher_logits: match sampled {
            true => batch.teacher_logits,
            false => cut(&batch.teacher_logits, columns),
        },
        soft_labels: batch.soft_labels.map(|y| cut(&y, columns)),
        ..*batch
    }
}

/// Uneven shards of a row: the first has one class and each has more than the one before, or the reverse.
fn cuts(classes: usize, shards: usize, reversed: bool) -> Vec<Range<usize>> {
    let last = shards - 1;
    let mut ends: Vec<usize> = match last {
        0 => vec![classes],
        _ => (0..shards)
            .map(|i| 1 + (classes - 1) * i * i / (last * last))
            .collect(),
    };
    ends.dedup();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let ranges = starts.zip(&ends).map(|(start, end)| start..*end);
    match reversed {
        true => {
            let ranges: Vec<_> = ranges.collect();
            let mirrored = |r: &Range<usize>| classes - r.end..classes - r.start;
            ranges.iter().rev().map(mirrored).collect()
        }
        false => ranges.collect(),
    }
}

/// The statistics of the rows of a batch whose columns lie on several devices. The engines take turns as devices.
fn statistics(
    engines: &[Engine],
    config: &Config,
    batch: &Batch<'_>,
    cuts: &[Range<usize>],
) -> Result<Vec<RowStats>> {
    let classes = batch.classes();
    let sampled = config.divergence.is_sampled();
    let devices = cuts.iter().zip(engines.iter().cycle());
    let devices: Vec<_> = devices
        .map(|(columns, engine)| {
            let shard = Shard::new(columns.start, classes);
            (engine, shard, slice(batch, columns, sampled))
        })
        .collect();
    let gathered = devices
        .iter()
        .map(|(engine, shard, own)| engine.observe_shard(config, own, *shard));
    let gathered: Vec<_> = gathered.collect::<Result<_>>()?;
    let gathered: Vec<&[RowStats]> = gathered.iter().map(Vec::as_slice).collect();
    let merged = merge_shards(config, &gathered)?;
    let sweeps = devices
        .iter()
        .filter(|_| config.sweeps_twice())
        .map(|(engine, shard, own)| engine.sweep_shard(config, own, *shard, &merged));
    let sweeps: Vec<_> = sweeps.collect::<Result<_>>()?;
    let sweeps: Vec<&[SweepSums]> = sweeps.iter().map(Vec::as_slice).collect();
    finish_shards(config, &merged, &sweeps)
}

/// A case whose columns lie on several devices, each of which decides.
fn sharded(
    engines: &[Engine],
    case: &Case,
    cuts: &[Range<usize>],
) -> Result<(Vec<RowStats>, Outcome)> {
    let (host, config, classes) = (case.host(), &case.config, case.classes);
    let batch = host.batch();
    let stats = statistics(engines, config, &batch, cuts)?;
    let mut gradient = vec![f32::NAN; case.rows * classes];
    let mut rows = Vec::new();
    for (columns, engine) in cuts.iter().zip(engines.iter().cycle()) {
        let decisions = engine.decide(config, case.progress, &stats, classes)?;
        let own = slice(&batch, columns, config.divergence.is_sampled());
        let shard = Shard::new(columns.start, classes);
        let part = engine.apply_shard(config, &own, shard, &decisions)?;
        assert_eq!(part.len(), case.rows * columns.len());
        for (row, part) in part.chunks(columns.len()).enumerate() {
            let at = row * classes;
            gradient[at + columns.start..at + columns.end].copy_from_slice(part);
        }
        rows = decisions.into_iter().map(|d| d.result).collect();
    }
    let outcome = Outcome {
        summary: Summary::of_rows(&rows, config.reduction),
        rows,
        metrics: Vec::new(),
        gradient,
    };
    Ok((stats, outcome))
}

/// The flags that do not depend on rounding.
const FLAGS: u32 = flags::IGNORED | flags::INVALID_LABEL | flags::NON_FINITE;

/// Compares statistics with the reference.
fn check_statistics(case: &Case, got: &[RowStats]) -> Result<(), String> {
    let host = case.host();
    let want = reference::observe(&case.config, &host.batch()).map_err(|e| e.to_string())?;
    let tolerance = match case.kind {
        Kind::Peaked => Tolerance::PEAKED,
        _ => Tolerance::F32,
    };
    if got.len() != want.len() {
        return Err(format!("statistics of {} rows", got.len()));
    }
    for (row, (g, w)) in got.iter().zip(&want).enumerate() {
        if g.flags & (FLAGS | flags::SHARD | flags::LABEL_ELSEWHERE) != w.flags {
            let (g, w) = (g.flags, w.flags);
            return Err(format!("flags of row {row}: {g:#x}, want {w:#x}"));
        }
        close(
            &format!("KDR of row {row}"),
            g.kdr.into(),
            w.kdr,
            tolerance.unit,
        )?;
        if w.flags & (flags::IGNORED | flags::NON_FINITE) != 0 {
            continue;
        }
        let lse = |s: &RowStats| (s.student_lse(&case.config), s.teacher_lse(&case.config));
        for (name, g, w) in [
            ("student_lse", lse(g).0, w.student_lse),
            ("teacher_lse", lse(g).1, w.teacher_lse),
            ("kl", g.kl(), w.kl),
        ] {
            close(
                &format!("{name} of row {row}"),
                g,
                w,
                tolerance.statistic(w),
            )?;
        }
    }
    Ok(())
}

/// Fails unless a case in shards equals the reference of the whole.
fn check(engines: &[Engine], case: &Case, cuts: &[Range<usize>]) {
    let names: Vec<String> = engines.iter().map(Engine::describe).collect();
    let about = || format!("{}: {} in {cuts:?}", names.join(" and "), case.name);
    let (stats, got) = sharded(engines, case, cuts).unwrap_or_else(|e| panic!("{}: {e}", about()));
    let checked = check_statistics(case, &stats);
    let checked = checked.and_then(|()| compare::check(case, &case.reference(), &got));
    checked.unwrap_or_else(|why| panic!("{}: {why}", about()));
}

/// A case of the table with inputs that shards take, if it is of a supported kind.
fn for_shards(mut case: Case) -> Option<Case> {
    let excluded = case.teacher_list != TeacherList::None
        || case.class_weights != Weights::None
        || case.weights == Weights::Broken
        || matches!(case.soft_labels, SoftLabels::Broken(_))
        || case.config.standardization != Standardization::None;
    if excluded || case.rows == 0 {
        return None;
    }
    if !case.config.divergence.is_sampled() {
        case.teacher_classes = case.classes;
        case.config.teacher_classes = TeacherClasses::SameAsStudent;
    }
    case.config.grad_write = GradWrite::Overwrite;
    if case.bad_labels {
        // The rows that get labels may have lost a mass to f32, which `compare` excuses in rows that propagate.
        case.config.non_finite = NonFinite::Propagate;
    }
    (case.in_place, case.bad_labels, case.metrics) = (false, false, false);
    case.storage[2] = Storage::F32;
    Some(case)
}

fn cpus() -> Vec<Engine> {
    let cpus = Cpu::for_each_instruction_set().into_iter();
    let engine = |cpu| Engine::Cpu {
        cpu,
        reason: String::new(),
    };
    cpus.map(engine).collect()
}

const SHARDS: [usize; 4] = [1, 2, 3, 8];

/// Every divergence with every similarity, and every other choice of the table.
#[test]
fn the_table_in_shards_equals_the_whole() {
    let engines = cpus();
    let mut pairs = BTreeSet::new();
    let mut count = 0;
    for (n, case) in cases::all().into_iter().filter_map(for_shards).enumerate() {
        let config = &case.config;
        pairs.insert((config.divergence.name(), config.similarity.name()));
        let is_long = case.rows * case.classes > 20_000;
        for (m, shards) in SHARDS.into_iter().enumerate() {
            // Long rows have one number of shards and one instruction set, and all cases of the short run have one number of shards.
            if (is_long || !cases::is_full()) && m != n % SHARDS.len() {
                continue;
            }
            let cuts = cuts(case.classes, shards, (n + m) % 2 == 1);
            for (i, engine) in engines.iter().enumerate() {
                if !is_long || i == n / SHARDS.len() % engines.len() {
                    check(std::slice::from_ref(engine), &case, &cuts);
                    count += 1;
                }
            }
        }
    }
    let all = Divergence::ALL.len() * Similarity::ALL.len();
    assert_eq!(pairs.len(), all, "{pairs:?}");
    report::ran(&format!("shards: CPU path, {count} runs"));
}

/// A case for each divergence, with the similarities in turn.
fn one_of_each() -> Vec<Case> {
    let all = cases::all();
    let of = |(d, divergence): (usize, Divergence)| {
        let name = format!("{}/{}", divergence.name(), (2 * d) % 5);
        let case = all.iter().find(|case| case.name == name);
        for_shards(case.expect("in the table").clone()).expect("of a supported kind")
    };
    Divergence::ALL.into_iter().enumerate().map(of).collect()
}

#[test]
fn shards_on_a_gpu_equal_the_whole() {
    let Some(gpu) = adapter::gpu().map(Engine::Gpu) else {
        return;
    };
    let mut similarities = BTreeSet::new();
    let mut count = 0;
    for (n, case) in one_of_each().into_iter().enumerate() {
        similarities.insert(case.config.similarity.name());
        let engine = std::slice::from_ref(&gpu);
        check(engine, &case, &cuts(case.classes, 3, n % 2 == 1));
        // The CPU path as every second device, and shards of one class or of few.
        let mixed = [gpu.clone(), Engine::cpu()];
        check(&mixed, &case, &cuts(case.classes, 8, n % 2 == 0));
        count += 2;
    }
    assert_eq!(similarities.len(), Similarity::ALL.len());
    let soft = cases::all().into_iter().filter_map(for_shards);
    let mut soft = soft.filter(|case| case.soft_labels.storage().is_some() && case.classes > 8);
    let soft = soft.next().expect("the table has soft labels");
    check(&[gpu], &soft, &cuts(soft.classes, 3, false));
    report::ran(&format!("shards: GPU, {} runs", count + 1));
}

/// Shards whose classes are all masked, in one of them or in both, before and behind the others.
#[test]
fn shards_of_masked_classes_change_nothing() {
    let mut engines = cpus();
    engines.extend(adapter::gpu().map(Engine::Gpu));
    for divergence in [
        Divergence::SoftCrossEntropy,
        Divergence::Jsd { beta: 0.5 },
        Divergence::Taid { share: 0.25 },
        Divergence::Dkd {
            alpha: 1.0,
            beta: 2.0,
        },
    ] {
        let storage = [Storage::F32; 3];
        let mut case = Case::of_shape(7, 40, Kind::MaskedButLast, storage);
        case.config.divergence = divergence;
        for engine in &engines {
            let host = case.host();
            let shard = Shard::new(0, case.classes);
            let first = slice(&host.batch(), &(0..9), false);
            let empty = engine.observe_shard(&case.config, &first, shard);
            for stats in empty.expect("valid") {
                assert_eq!([stats.student_sum, stats.teacher_sum], [0.0; 2]);
                let live = flags::STUDENT_LIVE | flags::TEACHER_LIVE | flags::NON_FINITE;
                assert_eq!(stats.flags & live, 0);
            }
            for cuts in [vec![0..9, 9..30, 30..40], vec![0..38, 38..39, 39..40]] {
                check(std::slice::from_ref(engine), &case, &cuts);
            }
        }
    }
}

/// A row of masked classes alone is NaN and counted, also if a shard has nothing but the label, which some divergences leave out.
#[test]
fn rows_without_a_class_are_non_finite() {
    let mut engines = cpus();
    engines.extend(adapter::gpu().map(Engine::Gpu));
    for divergence in [
        Divergence::ForwardKl,
        Divergence::Dkd {
            alpha: 1.0,
            beta: 2.0,
        },
    ] {
        let mut case = Case::of_shape(7, 24, Kind::Broken, [Storage::F32; 3]);
        case.config.divergence = divergence;
        let labels = case.labels();
        // Row 3 has no class of the student, row 4 none of the teacher.
        for row in [3, 4] {
            let label = labels[row] as usize;
            let cuts = [0..label, label..label + 1, label + 1..24];
            let cuts: Vec<_> = cuts.into_iter().filter(|c| !c.is_empty()).collect();
            assert!(cuts.len() > 1);
            for engine in &engines {
                check(std::slice::from_ref(engine), &case, &cuts);
            }
        }
    }
}

/// The same shards in the same order give the same bits, however many threads a device has and whichever device merges.
#[test]
fn the_same_order_gives_the_same_bits() {
    let case = Case::of_shape(33, 2_500, Kind::Normal, [Storage::F32; 3]);
    let cuts = cuts(case.classes, 8, false);
    let of = |threads: usize| {
        let cpu = Cpu::new().with_threads(threads);
        let engine = Engine::Cpu {
            cpu,
            reason: String::new(),
        };
        let (stats, outcome) = sharded(&[engine], &case, &cuts).expect("valid");
        let bytes: Vec<u8> = bytemuck::cast_slice(&stats).to_vec();
        (bytes, outcome.bits())
    };
    assert_eq!(of(1), of(5));
}

/// The merge of two is that of a list, any grouping agrees within rounding, and the identity changes no bit.
#[test]
fn statistics_are_a_monoid() {
    let case = Case::of_shape(5, 300, Kind::MaskedStudent, [Storage::F32; 3]);
    let (host, cpu) = (case.host(), Engine::cpu());
    let batch = host.batch();
    for divergence in Divergence::ALL.into_iter().filter(|d| !d.is_sampled()) {
        let config = Config {
            divergence,
            label_smoothing: 0.25,
            ..Config::default()
        };
        let cuts = cuts(case.classes, 3, true);
        let shards: Vec<_> = cuts
            .iter()
            .map(|columns| {
                let own = slice(&batch, columns, false);
                let shard = Shard::new(columns.start, case.classes);
                cpu.observe_shard(&config, &own, shard).expect("valid")
            })
            .collect();
        let lists: Vec<&[RowStats]> = shards.iter().map(Vec::as_slice).collect();
        let all = merge_shards(&config, &lists).expect("they meet");
        let halves = merge_shards(&config, &lists[1..]).expect("they meet");
        let tree = merge_shards(&config, &[lists[0], &halves]).expect("they meet");
        for row in 0..case.rows {
            let [a, b, c] = [0, 1, 2].map(|shard| shards[shard][row]);
            let merge = |a: &RowStats, b: &RowStats| a.merge(b, &config).expect("they meet");
            assert_eq!(merge(&RowStats::identity(), &a), a);
            assert_eq!(merge(&a, &RowStats::identity()), a);
            assert_eq!(merge(&b, &c), halves[row]);
            assert_eq!(merge(&a, &halves[row]), tree[row]);
            for grouped in [merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c))] {
                let finish = |stats: RowStats| {
                    let own = Config {
                        divergence: Divergence::ForwardKl,
                        ..config
                    };
                    finish_shards(&own, &[stats], &[]).expect("whole")[0]
                };
                let (g, w) = (finish(grouped), finish(all[row]));
                assert_eq!(g.flags, w.flags, "{divergence}");
                let unit = Tolerance::F32.of_two().unit;
                close("KDR", g.kdr.into(), w.kdr.into(), unit).expect("agree");
                let (g, w) = (g.student_lse(&config), w.student_lse(&config));
                let tolerance = Tolerance::F32.of_two().statistic(w);
                close("student_lse", g, w, tolerance).expect("agree");
            }
        }
    }
}

/// A vocabulary on 1,024 devices. The merge rounds once, so its error does not grow with their number.
#[test]
fn a_thousand_shards_equal_the_whole() {
    let mut case = Case::of_shape(3, 151_936, Kind::Normal, [Storage::F32; 3]);
    case.config = Config {
        divergence: Divergence::Jsd { beta: 0.25 },
        similarity: Similarity::Overlap,
        label_smoothing: 0.125,
        student_temperature: 2.0,
        ..case.config
    };
    let at = |device: usize| device * case.classes / 1024;
    let cuts: Vec<_> = (0..1024).map(|d| at(d)..at(d + 1)).collect();
    check(&[Engine::cpu()], &case, &cuts);
}

/// Records of more rows than one binding holds.
#[test]
fn many_rows_are_observed_and_swept_in_parts() {
    let Some(gpu) = adapter::with_default_limits(wgpu::Features::empty()) else {
        return;
    };
    let mut case = Case::of_shape(160_000, 5, Kind::Normal, [Storage::F32; 3]);
    case.config.divergence = Divergence::TotalVariation;
    let bound = gpu.limits().binding_bytes / 2;
    assert!(2 * size_of::<RowStats>() as u64 * case.rows as u64 > bound);
    check(&[Engine::Gpu(gpu)], &case, &[0..2, 2..5]);
}
