//! Cases of every divergence, of the weights and temperatures of the parts, and of an attached TSSR.
//!
//! A driver compiles kernels far slower than it runs them. The choices that kernels are compiled for therefore have five combinations per
//! divergence; eleven cases of each divergence share them. Numbers of choices are prime, so that multiples reach every value of a list.

use super::case::{Case, Ignores, Weights};
use super::inputs::Kind;
use wgpu_distill::{
    Config, Divergence, GradWrite, HardTemperature, NonFinite, Reduction, Scope, Selection,
    Similarity, Standardization, Storage, TeacherClasses, TemperatureScaling, TssrGradient,
};

/// Cases of a divergence, and combinations of compiled choices.
const CASES: usize = 11;
const COMPILED: usize = 5;

/// Every divergence with examples of its numbers: usual ones, and those near the ends of their ranges.
fn with_numbers(divergence: Divergence) -> Vec<Divergence> {
    use Divergence as D;
    let more = match divergence {
        D::KlSum { .. } => vec![
            D::KlSum {
                forward: 0.0,
                reverse: 2.0,
            },
            D::KlSum {
                forward: 1.25,
                reverse: 0.125,
            },
        ],
        D::Jsd { .. } => vec![D::Jsd { beta: 0.1 }, D::Jsd { beta: 0.97 }],
        D::SkewKl { .. } => vec![D::SkewKl { alpha: 0.01 }, D::SkewKl { alpha: 0.9 }],
        D::SkewReverseKl { .. } => vec![
            D::SkewReverseKl { alpha: 0.01 },
            D::SkewReverseKl { alpha: 0.9 },
        ],
        D::KlTv { .. } => vec![
            D::KlTv {
                scale: 0.0,
                decay: 0.0,
            },
            D::KlTv {
                scale: 0.75,
                decay: 3.0,
            },
        ],
        D::AlphaBeta { .. } => vec![
            D::AlphaBeta {
                alpha: 1.0,
                beta: 1.0,
            },
            D::AlphaBeta {
                alpha: 0.2,
                beta: 0.7,
            },
        ],
        D::Dkd { .. } => vec![
            D::Dkd {
                alpha: 0.0,
                beta: 1.0,
            },
            D::Dkd {
                alpha: 2.5,
                beta: 0.0,
            },
        ],
        D::Nkd { .. } => vec![D::Nkd { gamma: 0.01 }, D::Nkd { gamma: 8.0 }],
        D::Taid { .. } => vec![D::Taid { share: 0.1 }, D::Taid { share: 0.95 }],
        D::K1 { .. } => vec![D::K1 { clamp: 0.5 }, D::K1 { clamp: 1e4 }],
        D::K2 { .. } => vec![D::K2 { clamp: 2.0 }, D::K2 { clamp: 1e4 }],
        D::K3 { .. } => vec![D::K3 { clamp: 3.0 }],
        _ => Vec::new(),
    };
    [vec![divergence], more].concat()
}

/// Returns true if the label has a gradient of its own.
fn is_apart(divergence: &Divergence) -> bool {
    use Divergence as D;
    matches!(divergence, D::Dkd { .. } | D::Nkd { .. } | D::Wsld)
}

/// The value of a list at a multiple of two numbers.
fn at<T: Copy>(list: &[T], case: usize, divergence: usize, primes: [usize; 2], count: usize) -> T {
    list[(primes[0] * case + primes[1] * divergence) % count % list.len()]
}

const KINDS: [Kind; CASES] = [
    Kind::Normal,
    Kind::MaskedTeacher,
    Kind::Peaked,
    Kind::MaskedBoth,
    Kind::Identical,
    Kind::Broken,
    Kind::MaskedStudent,
    Kind::Offset(1e3),
    Kind::Disjoint,
    Kind::OneHot,
    Kind::Flat,
];

const SELECTIONS: [Selection; 9] = [
    Selection::Mean,
    Selection::Fixed(0.0),
    Selection::Kdr,
    Selection::Min,
    Selection::Fixed(0.25),
    Selection::Product,
    Selection::Max,
    Selection::Tstr,
    Selection::Fixed(1.0),
];

