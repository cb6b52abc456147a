//! The rows of the table.

use super::case::{Case, Ignores};
use super::inputs::Kind;
use super::losses;
use super::{lists, masks, rows, soft_labels};
use wgpu_distill::{
    GradWrite, Progress, Reduction, Scope, Selection, Similarity, Storage, TeacherClasses,
    TemperatureScaling,
};

const SCOPES: [Scope; 3] = [Scope::Row, Scope::Batch, Scope::Given(0.375)];
const REDUCTIONS: [Reduction; 4] = [
    Reduction::None,
    Reduction::Sum,
    Reduction::Mean,
    Reduction::SumOver(11.5),
];

/// All cases.
pub fn all() -> Vec<Case> {
    let mut list = Vec::new();
    choices(&mut list);
    shapes(&mut list);
    hard_inputs(&mut list);
    far_units(&mut list);
    memory(&mut list);
    shared_memory(&mut list);
    hard_shared_memory(&mut list);
    options(&mut list);
    losses::divergences(&mut list);
    losses::far_labels(&mut list);
    losses::segments(&mut list);
    losses::attached(&mut list);
    losses::parts(&mut list);
    losses::standardized(&mut list);
    list.extend(of_rows());
    list
}

/// The cases of the choices for single rows.
pub fn of_rows() -> Vec<Case> {
    let mut list = Vec::new();
    rows::non_finite(&mut list);
    rows::weighted(&mut list);
    soft_labels::add(&mut list);
    lists::add(&mut list);
    rows::margins(&mut list);
    rows::clamped(&mut list);
    rows::smoothed(&mut list);
    rows::class_weights(&mut list);
    rows::metrics(&mut list);
    masks::joined(&mut list);
    list
}

/// Every similarity with every selection, and with every scope and reduction.
fn choices(list: &mut Vec<Case>) {
    for similarity in Similarity::ALL {
        for selection in Selection::ALL {
            let mut case = Case::new(
                format!("{similarity}/{selection}"),
                "each pair of choices",
                5,
                100,
            );
            case.config.similarity = similarity;
            case.config.selection = selection;
            list.push(case);
        }
        for scope in SCOPES {
            for reduction in REDUCTIONS {
                let name = format!("{similarity}/{scope:?}/{reduction:?}");
                let mut case = Case::new(name, "each scope with each denominator", 37, 33);
                case.config.similarity = similarity;
                case.config.scope = scope;
                case.config.reduction = reduction;
                case.config.selection = Selection::Mean;
                case.ignores = Ignores::EveryThird;
                list.push(case);
            }
        }
    }
}

/// Class counts around the sizes of vectors, subgroups, workgroups and tiles, and usual class counts.
fn shapes(list: &mut Vec<Case>) {
    let mut widths = vec![1, 2, 3, 4, 5, 10, 100, 192, 668, 1000, 1128];
    for edge in [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096] {
        widths.extend([edge - 1, edge, edge + 1]);
    }
    for classes in widths {
        let mut case = Case::new(
            format!("3x{classes}"),
            "edges of vectors, lanes and tiles",
            3,
            classes,
        );
        case.config.selection = Selection::Mean;
        list.push(case);
    }
    for (classes, why) in [
        (32_000, "Llama 2"),
        (32_768, "a power of two"),
        (50_257, "GPT-2: odd, no multiple of anything"),
        (128_256, "Llama 3"),
        (151_936, "Qwen"),
        (262_144, "Gemma 3, the longest rows"),
    ] {
        for similarity in [
            Similarity::Cosine,
            Similarity::ExpNegKl,
            Similarity::JensenShannon,
        ] {
            let mut case = Case::new(format!("2x{classes}/{similarity}"), why, 2, classes);
            case.config.similarity = similarity;
            case.config.selection = Selection::Mean;
            list.push(case);
        }
    }
    for (rows, classes, why) in [
        (1, 10, "one row"),
        (77, 10, "no multiple of the rows of a workgroup"),
        (289, 10, "the same, more workgroups"),
        (4097, 2, "one more than a workgroup counts by itself"),
        (65_537, 2, "more rows than workgroups in a dimension"),
        (200_003, 3, "many short rows"),
    ] {
        for scope in [Scope::Row, Scope::Batch] {
            let mut case = Case::new(format!("{rows}x{classes}/{scope:?}"), why, rows, classes);
            case.config.scope = scope;
            case.ignores = Ignores::EveryThird;
            list.push(case);
        }
    }
}

