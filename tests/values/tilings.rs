//! Every kind of plan with every storage type, similarity and access on the GPU under test, against the f64 reference.
//!
//! The test chooses the tilings, so that it covers every way of sharing rows on any device.
//! `WGPU_DISTILL_DEPTH=full` runs all combinations (2,244 cases, minutes of compiling).

use crate::buffers::Bench;
use crate::cases;
use crate::cases::inputs::Kind;
use crate::cases::{Case, compare};
use crate::{adapter, report};
use wgpu_distill::gpu::Gpu;
use wgpu_distill::plan::{PlanKind, Tiling};
use wgpu_distill::{GradWrite, HardTemperature, Scope, Similarity, Standardization, Storage};

/// Storage types of student, teacher and gradient: each type for all three, and a mixture.
const STORAGE: [[Storage; 3]; 4] = [
    [Storage::F32; 3],
    [Storage::F16; 3],
    [Storage::Bf16; 3],
    [Storage::Bf16, Storage::F32, Storage::F16],
];

struct Way {
    kind: PlanKind,
    /// Lanes, workgroup size, vectors per lane, segments.
    tiling: [u32; 4],
    classes: usize,
    scope: Scope,
    /// True for the tiling of each kind that runs more combinations of similarity and storage type.
    thorough: bool,
}

/// Tilings for subgroups of 8. With subgroups of 4 fewer lanes share one, and a workgroup has more of them.
///
/// With 128 and 256 lanes there are more subgroups than a subgroup has lanes, so that a lane merges several.
/// Rows end within a vector, and within a word of 16-bit numbers.
fn ways() -> Vec<Way> {
    use PlanKind::{Packed, Resident, Split, Streaming, TwoPhase};
    let (row, batch) = (Scope::Row, Scope::Batch);
    [
        (Packed, [1, 16, 2, 1], 7, row, false),
        (Packed, [4, 32, 3, 1], 45, row, true),
        (Packed, [8, 32, 2, 1], 301, row, false),
        (Resident, [8, 8, 2, 1], 63, row, true),
        (Resident, [32, 32, 4, 1], 509, row, false),
        (Resident, [128, 128, 2, 1], 1001, row, false),
        (Streaming, [32, 32, 1, 1], 641, row, false),
        (Streaming, [32, 32, 3, 1], 1201, row, true),
        (Streaming, [256, 256, 1, 1], 2501, row, true),
        (Split, [8, 8, 2, 3], 301, row, true),
        (Split, [32, 32, 1, 5], 1201, row, false),
        (Split, [32, 32, 2, 40], 301, row, false),
        (Split, [128, 128, 1, 3], 1601, row, false),
        (Split, [8, 8, 2, 3], 301, batch, false),
        (TwoPhase, [4, 32, 2, 1], 45, batch, true),
        (TwoPhase, [32, 32, 2, 1], 641, batch, false),
        (TwoPhase, [256, 256, 2, 1], 1201, batch, false),
    ]
    .into_iter()
    .map(|(kind, tiling, classes, scope, thorough)| Way {
        kind,
        tiling,
        classes,
        scope,
        thorough,
    })
    .collect()
}

/// Elements between the rows, and the kind of logits.
const INPUTS: [(usize, Kind); 3] = [(0, Kind::Normal), (0, Kind::MaskedBoth), (3, Kind::Broken)];

/// A case of a way's shape. Without a gap the classes are a multiple of four, for `Access::Vec4`.
fn case_of(way: &Way, gap: usize, kind: Kind, storage: [Storage; 3]) -> Case {
    let classes = way.classes.next_multiple_of(if gap == 0 { 4 } else { 1 });
    let mut case = Case::of_shape(11, classes, kind, storage);
    case.config.scope = way.scope;
    case.gaps = [gap; 3];
    case.ignores = cases::Ignores::EveryThird;
    case.config.label_smoothing = if gap == 0 { 0.0 } else { 0.1 };
    case
}

fn run_one(bench: &Bench, way: &Way, case: &Case) {
    let about = format!(
        "{:?} {:?} {:?} {:?} {:?}, {} classes + {}, in place: {}, {:?}",
        way.kind,
        way.tiling,
        case.config.similarity,
        case.storage,
        case.kind,
        case.classes,
        case.gaps[0],
        case.in_place,
        case.config.grad_write
    );
    let want = case.reference();
    let got = bench.run(case).unwrap_or_else(|e| panic!("{about}: {e}"));
    if let Err(why) = compare::check(case, &want, &got) {
        panic!("{about}: {why}");
    }
}