const LENGTHS: [usize; COMPILED] = [35, 4, 1003, 150, 5000];

/// Sets the choices that kernels are compiled for.
fn compiled(case: &mut Case, n: usize, d: usize) {
    let storages = [Storage::F32, Storage::Bf16, Storage::F16];
    let storage = |primes| at(&storages, n, d, primes, COMPILED);
    case.storage = [storage([1, 0]), storage([2, 1]), storage([3, 2])];
    case.classes = at(&LENGTHS, n, d, [1, 1], COMPILED);
    case.teacher_classes = case.classes;
    let config = &mut case.config;
    config.similarity = at(&Similarity::ALL, n, d, [1, 2], COMPILED);
    let scopes = [Scope::Row, Scope::Batch, Scope::Given(0.375)];
    config.scope = at(&scopes, n, d, [4, 3], COMPILED);
    config.label_smoothing = at(&[0.0, 0.125], n, d, [2, 3], COMPILED);
    let own = HardTemperature::Own;
    let temperatures = [HardTemperature::Student, own(1.0), own(2.5)];
    config.hard_temperature = at(&temperatures, n, d, [3, 4], COMPILED);
    match at(&[0, 0, 0, 1, 2], n, d, [1, 4], COMPILED) {
        1 => config.grad_write = GradWrite::Accumulate,
        2 => {
            case.in_place = true;
            case.storage[2] = case.storage[0];
        }
        _ => {}
    }
    if at(&[true, false], n, d, [4, 1], COMPILED) {
        (case.gaps, case.offsets) = ([1, 3, 1], [3, 1, 3]);
    }
}

/// Sets the choices that kernels read when they run.
fn runtime(case: &mut Case, n: usize, d: usize) {
    case.kind = at(&KINDS, n, d, [1, 5], CASES);
    if case.kind != Kind::Broken {
        case.ignores = at(&[Ignores::None, Ignores::EveryThird], n, d, [3, 1], CASES);
    }
    case.bad_labels = at(&[true, false, false, false, false], n, d, [5, 2], CASES);
    let config = &mut case.config;
    config.selection = at(&SELECTIONS, n, d, [2, 3], CASES);
    let reductions = [
        Reduction::Mean,
        Reduction::Sum,
        Reduction::None,
        Reduction::SumOver(11.5),
    ];
    config.reduction = at(&reductions, n, d, [4, 1], CASES);
    let temperatures = [(1.0, 1.0), (2.0, 2.0), (0.5, 3.0), (4.0, 1.0)];
    (config.student_temperature, config.teacher_temperature) =
        at(&temperatures, n, d, [6, 7], CASES);
    let scalings = [TemperatureScaling::None, TemperatureScaling::Squared];
    config.temperature_scaling = at(&scalings, n, d, [7, 4], CASES);
    let weights = [(1.0, 1.0), (0.25, 1.5), (3.0, 0.0), (0.0, 0.5), (1.0, 2.0)];
    (config.soft_weight, config.hard_weight) = at(&weights, n, d, [8, 9], CASES);
    config.z_loss = at(&[0.0, 1e-3, 0.0, 1e-4], n, d, [9, 5], CASES);
    let teacher_classes = [case.classes, case.classes - 2, case.classes + 3];
    case.teacher_classes = at(&teacher_classes, n, d, [10, 6], CASES);
    if case.teacher_classes != case.classes {
        config.teacher_classes = TeacherClasses::CommonPrefix;
    }
}

/// A case of a divergence by its number.
fn case_of(divergence: Divergence, d: usize, n: usize) -> Case {
    let mut case = Case::new(
        format!("{}/{n}", divergence.name()),
        "a divergence with a value of every choice",
        7,
        1,
    );
    compiled(&mut case, n % COMPILED, d);
    runtime(&mut case, n, d);
    let numbers = with_numbers(divergence);
    case.config.divergence = numbers[n % numbers.len()];
    case.for_sampled_tokens()
}

/// Every divergence, and every value of the other choices with it.
pub(super) fn divergences(list: &mut Vec<Case>) {
    for (d, divergence) in Divergence::ALL.into_iter().enumerate() {
        list.extend((0..CASES).map(|n| case_of(divergence, d, n)));
    }
}

