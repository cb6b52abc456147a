//! Cases of the choices for single rows and classes.

use super::case::{Case, Ignores, Weights};
use super::inputs::Kind;
use wgpu_distill::{
    ClassWeighting, Config, Divergence, GradWrite, HardTemperature, NonFinite, Reduction, Scope,
    Selection, Similarity, SmoothedClasses, Storage, TeacherClasses, TssrGradient,
};

/// Shapes of one dispatch, of two phases and of segments.
pub(super) const SHAPES: [(usize, usize, Scope); 4] = [
    (7, 35, Scope::Row),
    (7, 150, Scope::Batch),
    (8, 1003, Scope::Given(0.375)),
    (2, 66_001, Scope::Row),
];

pub(super) const REDUCTIONS: [Reduction; 4] = [
    Reduction::Mean,
    Reduction::Sum,
    Reduction::None,
    Reduction::SumOver(11.5),
];

/// Sets the memory of the gradient: overwritten, accumulated, in place, with gaps.
pub(super) fn gradient_memory(case: &mut Case, n: usize) {
    match n % 4 {
        1 => case.config.grad_write = GradWrite::Accumulate,
        2 => case.in_place = true,
        3 => (case.gaps, case.offsets) = ([1, 3, 1], [3, 1, 3]),
        _ => {}
    }
}

