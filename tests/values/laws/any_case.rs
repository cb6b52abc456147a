//! Random cases on buffers against the reference: offsets, gaps, in place, accumulated, labels out of range, all kinds of logits, any options.

use proptest::prelude::*;
use proptest::sample::select;
use wgpu_distill::{
    Config, Divergence, GradWrite, Progress, Scope, Selection, Standardization, Storage,
    TeacherTail, reference, wgpu,
};

use super::drawn::{Kernels, compiled, for_all, made, of_gpu, some_of};
use crate::adapter;
use crate::buffers::Bench;
use crate::cases::inputs::Kind;
use crate::cases::{Case, Ignores, TeacherList};
use crate::cases::{compare, is_long};

#[derive(Clone, Copy, Debug)]
enum Way {
    Beside,
    InPlace,
    Accumulated,
}

/// The memory layout of a case and the choices that kernels are compiled for.
fn laid_out() -> impl Strategy<Value = Case> {
    let way = select(vec![Way::Beside, Way::InPlace, Way::Accumulated]);
    let offsets = [0usize..9, 0usize..9, 0usize..9];
    // In a third of the cases all rows start at multiples of four elements.
    let by_four = (0u8..3).prop_map(|n| n == 0);
    (made(Kernels::Any), way, offsets, 0usize..5, by_four).prop_map(
        |(made, way, offsets, gap, by_four)| {
            let (rows, classes) = made.shape;
            let mut case = Case::of_shape(rows, classes, Kind::Normal, made.storage);
            case.config = made.config;
            case.gaps = [made.gaps[0], made.gaps[1], gap];
            case.offsets = offsets;
            if by_four {
                case.gaps = [classes.next_multiple_of(4) - classes; 3];
                case.offsets = offsets.map(|offset| offset / 4 * 4);
            }
            case.in_place = matches!(way, Way::InPlace);
            if case.in_place {
                case.storage[2] = case.storage[0];
            }
            if matches!(way, Way::Accumulated) {
                case.config.grad_write = GradWrite::Accumulate;
            }
            case
        },
    )
}

/// Kinds of logits.
const KINDS: [Kind; 12] = [
    Kind::Normal,
    Kind::Normal,
    Kind::Peaked,
    Kind::Identical,
    Kind::OneHot,
    Kind::MaskedBoth,
    Kind::MaskedTeacher,
    Kind::MaskedStudent,
    Kind::MaskedButLast,
    Kind::Broken,
    Kind::Offset(1e3),
    Kind::Huge,
];

fn any_case(kernels: Kernels) -> impl Strategy<Value = Case> {
    let laid_out = match kernels {
        Kernels::Any => laid_out().boxed(),
        Kernels::Few => some_of(&laid_out()).boxed(),
    };
    // Lists have kernels of their own.
    let entries = match kernels {
        Kernels::Any => vec![None, None, Some(1), Some(6), Some(64)],
        Kernels::Few => vec![None],
    };
    let ignores = select(vec![Ignores::None, Ignores::EveryThird, Ignores::All]);
    (
        laid_out,
        select(KINDS.to_vec()),
        ignores,
        any::<bool>(),
        super::drawn::config(),
        (0u64..9, select(entries), any::<bool>()),
    )
        .prop_map(
            |(case, kind, ignores, bad_labels, config, (step, entries, ghost))| {
                let case = Case {
                    // These values exceed the range of 16-bit types.
                    kind: match kind {
                        Kind::Huge | Kind::Offset(_) if case.storage.contains(&Storage::F16) => {
                            Kind::Normal
                        }
                        kind => kind,
                    },
                    ignores,
                    bad_labels,
                    progress: Progress::new(step, 8),
                    config: compiled(
                        &case.config,
                        Config {
                            grad_write: case.config.grad_write,
                            // At lower temperatures the logits of these kinds leave a cosine with few significant digits.
                            student_temperature: config.student_temperature.max(0.5),
                            teacher_temperature: config.teacher_temperature.max(0.5),
                            ..config
                        },
                    ),
                    ..case
                };
                with_list(case, entries, ghost)
            },
        )
        .prop_map(|mut case| {
            if case.kind == Kind::Huge {
                // The square of the log-sum-exp exceeds f32.
                case.config.z_loss = 0.0;
            }
            case
        })
}

/// The case with a list of at most so many entries as the teacher, if its choices allow one.
fn with_list(mut case: Case, entries: Option<usize>, ghost: bool) -> Case {
    let config = &mut case.config;
    let allowed = !config.divergence.is_sampled()
        && !matches!(
            config.divergence,
            Divergence::Dkd { .. } | Divergence::Nkd { .. } | Divergence::Wsld
        )
        && !matches!(config.selection, Selection::Margin(_))
        && config.standardization == Standardization::None
        && config.scope != Scope::Batch;
    let Some(k) = entries.filter(|_| allowed) else {
        return case;
    };
    config.teacher_tail = match ghost {
        true => TeacherTail::Ghost,
        false => TeacherTail::Renormalized,
    };
    if ghost {
        config.teacher_temperature = 1.0;
    }
    case.teacher_list = TeacherList::Finite;
    case.teacher_classes = k.min(case.classes);
    case
}

fn holds_on(bench: &Bench) {
    let kernels = if is_long() {
        Kernels::Any
    } else {
        Kernels::Few
    };
    for_all(
        &bench.describe(),
        [of_gpu(60), 1000],
        &any_case(kernels),
        |case| {
            let host = case.host();
            let want = reference::distill(&case.config, case.progress, &host.batch());
            let want = want.map_err(|e| e.to_string())?;
            compare::check(&case, &want, &bench.run(&case)?)
        },
    );
}

#[test]
fn any_case_on_buffers() {
    let Some(plain) = adapter::without_subgroups() else {
        return;
    };
    holds_on(&Bench::new(plain));
    if let Some(gpu) = adapter::with_subgroups("laws of cases on buffers with subgroups") {
        holds_on(&Bench::new(gpu));
    }
}

#[test]
fn any_case_with_default_limits() {
    if adapter::with_subgroups("laws of cases with default limits").is_some() {
        let gpu = adapter::with_default_limits(wgpu::Features::SUBGROUP).expect("an adapter");
        holds_on(&Bench::with_hardware_plans(gpu));
    }
}