/// Labels whose logits are up to 2e30 from those of the other classes, which have a distribution of their own.
pub(super) fn far_labels(list: &mut Vec<Case>) {
    let apart = Divergence::ALL.into_iter().filter(is_apart);
    for (d, divergence) in apart.enumerate() {
        // In each of them some row has its label at both maxima. The lowest logit is then that of another class.
        for (n, classes) in [17, 5, 35].into_iter().enumerate() {
            let storages = [Storage::F32, Storage::Bf16];
            let name = format!("{}/far label {n}", divergence.name());
            let why = "the label's logit is 1e30 from those of the others";
            let mut case = Case::new(name, why, 12, classes);
            case.kind = Kind::Huge;
            case.storage = [0, 1, 0].map(|side| storages[(n + d + side) % 2]);
            case.gaps = [[1, 3, 1], [0; 3], [3, 1, 3]][n];
            case.config = Config {
                divergence,
                teacher_temperature: 0.5,
                hard_temperature: [HardTemperature::Student, HardTemperature::Own(1.5)][n % 2],
                selection: Selection::Fixed(0.25),
                ..Config::default()
            };
            list.push(case);
        }
    }
}

/// Rows that are split into segments, whose statistics are merged before the second sweep.
pub(super) fn segments(list: &mut Vec<Case>) {
    for divergence in Divergence::ALL {
        let name = format!("{}/segments", divergence.name());
        let mut case = Case::new(name, "statistics of segments are merged", 1, 66_001);
        case.config = Config {
            divergence,
            hard_temperature: HardTemperature::Own(1.0),
            student_temperature: 2.0,
            teacher_temperature: 2.0,
            selection: Selection::Fixed(0.25),
            ..Config::default()
        };
        list.push(case.for_sampled_tokens());
    }
}

/// An attached TSSR: each similarity that has a slope, and each divergence beside it.
pub(super) fn attached(list: &mut Vec<Case>) {
    let selections = [
        Selection::Kdr,
        Selection::Mean,
        Selection::Product,
        Selection::Min,
        Selection::Max,
    ];
    let kinds = [
        Kind::Normal,
        Kind::MaskedTeacher,
        Kind::Offset(1e3),
        Kind::MaskedBoth,
        Kind::Identical,
        Kind::MaskedStudent,
        Kind::Peaked,
    ];
    let mut n = 0;
    let mut add = |divergence, similarity| {
        n += 1;
        let name = format!("attached {n}/{divergence}/{similarity}");
        let classes = [35, 150, 1003][n % 3];
        let mut case = Case::new(name, "the gradient also passes through KDR", 7, classes);
        case.kind = kinds[n % kinds.len()];
        case.storage = [Storage::ALL[n % 3], Storage::ALL[n / 3 % 3], Storage::F32];
        case.config = Config {
            divergence,
            similarity,
            selection: selections[n % selections.len()],
            tssr_gradient: TssrGradient::Attached,
            hard_temperature: match n % 2 {
                0 => HardTemperature::Student,
                _ => HardTemperature::Own(1.5),
            },
            label_smoothing: [0.0, 0.0, 0.125][n % 3],
            soft_weight: [1.0, 0.5, 2.0][n % 3],
            temperature_scaling: TemperatureScaling::Squared,
            student_temperature: 2.0,
            teacher_temperature: [2.0, 1.0][n % 2],
            ..Config::default()
        };
        list.push(case);
    };
    for divergence in [Divergence::SoftCrossEntropy, Divergence::ForwardKl] {
        for similarity in [Similarity::Cosine, Similarity::Bhattacharyya] {
            (0..4).for_each(|_| add(divergence, similarity));
        }
    }
    // Divergences with a gradient of their own at the label are refused, and those without KDR.
    let attaches = |d: &Divergence| !is_apart(d) && !d.is_sampled();
    for divergence in Divergence::ALL.into_iter().filter(attaches) {
        add(divergence, Similarity::ExpNegKl);
    }
}