/// The hard inputs of METHOD, section 7.
fn hard_inputs(list: &mut Vec<Case>) {
    let kinds = [
        Kind::Peaked,
        Kind::Offset(1e3),
        Kind::Offset(-1e4),
        Kind::Offset(1e30),
        Kind::Offset(-1e30),
        Kind::Identical,
        Kind::Flat,
        Kind::OneHot,
        Kind::MaskedBoth,
        Kind::MaskedTeacher,
        Kind::MaskedStudent,
        Kind::MaskedButLast,
        Kind::Huge,
        Kind::Lowest,
        Kind::Broken,
        Kind::Subnormal,
    ];
    for kind in kinds {
        for similarity in Similarity::ALL {
            for classes in [6, 150] {
                let name = format!("{kind:?}/{similarity}/{classes}");
                let mut case =
                    Case::new(name, "a row of METHOD's table of hard inputs", 7, classes);
                case.kind = kind;
                case.config.similarity = similarity;
                case.config.selection = Selection::Mean;
                list.push(case);
            }
        }
        let mut case = Case::new(
            format!("{kind:?}/bf16"),
            "hard inputs through 16-bit loads",
            7,
            51,
        );
        case.kind = kind;
        case.storage = [Storage::Bf16; 3];
        list.push(case.clone());
        if !matches!(kind, Kind::Offset(_) | Kind::Huge | Kind::Lowest) {
            case.name = format!("{kind:?}/f16");
            case.storage = [Storage::F16; 3];
            list.push(case);
        }
        for scope in [Scope::Batch, Scope::Given(1.0)] {
            let mut case = Case::new(
                format!("{kind:?}/{scope:?}"),
                "hard inputs with a batch's KDR",
                7,
                150,
            );
            case.kind = kind;
            case.config.scope = scope;
            list.push(case);
        }
    }
    for w in [0.0, 1.0] {
        for kind in [
            Kind::MaskedStudent,
            Kind::MaskedTeacher,
            Kind::MaskedButLast,
        ] {
            let mut case = Case::new(
                format!("{kind:?}/fixed:{w}"),
                "a weight of 0 must remove an infinite term",
                7,
                50,
            );
            case.kind = kind;
            case.config.selection = Selection::Fixed(w);
            list.push(case);
        }
    }
    for kind in [
        Kind::Normal,
        Kind::MaskedStudent,
        Kind::Offset(1e3),
        Kind::Peaked,
    ] {
        let mut case = Case::new(
            format!("{kind:?}/smoothing"),
            "smoothing reaches every class, masked ones too",
            7,
            150,
        );
        case.kind = kind;
        case.config.label_smoothing = 0.125;
        case.config.student_temperature = 1.5;
        list.push(case);
    }
}

/// Logits and temperature with extreme magnitudes. The distributions are ordinary, but an intermediate rounding would flatten them.
fn far_units(list: &mut Vec<Case>) {
    let f32_and_bf16 = &[Storage::F32, Storage::Bf16][..];
    let (far, small) = (2f32.powi(94), 2f32.powi(-22));
    for (kind, unit, types) in [
        (Kind::Far(1.0), far, f32_and_bf16),
        (Kind::Far(-1.0), far, f32_and_bf16),
        (Kind::SubnormalHalf, small, &[Storage::F16]),
    ] {
        for &storage in types {
            for similarity in Similarity::ALL {
                for classes in [6, 151] {
                    let name = format!("{kind:?}/{similarity}/{classes}/{}", storage.name());
                    let why = "an offset loses no precision, and subnormal f16 logits are not 0";
                    let mut case = Case::new(name, why, 7, classes);
                    case.kind = kind;
                    case.storage = [storage, storage, Storage::F32];
                    case.config.similarity = similarity;
                    case.config.selection = Selection::Mean;
                    case.config.student_temperature = unit;
                    case.config.teacher_temperature = 2.0 * unit;
                    case.config.grad_loss = unit;
                    list.push(case);
                }
            }
        }
    }
}

