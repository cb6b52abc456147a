//! Cases of teachers that are lists of classes.

use super::case::{Case, TeacherList, Weights};
use super::inputs::Kind;
use super::rows::{REDUCTIONS, gradient_memory, vary};
use wgpu_distill::{
    Config, Divergence, HardTemperature, NonFinite, Scope, Selection, Similarity, SmoothedClasses,
    Storage, TeacherTail, TemperatureScaling, TssrGradient,
};

const TAILS: [TeacherTail; 2] = [TeacherTail::Ghost, TeacherTail::Renormalized];

/// Rows, classes, entries of a list.
const SHAPES: [(usize, usize, usize); 7] = [
    (8, 10, 1),
    (7, 37, 37),
    (70, 100, 5),
    (5, 1000, 50),
    (3, 4100, 7),
    (9, 1003, 300),
    (2, 50_257, 64),
];

const KINDS: [Kind; 12] = [
    Kind::Normal,
    Kind::Peaked,
    Kind::Offset(1e3),
    Kind::Flat,
    Kind::FlatHalves,
    Kind::OneHot,
    Kind::MaskedStudent,
    Kind::MaskedTeacher,
    Kind::Disjoint,
    Kind::Huge,
    Kind::Broken,
    Kind::Identical,
];

pub(super) fn add(list: &mut Vec<Case>) {
    divergences(list);
    rows(list);
    attached(list);
    dispatches(list);
}

fn case(name: String, (rows, classes, k): (usize, usize, usize)) -> Case {
    Case {
        teacher_classes: k,
        teacher_list: TeacherList::Finite,
        ..Case::new(name, "a list of classes as the teacher", rows, classes)
    }
}

/// The divergences that a list takes.
fn of_whole_rows() -> impl Iterator<Item = Divergence> {
    Divergence::ALL.into_iter().filter(|divergence| {
        let label_apart = matches!(
            divergence,
            Divergence::Dkd { .. } | Divergence::Nkd { .. } | Divergence::Wsld
        );
        !label_apart && !divergence.is_sampled()
    })
}

/// Every divergence of whole rows with both tails.
fn divergences(list: &mut Vec<Case>) {
    for (n, divergence) in of_whole_rows().enumerate() {
        for tail in TAILS {
            let name = format!("list {divergence}/{tail:?}");
            let mut case = case(name, (14, 37, 6));
            case.config.divergence = divergence;
            case.config.teacher_tail = tail;
            case.config.similarity = Similarity::ALL[n % Similarity::ALL.len()];
            case.config.selection = Selection::Fixed(0.25);
            case.storage = [Storage::ALL[n % 3]; 3];
            list.push(case);
        }
    }
}

/// Shapes, kinds of logits and whatever meets a list.
fn rows(list: &mut Vec<Case>) {
    let divergences = [
        Divergence::SoftCrossEntropy,
        Divergence::Jsd { beta: 0.5 },
        Divergence::ReverseKl,
        Divergence::ForwardKl,
        Divergence::TotalVariation,
    ];
    let mut n = 0;
    for shape in SHAPES {
        for turn in 0..6 {
            let kind = KINDS[(5 * n + 3 * turn) % KINDS.len()];
            let divergence = divergences[n % divergences.len()];
            let tail = TAILS[(n + turn) % 2];
            let (rows, classes, k) = shape;
            let name = format!("list {n} {rows}x{classes} of {k}/{kind:?}/{divergence}/{tail:?}");
            let mut case = case(name, shape);
            case.kind = kind;
            if n % 5 == 3 {
                case.teacher_list = TeacherList::Broken;
            }
            vary(&mut case, n);
            case.storage[1] = Storage::ALL[(n + turn) % 3];
            case.weights = [
                Weights::None,
                Weights::Finite,
                Weights::None,
                Weights::Broken,
            ][n % 4];
            let ghost = tail == TeacherTail::Ghost;
            case.config = Config {
                divergence,
                teacher_tail: tail,
                selection: Selection::ALL[n % 7],
                similarity: Similarity::ALL[n % Similarity::ALL.len()],
                scope: [Scope::Row, Scope::Row, Scope::Given(0.375)][n % 3],
                reduction: REDUCTIONS[n / 2 % REDUCTIONS.len()],
                hard_temperature: match n % 3 {
                    1 => HardTemperature::Own(1.5),
                    _ => HardTemperature::Student,
                },
                label_smoothing: [0.0, 0.0, 0.125][n % 3],
                smoothed_classes: [SmoothedClasses::All, SmoothedClasses::Unmasked][n / 2 % 2],
                loss_clamp: [None, None, None, None, Some([0.0, 4.0])][n % 5],
                student_temperature: [1.0, 2.0][n / 3 % 2],
                teacher_temperature: if ghost { 1.0 } else { 1.5 },
                temperature_scaling: match n % 4 {
                    2 => TemperatureScaling::Squared,
                    _ => TemperatureScaling::None,
                },
                z_loss: match kind {
                    // Its square exceeds f32.
                    Kind::Huge => 0.0,
                    _ => [0.0, 0.0, 1e-3][n % 3],
                },
                non_finite: match n % 5 {
                    1 => NonFinite::Skip,
                    _ => NonFinite::Propagate,
                },
                ..Config::default()
            };
            gradient_memory(&mut case, n + turn);
            list.push(case);
            n += 1;
        }
    }
}

