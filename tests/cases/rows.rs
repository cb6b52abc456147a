//! Cases of the choices for single rows.

use super::case::{Case, Ignores, SoftLabels, Weights};
use super::inputs::Kind;
use wgpu_distill::{
    Config, Divergence, GradWrite, HardTemperature, NonFinite, Reduction, Scope, Selection,
    Similarity, Storage, TeacherClasses, TssrGradient,
};

/// Shapes of one dispatch, of two phases and of segments.
const SHAPES: [(usize, usize, Scope); 4] = [
    (7, 35, Scope::Row),
    (7, 150, Scope::Batch),
    (8, 1003, Scope::Given(0.375)),
    (2, 66_001, Scope::Row),
];

const REDUCTIONS: [Reduction; 4] = [
    Reduction::Mean,
    Reduction::Sum,
    Reduction::None,
    Reduction::SumOver(11.5),
];

/// Sets the memory of the gradient: overwritten, accumulated, in place, with gaps.
fn gradient_memory(case: &mut Case, n: usize) {
    match n % 4 {
        1 => case.config.grad_write = GradWrite::Accumulate,
        2 => case.in_place = true,
        3 => (case.gaps, case.offsets) = ([1, 3, 1], [3, 1, 3]),
        _ => {}
    }
}

/// Sets storage type, wrong labels and ignored labels by the number of the case.
fn vary(case: &mut Case, n: usize) {
    case.storage[0] = Storage::ALL[n % 3];
    case.storage[2] = case.storage[0];
    case.bad_labels = n % 5 == 1;
    case.ignores = match n % 3 {
        1 => Ignores::EveryThird,
        _ => Ignores::None,
    };
}

/// Rows without a finite result that are left out: broken ones, and those of a divergence without a gradient.
pub(super) fn non_finite(list: &mut Vec<Case>) {
    let mut n = 0;
    for (rows, classes, scope) in SHAPES {
        for (kind, divergence, selection) in [
            (Kind::Broken, Divergence::SoftCrossEntropy, Selection::Min),
            (Kind::Broken, Divergence::ReverseKl, Selection::Mean),
            (Kind::MaskedTeacher, Divergence::ReverseKl, Selection::Mean),
            (Kind::Disjoint, Divergence::NegLogOverlap, Selection::Mean),
        ] {
            let name = format!("skip {rows}x{classes}/{kind:?}/{divergence}");
            let why = "rows without a finite result are left out";
            let mut case = Case::new(name, why, rows, classes);
            case.kind = kind;
            vary(&mut case, n);
            case.config = Config {
                divergence,
                selection,
                scope,
                similarity: Similarity::ALL[n % Similarity::ALL.len()],
                reduction: REDUCTIONS[n / 2 % REDUCTIONS.len()],
                non_finite: NonFinite::Skip,
                ..Config::default()
            };
            gradient_memory(&mut case, n + n / 4);
            list.push(case);
            n += 1;
        }
    }
}

/// Weights of the rows, of both signs.
pub(super) fn weighted(list: &mut Vec<Case>) {
    let mut n = 0;
    for (rows, classes, scope) in SHAPES {
        for (kind, divergence, selection) in [
            (Kind::Normal, Divergence::SoftCrossEntropy, Selection::Min),
            (Kind::Broken, Divergence::ForwardKl, Selection::Mean),
            (Kind::MaskedTeacher, Divergence::ReverseKl, Selection::Mean),
            (
                Kind::MaskedStudent,
                Divergence::Jsd { beta: 0.5 },
                Selection::Mean,
            ),
        ] {
            for weights in [Weights::Finite, Weights::Broken] {
                let name = format!("{weights:?} weights {rows}x{classes}/{kind:?}/{divergence}");
                let mut case = Case::new(name, "weights of rows", rows, classes);
                case.kind = kind;
                case.weights = weights;
                vary(&mut case, n);
                case.config = Config {
                    divergence,
                    selection,
                    scope,
                    similarity: Similarity::ALL[n / 2 % Similarity::ALL.len()],
                    reduction: REDUCTIONS[n / 2 % REDUCTIONS.len()],
                    non_finite: match n % 7 {
                        3 => NonFinite::Skip,
                        _ => NonFinite::Propagate,
                    },
                    ..Config::default()
                };
                gradient_memory(&mut case, n + n / 4);
                list.push(case);
                n += 1;
            }
        }
    }
    for (hard_temperature, label_smoothing, z_loss) in [
        (HardTemperature::Own(1.0), 0.1, 1e-3),
        (HardTemperature::Student, 0.0, 1e-4),
    ] {
        let name = format!("weights/{hard_temperature:?}");
        let mut case = Case::new(name, "weights of all terms of the gradient", 7, 77);
        case.weights = Weights::Finite;
        case.config = Config {
            hard_temperature,
            label_smoothing,
            z_loss,
            student_temperature: 2.0,
            selection: Selection::Mean,
            divergence: Divergence::Jsd { beta: 0.25 },
            ..Config::default()
        };
        list.push(case);
    }
}

