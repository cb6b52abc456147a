//! Every case of the choices for single rows on a GPU, at full depth: the cover of pairs has only a part of them.

use super::{on_slices, run_all};
use crate::buffers::Bench;
use crate::cases::inputs::Kind;
use crate::cases::{Case, TeacherList};
use crate::{adapter, cases::is_full};
use crate::{cases, report};
use wgpu_distill::plan::{PlanKind, Tiling};
use wgpu_distill::{Divergence, Engine, HardTemperature, Scope, Similarity, Storage, TeacherTail};

#[test]
fn every_way() {
    if !is_full() {
        return;
    }
    let Some(gpu) = adapter::gpu() else { return };
    for bench in [
        Bench::new(gpu.clone()),
        Bench::with_hardware_plans(gpu.clone()),
    ] {
        run_all("rows", &bench.describe(), cases::of_rows(), |case| {
            Some(bench.run(case))
        });
    }
    let engine = Engine::Gpu(gpu);
    run_all("rows", &engine.describe(), cases::of_rows(), |case| {
        on_slices(&engine, case)
    });
}

/// Lists in plans whose steps are dispatches of their own, with tilings of the test: segments without an entry of the list, more segments than
/// vectors, rows that share a workgroup, the gradient in place. `./check` leaves them to the second driver.
#[test]
fn further_cases_of_lists_in_steps() {
    let Some(gpu) = adapter::gpu() else { return };
    let subgroup = gpu.limits().subgroup;
    let [subgroup_min, lanes] = [0, 1].map(|i| subgroup.map(|(min, max)| [min, max][i]));
    let lanes = lanes.unwrap_or(16);
    let losses = [
        (Divergence::SoftCrossEntropy, Similarity::Cosine),
        (Divergence::ReverseKl, Similarity::ExpNegKl),
        (Divergence::Jsd { beta: 0.5 }, Similarity::JensenShannon),
    ];
    let mut count = 0;
    for (n, (kind, own_lanes, segments)) in [
        (PlanKind::Split, lanes, 3),
        (PlanKind::Split, lanes, 40),
        (PlanKind::Split, subgroup_min.unwrap_or(4), 5),
        (PlanKind::TwoPhase, lanes, 1),
        (PlanKind::TwoPhase, subgroup_min.unwrap_or(4), 1),
    ]
    .into_iter()
    .enumerate()
    {
        let tiling = Tiling {
            lanes: own_lanes,
            workgroup_size: lanes,
            vectors_per_lane: 2,
            subgroup_min,
            segments,
        };
        let bench = Bench::with_tiling(gpu.clone(), tiling, kind);
        for (i, (divergence, similarity)) in losses.into_iter().enumerate() {
            let kinds = [Kind::Normal, Kind::MaskedStudent, Kind::Broken];
            let storage = Storage::ALL[(n + i) % 3];
            let mut case = Case::of_shape(11, 301, kinds[(n + i) % 3], [storage; 3]);
            case.teacher_classes = [7, 1, 90][(n + i) % 3];
            case.teacher_list = [TeacherList::Finite, TeacherList::Broken][i % 2];
            case.gaps = [[0, 0, 0], [3, 3, 3]][(n + i) % 2];
            case.ignores = cases::Ignores::EveryThird;
            case.in_place = (n + i) % 2 == 0;
            case.config.divergence = divergence;
            case.config.similarity = similarity;
            case.config.teacher_tail =
                [TeacherTail::Ghost, TeacherTail::Renormalized][(n + i / 2) % 2];
            case.config.hard_temperature =
                [HardTemperature::Student, HardTemperature::Own(1.5)][(n + i) % 2];
            case.config.label_smoothing = [0.0, 0.125][i % 2];
            case.config.student_temperature = 2.0;
            if kind == PlanKind::TwoPhase || i == 0 {
                case.config.scope = Scope::Batch;
            }
            let about = format!("{kind:?} {tiling:?}, {divergence}, {case:?}");
            let got = bench.run(&case).unwrap_or_else(|e| panic!("{about}: {e}"));
            if let Err(why) = cases::compare::check(&case, &case.reference(), &got) {
                panic!("{about}: {why}");
            }
            count += 1;
        }
    }
    report::ran(&format!(
        "lists in steps: {count} cases passed: {}",
        gpu.describe()
    ));
}
