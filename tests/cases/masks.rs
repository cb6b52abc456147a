//! Cases of joined masks.

use super::case::{Case, SoftLabels, Weights};
use super::inputs::Kind;
use super::rows::{REDUCTIONS, SHAPES, gradient_memory, vary};
use wgpu_distill::{
    ClassWeighting, Config, Divergence, HardTemperature, MaskedClasses, NonFinite, Scope,
    Selection, Similarity, SmoothedClasses, Storage, TeacherClasses, TssrGradient,
};

/// `MaskedClasses::Both` with masks in either row, shorter teachers and rows without a common class, in every divergence that has it.
pub(super) fn joined(list: &mut Vec<Case>) {
    let kinds = [
        Kind::MaskedTeacher,
        Kind::MaskedStudent,
        Kind::Normal,
        Kind::MaskedButLast,
        Kind::Disjoint,
        Kind::Broken,
        Kind::MaskedBoth,
    ];
    let takes_label_apart = |d: &Divergence| ["dkd", "nkd", "wsld"].contains(&d.name());
    let divergences = Divergence::ALL.into_iter();
    let divergences = divergences.filter(|d| !d.is_sampled() && !takes_label_apart(d));
    let mut n = 0;
    for divergence in divergences {
        for _ in 0..2 {
            let (rows, classes, scope) = SHAPES[(n + n / 8) % SHAPES.len()];
            let kind = kinds[n % kinds.len()];
            let name = format!("joined masks {rows}x{classes}/{kind:?}/{divergence}");
            let mut case = Case::new(name, "the classes that both have", rows, classes);
            case.kind = kind;
            vary(&mut case, n);
            case.metrics = n % 5 == 2;
            if kind == Kind::Normal {
                case.teacher_classes = classes - classes / 4;
            }
            let attached = n % 9 == 4;
            case.config = Config {
                divergence,
                masked_classes: MaskedClasses::Both,
                teacher_classes: TeacherClasses::CommonPrefix,
                scope,
                selection: match n % 4 {
                    _ if attached => Selection::Kdr,
                    3 => Selection::Margin(0.25),
                    k => [Selection::Mean, Selection::Fixed(0.5), Selection::Min][k],
                },
                similarity: match attached {
                    true => Similarity::ExpNegKl,
                    false => Similarity::ALL[n % Similarity::ALL.len()],
                },
                tssr_gradient: match attached && scope == Scope::Row {
                    true => TssrGradient::Attached,
                    false => TssrGradient::Detached,
                },
                reduction: REDUCTIONS[n % REDUCTIONS.len()],
                hard_temperature: match n % 3 {
                    2 => HardTemperature::Own(1.5),
                    _ => HardTemperature::Student,
                },
                label_smoothing: [0.0, 0.0, 0.125][n % 3],
                smoothed_classes: [SmoothedClasses::All, SmoothedClasses::Unmasked][n / 2 % 2],
                student_temperature: [1.0, 2.0][n % 2],
                z_loss: [0.0, 0.0, 0.0, 1e-3][n % 4],
                non_finite: match n % 5 {
                    1 => NonFinite::Skip,
                    _ => NonFinite::Propagate,
                },
                ..Config::default()
            };
            gradient_memory(&mut case, n);
            list.push(case);
            n += 1;
        }
    }
    let mut beside = |name: &str, kind: Kind, change: fn(&mut Case)| {
        let mut case = Case::new(name, "the classes that both have", 9, 150);
        case.kind = kind;
        case.config.masked_classes = MaskedClasses::Both;
        case.config.selection = Selection::Mean;
        change(&mut case);
        list.push(case);
    };
    beside("joined masks, soft labels", Kind::MaskedTeacher, |case| {
        case.soft_labels = SoftLabels::Finite(Storage::F32);
    });
    beside("joined masks, class weights", Kind::MaskedStudent, |case| {
        case.class_weights = Weights::Finite;
        case.config.class_weighting = ClassWeighting::Both;
        case.config.label_smoothing = 0.125;
    });
    beside(
        "joined masks, Cosine attached",
        Kind::MaskedTeacher,
        |case| {
            case.config.tssr_gradient = TssrGradient::Attached;
            case.config.selection = Selection::Kdr;
        },
    );
    // Their hard part is infinite.
    beside(
        "joined masks, labels that the teacher lacks",
        Kind::Peaked,
        |case| {
            case.teacher_classes = 20;
            case.config.teacher_classes = TeacherClasses::CommonPrefix;
            case.config.divergence = Divergence::ReverseKl;
        },
    );
}