/// Soft labels, with the choices that meet them: storage types, memory, weights, smoothing, temperatures, masks, plans.
pub(super) fn soft_labels(list: &mut Vec<Case>) {
    let mut n = 0;
    for (rows, classes, scope) in SHAPES {
        for (kind, divergence) in [
            (Kind::Normal, Divergence::SoftCrossEntropy),
            (Kind::Broken, Divergence::ReverseKl),
            (Kind::MaskedStudent, Divergence::Jsd { beta: 0.5 }),
            (Kind::MaskedTeacher, Divergence::TotalVariation),
        ] {
            let turn = n + n / 4;
            let storage = Storage::ALL[turn % 3];
            let name = format!("soft labels {n} {rows}x{classes}/{kind:?}/{divergence}");
            let mut case = Case::new(name, "a distribution as the label", rows, classes);
            case.kind = kind;
            case.soft_labels = match turn % 4 {
                3 => SoftLabels::Broken(storage),
                _ => SoftLabels::Finite(storage),
            };
            vary(&mut case, n);
            case.metrics = turn % 4 == 2;
            case.config = Config {
                divergence,
                scope,
                selection: [Selection::Mean, Selection::Fixed(1.0), Selection::Min][n % 3],
                similarity: Similarity::ALL[n % Similarity::ALL.len()],
                reduction: REDUCTIONS[n / 2 % REDUCTIONS.len()],
                hard_temperature: match n % 3 {
                    1 => HardTemperature::Own(1.5),
                    _ => HardTemperature::Student,
                },
                label_smoothing: [0.0, 0.125][n / 2 % 2],
                student_temperature: [1.0, 2.0][n % 2],
                z_loss: [0.0, 0.0, 1e-3][n % 3],
                non_finite: match n % 5 {
                    1 => NonFinite::Skip,
                    _ => NonFinite::Propagate,
                },
                ..Config::default()
            };
            gradient_memory(&mut case, turn + 1);
            list.push(case);
            n += 1;
        }
    }
    let mut case = Case::new(
        "soft labels, teacher of 30",
        "every class of the student",
        7,
        40,
    );
    case.soft_labels = SoftLabels::Finite(Storage::F32);
    case.weights = Weights::Finite;
    case.teacher_classes = 30;
    case.config.teacher_classes = TeacherClasses::CommonPrefix;
    case.config.tssr_gradient = TssrGradient::Attached;
    case.config.selection = Selection::Kdr;
    list.push(case);
}

/// Metrics of the rows: every divergence, and the kinds of logits that make a metric 0, 1 or infinite.
pub(super) fn metrics(list: &mut Vec<Case>) {
    let kinds = [
        Kind::Normal,
        Kind::Identical,
        Kind::MaskedBoth,
        Kind::Broken,
        Kind::Peaked,
        Kind::MaskedStudent,
        Kind::Offset(1e3),
        Kind::MaskedTeacher,
        Kind::OneHot,
        Kind::Flat,
    ];
    let mut add = |n: usize, (rows, classes, scope), divergence, kind| {
        let name = format!("metrics {n} {rows}x{classes}/{kind:?}/{divergence}");
        let mut case = Case::new(name, "metrics of rows", rows, classes);
        case.kind = kind;
        case.metrics = true;
        case.storage[0] = Storage::ALL[n % 3];
        case.storage[2] = case.storage[0];
        case.bad_labels = n % 7 == 3;
        case.weights = match n % 3 {
            2 => Weights::Finite,
            _ => Weights::None,
        };
        case.ignores = match n % 4 {
            1 => Ignores::EveryThird,
            _ => Ignores::None,
        };
        case.config = Config {
            divergence,
            scope,
            selection: [Selection::Mean, Selection::Min][n % 2],
            similarity: Similarity::ALL[n % Similarity::ALL.len()],
            reduction: REDUCTIONS[n / 2 % REDUCTIONS.len()],
            hard_temperature: match n % 5 {
                4 => HardTemperature::Own(1.5),
                _ => HardTemperature::Student,
            },
            label_smoothing: [0.0, 0.0, 0.125][n % 3],
            student_temperature: [1.0, 2.0][n % 2],
            teacher_temperature: [1.0, 0.5, 2.0][n % 3],
            non_finite: match n % 3 {
                1 => NonFinite::Skip,
                _ => NonFinite::Propagate,
            },
            ..Config::default()
        };
        if divergence == Divergence::NegLogOverlap {
            // Flatter rows: an overlap below the smallest normal f32 has an infinite logarithm there.
            case.kind = Kind::Normal;
            (
                case.config.student_temperature,
                case.config.teacher_temperature,
            ) = (8.0, 8.0);
        }
        gradient_memory(&mut case, n);
        list.push(case);
    };
    for (n, kind) in kinds.into_iter().enumerate() {
        let shape = SHAPES[n % (SHAPES.len() - 1)];
        add(n, shape, Divergence::SoftCrossEntropy, kind);
    }
    for (d, divergence) in Divergence::ALL.into_iter().enumerate() {
        let n = kinds.len() + d;
        add(
            n,
            SHAPES[d % 3],
            divergence,
            kinds[(3 * d + 2) % kinds.len()],
        );
    }
    for (n, kind) in [(40, Kind::Normal), (41, Kind::Identical)] {
        add(n, SHAPES[3], Divergence::ReverseKl, kind);
    }
}