/// Sets storage type, wrong labels and ignored labels by the number of the case.
pub(super) fn vary(case: &mut Case, n: usize) {
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

/// TSSR from the teacher's margin: thresholds, shapes of the gradient, and labels that the teacher prefers, masks or lacks.
pub(super) fn margins(list: &mut Vec<Case>) {
    let losses = [
        (Kind::Normal, Divergence::SoftCrossEntropy, 0.2),
        (Kind::MaskedTeacher, Divergence::ForwardKl, 0.0),
        (Kind::Broken, Divergence::Jsd { beta: 0.5 }, 0.01),
        (Kind::Peaked, Divergence::ReverseKl, 0.4),
        (Kind::Flat, Divergence::Wsld, 1.0),
    ];
    for (n, (kind, divergence, threshold)) in losses.into_iter().enumerate() {
        let (rows, classes, scope) = SHAPES[n % SHAPES.len()];
        let name = format!("margin {rows}x{classes}/{kind:?}/{divergence}/{threshold}");
        let mut case = Case::new(name, "the label's share from the teacher", rows, classes);
        case.kind = kind;
        vary(&mut case, n);
        // At a low temperature the teacher prefers one class by far.
        let temperature = [1.0, 0.25][n % 2];
        case.config = Config {
            divergence,
            scope,
            selection: Selection::Margin(threshold),
            teacher_temperature: temperature,
            ..Config::default()
        };
        gradient_memory(&mut case, n);
        list.push(case);
    }
    let mut case = Case::new("margin of short rows", "labels on both sides", 37, 3);
    case.config.selection = Selection::Margin(0.2);
    case.teacher_classes = 2;
    case.config.teacher_classes = TeacherClasses::CommonPrefix;
    list.push(case);
}

/// Bounds of a row's loss: infinite ones, those without a gradient, and bounds on both sides.
pub(super) fn clamped(list: &mut Vec<Case>) {
    let losses = [
        (Kind::MaskedStudent, Divergence::ForwardKl, [0.0, 10.0]),
        (Kind::MaskedTeacher, Divergence::ReverseKl, [-1.0, 4.0]),
        (Kind::Broken, Divergence::SoftCrossEntropy, [3.0, 5.5]),
        (
            Kind::Normal,
            Divergence::Dkd {
                alpha: 1.0,
                beta: 2.0,
            },
            [2.0, 6.0],
        ),
        (
            Kind::Disjoint,
            Divergence::KlTv {
                scale: 1.0,
                decay: 1.0,
            },
            [0.0, 1e3],
        ),
    ];
    for (n, (kind, divergence, bounds)) in losses.into_iter().enumerate() {
        let (rows, classes, scope) = SHAPES[n % SHAPES.len()];
        let name = format!("clamp {rows}x{classes}/{kind:?}/{divergence}");
        let mut case = Case::new(name, "bounds of a row's loss", rows, classes);
        case.kind = kind;
        vary(&mut case, n);
        case.weights = [Weights::None, Weights::Finite][n % 2];
        case.config = Config {
            divergence,
            scope,
            selection: Selection::Mean,
            loss_clamp: Some(bounds),
            z_loss: [0.0, 1e-3][n % 2],
            non_finite: [NonFinite::Skip, NonFinite::Propagate][n % 2],
            ..Config::default()
        };
        gradient_memory(&mut case, n + 1);
        list.push(case);
    }
}

/// Smoothing over the classes that the student does not mask, labels that it masks included.
pub(super) fn smoothed(list: &mut Vec<Case>) {
    let losses = [
        (
            Kind::MaskedBoth,
            Divergence::SoftCrossEntropy,
            HardTemperature::Student,
        ),
        (
            Kind::MaskedStudent,
            Divergence::Jsd { beta: 0.5 },
            HardTemperature::Own(1.5),
        ),
        (
            Kind::MaskedButLast,
            Divergence::ReverseKl,
            HardTemperature::Student,
        ),
        (
            Kind::MaskedStudent,
            Divergence::TotalVariation,
            HardTemperature::Student,
        ),
        (
            Kind::MaskedStudent,
            Divergence::Dkd {
                alpha: 1.0,
                beta: 0.0,
            },
            HardTemperature::Student,
        ),
        (
            Kind::MaskedBoth,
            Divergence::Nkd { gamma: 1.5 },
            HardTemperature::Own(1.0),
        ),
        (
            Kind::Broken,
            Divergence::AlphaBeta {
                alpha: 0.5,
                beta: 1.0,
            },
            HardTemperature::Student,
        ),
    ];
    for (n, (kind, divergence, hard_temperature)) in losses.into_iter().enumerate() {
        let (rows, classes, scope) = SHAPES[n % SHAPES.len()];
        let name = format!("unmasked smoothing {rows}x{classes}/{kind:?}/{divergence}");
        let mut case = Case::new(name, "smoothing leaves masked classes out", rows, classes);
        case.kind = kind;
        vary(&mut case, n);
        case.config = Config {
            divergence,
            hard_temperature,
            scope,
            selection: Selection::Fixed(0.5),
            label_smoothing: 0.125,
            smoothed_classes: SmoothedClasses::Unmasked,
            student_temperature: 2.0,
            ..Config::default()
        };
        gradient_memory(&mut case, n);
        list.push(case);
    }
    let mut case = Case::new(
        "unmasked smoothing, a shorter teacher",
        "only the student's masks count",
        9,
        40,
    );
    case.teacher_classes = 30;
    case.config.teacher_classes = TeacherClasses::CommonPrefix;
    case.config.label_smoothing = 0.25;
    case.config.smoothed_classes = SmoothedClasses::Unmasked;
    list.push(case);
}

/// Weights of the classes in the hard part, the soft part and both, with label smoothing and without.
pub(super) fn class_weights(list: &mut Vec<Case>) {
    use ClassWeighting::{Both, Hard, Soft};
    let soft = Divergence::SoftCrossEntropy;
    let dkd = Divergence::Dkd {
        alpha: 1.0,
        beta: 2.0,
    };
    let mut n = 0;
    for (rows, classes, scope) in SHAPES {
        for (kind, divergence, class_weighting, label_smoothing) in [
            (Kind::Normal, soft, Both, 0.0),
            (Kind::MaskedStudent, soft, Soft, 0.0),
            (Kind::Broken, Divergence::ReverseKl, Hard, 0.125),
            (Kind::MaskedBoth, soft, Both, 0.125),
            (Kind::Normal, dkd, Hard, 0.0),
            (Kind::MaskedTeacher, soft, Hard, 0.0),
        ] {
            let name = format!("{class_weighting:?} {rows}x{classes}/{kind:?}/{divergence}");
            let mut case = Case::new(name, "weights of classes", rows, classes);
            case.kind = kind;
            case.class_weights = match n % 4 {
                3 => Weights::Broken,
                _ => Weights::Finite,
            };
            case.weights = match n % 5 {
                4 => Weights::Finite,
                _ => Weights::None,
            };
            vary(&mut case, n);
            case.metrics = n % 7 == 2;
            case.config = Config {
                divergence,
                class_weighting,
                label_smoothing,
                scope,
                selection: Selection::Mean,
                similarity: Similarity::ALL[n % Similarity::ALL.len()],
                reduction: REDUCTIONS[n % REDUCTIONS.len()],
                hard_temperature: match n % 3 {
                    2 => HardTemperature::Own(1.5),
                    _ => HardTemperature::Student,
                },
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
    for similarity in [Similarity::Cosine, Similarity::Bhattacharyya] {
        let name = format!("class weights/{similarity}/attached");
        let mut case = Case::new(name, "weights of all terms of the gradient", 7, 77);
        case.class_weights = Weights::Finite;
        case.teacher_classes = 70;
        case.config = Config {
            class_weighting: Both,
            label_smoothing: 0.25,
            z_loss: 1e-3,
            student_temperature: 2.0,
            similarity,
            tssr_gradient: TssrGradient::Attached,
            selection: Selection::Mean,
            teacher_classes: TeacherClasses::CommonPrefix,
            ..Config::default()
        };
        list.push(case);
    }
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
        list.push(case.for_sampled_tokens());
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