/// The gradient in place of the student's logits, and accumulated. Every step must read its inputs before they are overwritten.
fn shared_memory(way: &Way, turn: usize, long: bool) -> Vec<Case> {
    let mut list = Vec::new();
    for (i, storage) in Storage::ALL.into_iter().enumerate() {
        for in_place in [true, false] {
            // One of six cases per way, in rotation.
            if !long && !(turn + 2 * i + usize::from(in_place)).is_multiple_of(6) {
                continue;
            }
            let (gap, kind) = [(0, Kind::Normal), (3, Kind::Broken)][(turn + i) % 2];
            let mut case = case_of(way, gap, kind, [storage, Storage::F32, storage]);
            case.config.similarity = [Similarity::JensenShannon, Similarity::Cosine][turn % 2];
            case.in_place = in_place;
            if !in_place {
                case.config.grad_write = GradWrite::Accumulate;
            }
            list.push(case);
        }
    }
    list
}

fn run_all(gpu: Gpu) {
    let long = cases::is_full();
    let subgroup = gpu.limits().subgroup;
    let subgroup_min = subgroup.map(|(min, _)| min);
    let mut count = 0;
    for (n, mut way) in ways().into_iter().enumerate() {
        let [lanes, small, vectors_per_lane, segments] = way.tiling;
        // A workgroup has whole subgroups. Larger workgroups get longer rows, so that the plan keeps its kind.
        let workgroup_size = subgroup.map_or(small, |(_, max)| small.max(max));
        way.classes *= (workgroup_size / small) as usize;
        // The lanes of a row fit in a subgroup or span a whole workgroup.
        let lanes = match subgroup_min {
            _ if lanes == small => workgroup_size,
            Some(min) => lanes.min(min),
            None => lanes,
        };
        let tiling = Tiling {
            lanes,
            workgroup_size,
            vectors_per_lane,
            subgroup_min,
            segments,
        };
        let bench = Bench::with_tiling(gpu.clone(), tiling, way.kind);
        for (i, similarity) in Similarity::ALL.into_iter().enumerate() {
            for (j, storage) in STORAGE.into_iter().enumerate() {
                for (k, (gap, kind)) in INPUTS.into_iter().enumerate() {
                    // Compiling takes far longer than running. Unless all cases are wanted, each tiling runs a sixth of the pairs of similarity and
                    // storage type, in rotation, with one input each. Tilings that are not thorough run fewer.
                    let turn = i + j + k;
                    let own_turn = (i + 2 * j + n).is_multiple_of(6);
                    let some = turn % 3 == 0 && own_turn && (way.thorough || turn % 4 == 0);
                    if !long && !some {
                        continue;
                    }
                    let mut case = case_of(&way, gap, kind, storage);
                    case.config.similarity = similarity;
                    run_one(&bench, &way, &case);
                    count += 1;
                }
            }
        }
        // Standardised rows are not cut into segments.
        if segments == 1 {
            let (gap, kind) = INPUTS[n % INPUTS.len()];
            let mut case = case_of(&way, gap, kind, STORAGE[n % STORAGE.len()]);
            case.config.standardization = Standardization::ZScore;
            case.config.similarity = Similarity::ALL[n % Similarity::ALL.len()];
            case.config.hard_temperature =
                [HardTemperature::Student, HardTemperature::Own(1.0)][n / 2 % 2];
            run_one(&bench, &way, &case);
            count += 1;
        }
        for case in shared_memory(&way, n, long) {
            run_one(&bench, &way, &case);
            count += 1;
        }
    }
    report::ran(&format!(
        "tilings: {count} cases passed: {}",
        gpu.describe()
    ));
}

#[test]
fn every_plan_with_subgroups() {
    if let Some(gpu) = adapter::with_subgroups("tilings with subgroups") {
        run_all(gpu);
    }
}

#[test]
fn every_plan_without_subgroups() {
    if let Some(gpu) = adapter::without_subgroups() {
        run_all(gpu);
    }
}
