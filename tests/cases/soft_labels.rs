//! Cases of soft labels.

use super::case::{Case, SoftLabels, Weights};
use super::inputs::Kind;
use super::rows::{REDUCTIONS, SHAPES, gradient_memory, vary};
use wgpu_distill::{
    Config, Divergence, HardTemperature, NonFinite, Selection, Similarity, SmoothedClasses,
    Storage, TeacherClasses, TssrGradient,
};

/// Soft labels, with the choices that meet them: storage types, memory, weights, smoothing, temperatures, masks, plans.
pub(super) fn add(list: &mut Vec<Case>) {
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
                smoothed_classes: [SmoothedClasses::All, SmoothedClasses::Unmasked][n / 4 % 2],
                loss_clamp: [None, None, None, None, Some([0.0, 4.0])][n % 5],
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