/// Standardised logits. A flat row divides its gradient by 1e-7, so that its rounding shows: only a hard part hides it.
pub(super) fn standardized(list: &mut Vec<Case>) {
    let own = HardTemperature::Own(1.0);
    for (n, (kind, classes, hard_temperature)) in [
        (Kind::Normal, 35, own),
        (Kind::MaskedBoth, 1003, HardTemperature::Student),
        (Kind::Broken, 150, own),
        (Kind::Offset(3e4), 5000, own),
        (Kind::MaskedStudent, 4, HardTemperature::Student),
        (Kind::Identical, 150, own),
        (Kind::MaskedTeacher, 1003, own),
        (Kind::Flat, 35, HardTemperature::Student),
        (Kind::MaskedStudent, 1003, own),
        (Kind::Peaked, 5000, HardTemperature::Student),
        (Kind::OneHot, 35, own),
        (Kind::Normal, 1, HardTemperature::Student),
        (Kind::Disjoint, 150, HardTemperature::Student),
        (Kind::Offset(-1e3), 66_001, own),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("standardized {n}/{kind:?}/{classes}");
        let mut case = Case::new(name, "each row has temperatures of its own", 7, classes);
        case.kind = kind;
        case.storage[0] = Storage::ALL[n % 3];
        case.storage[1] = Storage::ALL[n / 2 % 3];
        case.storage[2] = case.storage[0];
        case.metrics = n % 4 == 2;
        case.bad_labels = n % 6 == 1;
        case.weights = [Weights::None, Weights::None, Weights::Finite][n % 3];
        case.ignores = [Ignores::None, Ignores::EveryThird][n / 2 % 2];
        match n % 5 {
            1 => case.config.grad_write = GradWrite::Accumulate,
            2 => case.in_place = true,
            3 => (case.gaps, case.offsets) = ([1, 3, 1], [3, 1, 3]),
            _ => {}
        }
        case.config = Config {
            standardization: Standardization::ZScore,
            divergence: [Divergence::ForwardKl, Divergence::SoftCrossEntropy][n % 2],
            hard_temperature,
            student_temperature: 2.0,
            teacher_temperature: [2.0, 1.25][n / 2 % 2],
            temperature_scaling: TemperatureScaling::Squared,
            label_smoothing: [0.0, 0.125, 0.0][n % 3],
            z_loss: if hard_temperature == own { 1e-4 } else { 0.0 },
            similarity: Similarity::ALL[n % 5],
            selection: SELECTIONS[n % SELECTIONS.len()],
            scope: [Scope::Row, Scope::Batch, Scope::Given(0.375)][n % 3],
            reduction: [Reduction::Mean, Reduction::Sum, Reduction::None][n / 3 % 3],
            non_finite: [NonFinite::Propagate, NonFinite::Skip][n / 2 % 2],
            ..case.config
        };
        if n % 7 == 6 {
            case.teacher_classes = classes - 2;
            case.config.teacher_classes = TeacherClasses::CommonPrefix;
        }
        list.push(case);
    }
}

/// The parts of the method's own loss with factors of their own.
pub(super) fn parts(list: &mut Vec<Case>) {
    for (n, hard_temperature) in [
        HardTemperature::Student,
        HardTemperature::Own(1.0),
        HardTemperature::Own(0.25),
        HardTemperature::Own(20.0),
    ]
    .into_iter()
    .enumerate()
    {
        for (m, (soft_weight, hard_weight, z_loss)) in [
            (1.0, 1.0, 0.0),
            (0.5, 2.0, 1e-4),
            (0.0, 1.0, 0.0),
            (1.0, 0.0, 0.25),
            (0.0, 0.0, 1.0),
            (1e6, 1e-6, 0.0),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("parts {hard_temperature:?} {soft_weight} {hard_weight} {z_loss}");
            let mut case = Case::new(name, "factors of the parts of the loss", 5, 77);
            case.kind = KINDS[(5 * n + m) % CASES];
            case.config = Config {
                hard_temperature,
                soft_weight,
                hard_weight,
                z_loss,
                student_temperature: 2.0,
                teacher_temperature: 2.0,
                temperature_scaling: TemperatureScaling::Squared,
                selection: Selection::Mean,
                ..Config::default()
            };
            list.push(case);
        }
    }
}