/// TSSR attached: the gradient through KDR.
fn attached(list: &mut Vec<Case>) {
    for (n, similarity) in [
        Similarity::Cosine,
        Similarity::Bhattacharyya,
        Similarity::ExpNegKl,
    ]
    .into_iter()
    .enumerate()
    {
        let tail = TAILS[n % 2];
        let mut case = case(format!("list {similarity}/attached/{tail:?}"), (14, 37, 6));
        case.config.similarity = similarity;
        case.config.teacher_tail = tail;
        case.config.tssr_gradient = TssrGradient::Attached;
        case.config.selection = Selection::Kdr;
        list.push(case);
    }
}

/// Steps that are dispatches of their own: the KDR of a batch, and long rows, which GPUs cut into segments. The tail is kept between them.
fn dispatches(list: &mut Vec<Case>) {
    let kinds = [
        Kind::Normal,
        Kind::Peaked,
        Kind::MaskedStudent,
        Kind::Offset(1e3),
        Kind::Broken,
        Kind::MaskedTeacher,
        Kind::Disjoint,
    ];
    for (n, divergence) in of_whole_rows().enumerate() {
        for (of_batch, shape) in [(true, (19, 37, 6)), (false, (1, 66_001, 40))] {
            let tail = TAILS[n % 2];
            let scope = match of_batch {
                true => Scope::Batch,
                false => [Scope::Row, Scope::Batch, Scope::Given(0.375)][n % 3],
            };
            let name = format!("list {divergence}/{tail:?}/{scope:?}/{} classes", shape.1);
            let mut case = case(name, shape);
            case.kind = if of_batch {
                kinds[n % kinds.len()]
            } else {
                Kind::Normal
            };
            if n % 4 == 1 {
                case.teacher_list = TeacherList::Broken;
            }
            case.weights = [Weights::None, Weights::Finite][n % 2];
            case.storage = [Storage::ALL[n % 3], Storage::ALL[n / 2 % 3], Storage::F32];
            case.config = Config {
                divergence,
                teacher_tail: tail,
                scope,
                similarity: Similarity::ALL[n % Similarity::ALL.len()],
                selection: Selection::Mean,
                hard_temperature: match n % 3 {
                    1 => HardTemperature::Own(1.5),
                    _ => HardTemperature::Student,
                },
                label_smoothing: [0.0, 0.0, 0.125][n % 3],
                student_temperature: [1.0, 2.0][n / 3 % 2],
                reduction: REDUCTIONS[n / 2 % REDUCTIONS.len()],
                ..Config::default()
            };
            gradient_memory(&mut case, n);
            if case.in_place {
                case.storage[2] = case.storage[0];
            }
            list.push(case);
        }
    }
}