/// Storage types, strides, offsets.
fn memory(list: &mut Vec<Case>) {
    for student in Storage::ALL {
        for teacher in Storage::ALL {
            for gradient in Storage::ALL {
                let types = format!("{}-{}-{}", student.name(), teacher.name(), gradient.name());
                let layouts = [
                    ("aligned", "four at a time", 64, [0; 3], [0; 3]),
                    ("odd", "rows share words", 35, [0; 3], [0; 3]),
                    ("strided", "poison between the rows", 33, [3, 5, 2], [0; 3]),
                    (
                        "padded",
                        "four at a time with a tail",
                        62,
                        [2, 6, 2],
                        [4, 8, 12],
                    ),
                    ("offset", "rows start anywhere", 21, [0, 1, 0], [1, 3, 5]),
                ];
                for (layout, why, classes, gaps, offsets) in layouts {
                    let mut case = Case::new(format!("{types}/{layout}"), why, 9, classes);
                    case.storage = [student, teacher, gradient];
                    case.gaps = gaps;
                    case.offsets = offsets;
                    case.config.reduction = Reduction::Sum;
                    case.config.selection = Selection::Mean;
                    case.ignores = Ignores::EveryThird;
                    list.push(case);
                }
            }
        }
    }
}

/// In place and accumulated gradients, whose memory is both read and written.
fn shared_memory(list: &mut Vec<Case>) {
    for storage in Storage::ALL {
        for classes in [64, 35, 1000] {
            for scope in [Scope::Row, Scope::Batch] {
                let name = format!("in-place/{}/{classes}/{scope:?}", storage.name());
                let mut case =
                    Case::new(name, "the gradient over the student's logits", 9, classes);
                case.storage = [storage, Storage::F32, storage];
                case.in_place = true;
                case.config.scope = scope;
                case.config.reduction = Reduction::Sum;
                list.push(case.clone());

                case.name = format!("accumulate/{}/{classes}/{scope:?}", storage.name());
                case.why = "the gradient is added to the memory";
                case.in_place = false;
                case.config.grad_write = GradWrite::Accumulate;
                list.push(case);
            }
        }
    }
}

/// Memory layouts: name, classes, gaps, offsets. Student and gradient have the same, so that in place is possible.
const LAYOUTS: [(&str, usize, [usize; 3], [usize; 3]); 4] = [
    ("odd", 35, [0; 3], [0; 3]),
    ("strided", 33, [3, 5, 3], [1, 3, 1]),
    ("padded", 62, [2, 6, 2], [4, 8, 4]),
    ("long", 1003, [2, 0, 2], [1, 0, 1]),
];

/// In place and accumulated gradients with rows that share words, poison between them, a second sweep, and rows that are ignored or not
/// finite.
fn hard_shared_memory(list: &mut Vec<Case>) {
    for storage in Storage::ALL {
        for (layout, classes, gaps, offsets) in LAYOUTS {
            for (kind, similarity, scope) in [
                (Kind::Normal, Similarity::JensenShannon, Scope::Row),
                (Kind::Broken, Similarity::Overlap, Scope::Row),
                (Kind::Broken, Similarity::Cosine, Scope::Batch),
            ] {
                let about = format!("{}/{layout}/{kind:?}/{similarity}", storage.name());
                let why = "the gradient over the student's logits, gaps and bad rows beside it";
                let mut case = Case::new(format!("in-place/{about}"), why, 9, classes);
                case.storage = [storage, Storage::F32, storage];
                case.gaps = gaps;
                case.offsets = offsets;
                case.kind = kind;
                case.in_place = true;
                case.ignores = Ignores::EveryThird;
                case.config.similarity = similarity;
                case.config.scope = scope;
                case.config.reduction = Reduction::Sum;
                list.push(case.clone());

                case.name = format!("accumulate/{about}");
                case.why = "the gradient is added to the memory, gaps and bad rows beside it";
                case.in_place = false;
                case.config.grad_write = GradWrite::Accumulate;
                list.push(case);
            }
        }
    }
}

/// Temperatures, scaling, smoothing, denominators, ignored rows, other vocabularies.
fn options(list: &mut Vec<Case>) {
    for (s, t) in [(2.0, 2.0), (4.0, 0.5), (0.1, 7.0)] {
        for scaling in [TemperatureScaling::None, TemperatureScaling::Squared] {
            for scope in [Scope::Row, Scope::Batch] {
                let name = format!("temperature {s} {t} {scaling:?} {scope:?}");
                let mut case = Case::new(
                    name,
                    "separate temperatures and their factors of the gradient",
                    6,
                    77,
                );
                case.config.student_temperature = s;
                case.config.teacher_temperature = t;
                case.config.temperature_scaling = scaling;
                case.config.scope = scope;
                list.push(case);
            }
        }
    }
    for e in [0.01, 0.3, 0.99] {
        for similarity in Similarity::ALL {
            let mut case = Case::new(
                format!("smoothing {e} {similarity}"),
                "one more sum",
                6,
                130,
            );
            case.config.label_smoothing = e;
            case.config.similarity = similarity;
            list.push(case);
        }
    }
    for grad_loss in [0.0, -2.5, 1024.0] {
        let mut case = Case::new(
            format!("grad_loss {grad_loss}"),
            "upstream gradients of any sign",
            6,
            40,
        );
        case.config.grad_loss = grad_loss;
        list.push(case);
    }
    for reduction in REDUCTIONS {
        for scope in SCOPES {
            let name = format!("all ignored {reduction:?} {scope:?}");
            let mut case = Case::new(name, "0, not NaN", 6, 40);
            case.ignores = Ignores::All;
            case.config.reduction = reduction;
            case.config.scope = scope;
            list.push(case);
        }
    }
    let mut case = Case::new(
        "ignored NaN",
        "logits of ignored rows have no effect",
        5,
        40,
    );
    case.kind = Kind::Broken;
    case.ignores = Ignores::EveryThird;
    list.push(case.clone());
    case.name = "ignore_index is a class".to_owned();
    case.why = "ignore_index takes precedence";
    case.config.ignore_index = 3;
    list.push(case);
    for (teacher_classes, why) in [
        (30, "the teacher lacks classes"),
        (50, "the teacher has more classes"),
        (1, "one common class"),
    ] {
        for similarity in Similarity::ALL {
            let mut case = Case::new(
                format!("teacher of {teacher_classes} {similarity}"),
                why,
                5,
                40,
            );
            case.teacher_classes = teacher_classes;
            case.config.teacher_classes = TeacherClasses::CommonPrefix;
            case.config.similarity = similarity;
            list.push(case);
        }
    }
    for scope in SCOPES {
        for reduction in REDUCTIONS {
            let name = format!("bad labels {scope:?} {reduction:?}");
            let mut case = Case::new(name, "NaN for their rows, exact for the others", 9, 40);
            case.bad_labels = true;
            case.ignores = Ignores::EveryThird;
            case.config.scope = scope;
            case.config.reduction = reduction;
            list.push(case);
        }
    }
    for storage in Storage::ALL {
        let name = format!("bad labels {}", storage.name());
        let why = "rows that share words, with separate results";
        let mut case = Case::new(name, why, 9, 35);
        case.storage = [storage; 3];
        case.gaps = [1, 0, 2];
        case.bad_labels = true;
        case.ignores = Ignores::EveryThird;
        list.push(case);
    }
    for (step, total) in [(0, 1), (1, 1), (1, 3), (u64::MAX - 1, u64::MAX)] {
        for selection in [Selection::Tstr, Selection::Product] {
            let mut case = Case::new(
                format!("step {step} of {total} {selection}"),
                "the ends of training",
                4,
                20,
            );
            case.progress = Progress::new(step, total);
            case.config.selection = selection;
            list.push(case);
        }
    }
}
