//! Refusals: every bad argument gives an error that names it with its numbers. Slices and buffers, every engine, before anything runs.

use crate::steps::Steps;
use wgpu_distill::{
    Batch, ClassWeighting, Config, Decision, Divergence, Engine, Error, GradWrite, GradientMut,
    Logits, Outputs, Progress, Reduction, Result, Scope, Selection, Similarity, TssrGradient,
    reference,
};

mod arguments;
mod buffers;
mod devices;
mod extremes;
mod lists;
mod losses;
mod soft_labels;

use crate::adapter::gpu;

const HALFWAY: Progress = Progress { step: 1, total: 2 };
const MOST_CLASSES: u64 = 1 << 28;

fn engines() -> Vec<Engine> {
    let gpu = gpu().map(Engine::Gpu);
    [Engine::cpu()].into_iter().chain(gpu).collect()
}

/// The error without its message text, which is not part of the interface.
fn bare(error: Error) -> Error {
    match error {
        Error::InvalidConfig { field, value, .. } => config_error(field, &value),
        Error::BufferOverlap { first, second, .. } => overlap(first, second),
        Error::Unsupported { what, .. } => Error::Unsupported { what, why: "" },
        other => other,
    }
}

fn config_error(field: &'static str, value: &str) -> Error {
    let value = value.to_owned();
    let expected = "";
    Error::InvalidConfig {
        field,
        value,
        expected,
    }
}

fn overlap(first: &'static str, second: &'static str) -> Error {
    let why = "";
    Error::BufferOverlap { first, second, why }
}

/// Fails unless the call was refused with this error and the message contains every name and number of the error.
fn refused<T>(about: &str, result: Result<T>, want: &Error) {
    let Err(got) = result else {
        panic!("{about}: not refused, expected {want:?}");
    };
    let message = got.to_string();
    assert_eq!(&bare(got), want, "{about}");
    for (i, part) in format!("{want:?}").split('"').enumerate() {
        let is_number = |word: &&str| word.parse::<i128>().is_ok();
        let words: Vec<&str> = match i % 2 {
            0 => part.split([' ', ',', '{', '}']).filter(is_number).collect(),
            _ => vec![part],
        };
        for word in words {
            assert!(
                message.contains(word),
                "{about}: `{message}` without {word}"
            );
        }
    }
}

/// A configuration field and an invalid value.
const BAD_FIELDS: [(&str, f32); 28] = [
    // Zero, negative or non-finite temperatures.
    ("student_temperature", 0.0),
    ("student_temperature", -1.0),
    ("student_temperature", f32::NAN),
    ("student_temperature", f32::INFINITY),
    // Finite and above 0, but the inverse or the square overflows.
    ("student_temperature", 1e-45),
    ("student_temperature", f32::MAX),
    ("teacher_temperature", -0.0),
    ("teacher_temperature", f32::NEG_INFINITY),
    ("teacher_temperature", 1e-40),
    // A share just outside [0, 1] or far outside.
    ("selection: Fixed", 1.0 + f32::EPSILON),
    ("selection: Fixed", -0.5),
    ("selection: Fixed", f32::NAN),
    ("selection: Margin", 1.0 + f32::EPSILON),
    ("selection: Margin", 0.001),
    ("selection: Margin", f32::NAN),
    ("scope: Given", 1.5),
    ("scope: Given", -f32::MIN_POSITIVE),
    ("scope: Given", f32::NAN),
    // Denominators that are negative or infinite.
    ("reduction: SumOver", -4.0),
    ("reduction: SumOver", f32::INFINITY),
    // A subnormal denominator, which a GPU may flush to 0, and a denominator whose inverse is subnormal.
    ("reduction: SumOver", 1e-40),
    ("reduction: SumOver", f32::MAX),
    // Smoothing of 1, which leaves no weight on the label, and values outside [0, 1).
    ("label_smoothing", 1.0),
    ("label_smoothing", -0.1),
    ("label_smoothing", f32::NAN),
    ("grad_loss", f32::NAN),
    ("grad_loss", f32::INFINITY),
    ("grad_loss", f32::NEG_INFINITY),
];

fn config_with(field: &str, value: f32) -> Config {
    let mut config = Config::default();
    match field {
        "student_temperature" => config.student_temperature = value,
        "teacher_temperature" => config.teacher_temperature = value,
        "selection: Fixed" => config.selection = Selection::Fixed(value),
        "selection: Margin" => config.selection = Selection::Margin(value),
        "scope: Given" => config.scope = Scope::Given(value),
        "reduction: SumOver" => config.reduction = Reduction::SumOver(value),
        "label_smoothing" => config.label_smoothing = value,
        "grad_loss" => config.grad_loss = value,
        other => panic!("no field {other}"),
    }
    config
}

/// Every call on slices refuses this input.
///
/// The reference accepts an invalid label and an accumulated gradient, so it is not tested with them.
fn refused_on_slices(
    about: &str,
    config: &Config,
    batch: &Batch<'_>,
    want: &Error,
    reference_refuses: bool,
) {
    let mut gradient = vec![0.0; 64];
    let decisions = vec![Decision::default(); batch.rows()];
    for engine in engines() {
        let about = |call: &str| format!("{about}, {call} on {}", engine.describe());
        let run = engine.run(config, HALFWAY, batch, Outputs::ALL);
        refused(&about("run"), run, want);
        let into = GradientMut::new(&mut gradient, batch.classes()).into();
        let run_into = engine.run_into(config, HALFWAY, batch, into);
        refused(&about("run_into"), run_into, want);
        refused(&about("observe"), engine.observe(config, batch), want);
        let apply = engine.apply(config, batch, &decisions);
        refused(&about("apply"), apply, want);
    }
    if reference_refuses {
        let distill = reference::distill(config, HALFWAY, batch);
        refused(&format!("{about}, reference::distill"), distill, want);
        let row_stats = reference::observe(config, batch);
        refused(&format!("{about}, reference::observe"), row_stats, want);
    }
}

const SIX: [f32; 6] = [0.5, -1.0, 2.0, 0.0, 1.5, -0.5];

#[test]
fn bad_configurations_are_refused() {
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
    for (field, value) in BAD_FIELDS {
        let about = format!("{field} = {value}");
        let config = config_with(field, value);
        let want = config_error(field, &value.to_string());
        refused_on_slices(&about, &config, &batch, &want, true);
        for engine in engines() {
            let decide = engine.decide(&config, HALFWAY, &[], 3);
            refused(&format!("{about}, decide"), decide, &want);
        }
    }
}

#[test]
fn bad_progress_is_refused() {
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
    let config = Config::default();
    let beyond = u64::MAX - 1;
    for (step, total) in [(1, 0), (5, 4), (u64::MAX, beyond), (u64::MAX, 0)] {
        let want = Error::InvalidProgress { step, total };
        let progress = Progress { step, total };
        for engine in engines() {
            let about = format!("step {step} of {total} on {}", engine.describe());
            let mut gradient = [0.0; 6];
            let into = GradientMut::new(&mut gradient, 3).into();
            let run = engine.run(&config, progress, &batch, Outputs::ALL);
            refused(&about, run, &want);
            let run_into = engine.run_into(&config, progress, &batch, into);
            refused(&about, run_into, &want);
            refused(&about, engine.decide(&config, progress, &[], 3), &want);
        }
        refused(
            "reference",
            reference::distill(&config, progress, &batch),
            &want,
        );
    }
    for (step, total) in [(0, 1), (1, 1), (u64::MAX, u64::MAX), (0, u64::MAX)] {
        for engine in engines() {
            let run = engine.run(&config, Progress { step, total }, &batch, Outputs::ALL);
            assert!(run.is_ok(), "{step} of {total}: {run:?}");
        }
    }
}

fn limit(what: &'static str, needed: u64, limit: u64) -> Error {
    Error::LimitExceeded {
        what,
        needed,
        limit,
    }
}

fn stride_too_small(name: &'static str, row_stride: usize, classes: usize) -> Error {
    Error::RowStrideTooSmall {
        name,
        row_stride,
        classes,
    }
}

/// Elements, classes, row stride.
type Side = [usize; 3];

/// Description, student, teacher, and the error.
#[rustfmt::skip]
fn bad_shapes() -> Vec<(&'static str, Side, Side, Error)> {
    let (student, teacher) = ("student_logits", "teacher_logits");
    let (strides, classes) = ("the row stride, in elements,", "the number of classes");
    let far = usize::MAX;
    let zero = |name| Error::ZeroClasses { name };
    let mismatch = |student, teacher| Error::ShapeMismatch { student, teacher };
    let short = |name, needed, got| Error::SliceTooSmall { name, needed, got };
    let long = |name, row_stride, got| Error::SliceTooLarge { name, rows: 2, row_stride, limit: 2 * row_stride, got };
    vec![
        ("no classes", [6, 0, 3], [6, 3, 3], zero(student)),
        ("no teacher classes", [6, 3, 3], [6, 0, 0], zero(teacher)),
        ("teacher has more", [6, 3, 3], [8, 4, 4], mismatch(3, 4)),
        ("teacher has fewer", [6, 3, 3], [4, 2, 2], mismatch(3, 2)),
        ("rows overlap", [6, 3, 2], [6, 3, 3], stride_too_small(student, 2, 3)),
        ("stride forgotten", [6, 3, 3], [6, 3, 0], stride_too_small(teacher, 0, 3)),
        ("one short", [5, 3, 3], [6, 3, 3], short(student, 6, 5)),
        ("empty", [6, 3, 3], [0, 3, 3], short(teacher, 6, 0)),
        ("the stride counts", [7, 3, 5], [6, 3, 3], short(student, 8, 7)),
        ("the last row counts", [6, 3, 3], [12, 3, 10], short(teacher, 13, 12)),
        ("one left over", [7, 3, 3], [6, 3, 3], long(student, 3, 7)),
        ("a row left over", [6, 3, 3], [9, 3, 3], long(teacher, 3, 9)),
        ("fewer classes than the data has", [8, 3, 3], [8, 3, 3], long(student, 3, 8)),
        ("one behind the last gap", [11, 3, 5], [6, 3, 3], long(student, 5, 11)),
        ("stride as far as it goes", [6, 3, far], [6, 3, 3], limit(strides, u64::MAX, MOST_CLASSES)),
        ("a stride whose bytes wrap to 0", [6, 3, 3], [6, 3, 1 << 63], limit(strides, 1 << 63, MOST_CLASSES)),
        ("stride one beyond", [6, 3, (1 << 28) + 1], [6, 3, 3], limit(strides, MOST_CLASSES + 1, MOST_CLASSES)),
        ("stride just allowed", [6, 3, 1 << 28], [6, 3, 3], short(student, (1 << 28) + 3, 6)),
        ("classes as far as they go", [6, far, far], [6, 3, 3], limit(classes, u64::MAX, MOST_CLASSES)),
        ("teacher classes", [6, 3, 3], [6, 1 << 62, 1 << 62], limit(classes, 1 << 62, MOST_CLASSES)),
        ("stride below many classes", [6, far, 3], [6, 3, 3], stride_too_small(student, 3, far)),
    ]
}

#[test]
fn bad_shapes_of_slices_are_refused() {
    let zeros = [0.0; 16];
    for (why, student, teacher, want) in bad_shapes() {
        let logits = |[elements, classes, stride]: Side| {
            Logits::new(&zeros[..elements], classes).with_row_stride(stride)
        };
        let batch = Batch {
            student_logits: logits(student),
            teacher_logits: logits(teacher),
            labels: &[0, 1],
            soft_labels: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
        };
        refused_on_slices(why, &Config::default(), &batch, &want, true);
    }
}

#[test]
fn bad_weights_on_slices_are_refused() {
    let (student, teacher) = ([0.0; 6], [0.5; 6]);
    let batch = |labels| Batch::new(&student, &teacher, labels, 3);
    for (why, labels, weights, want) in [
        (
            "an infinite weight",
            &[0, 1],
            &[1.0, f32::NEG_INFINITY][..],
            Error::RowWeight {
                row: 1,
                weight: f32::NEG_INFINITY,
            },
        ),
        (
            "an infinite weight beside that of an ignored row",
            &[-100, 1],
            &[f32::NAN, f32::INFINITY],
            Error::RowWeight {
                row: 1,
                weight: f32::INFINITY,
            },
        ),
        (
            "too few weights",
            &[0, 1],
            &[1.0],
            Error::RowCount {
                name: "row_weights",
                rows: 2,
                got: 1,
            },
        ),
    ] {
        let batch = batch(labels).with_row_weights(weights);
        let by_count = matches!(want, Error::RowCount { .. });
        refused_on_slices(why, &Config::default(), &batch, &want, by_count);
    }
}

#[test]
fn bad_class_weights_on_slices_are_refused() {
    for weight in [-1e-3, f32::INFINITY, f32::NEG_INFINITY, 1.1e6] {
        let weights = [1.0, weight, -1.0];
        let batch = Batch::new(&SIX, &SIX, &[0, 2], 3).with_class_weights(&weights);
        let want = Error::ClassWeight { class: 1, weight };
        refused_on_slices(
            "a weight out of range",
            &Config::default(),
            &batch,
            &want,
            false,
        );
    }
    let nan = [1.0, 1.0, f32::NAN];
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3).with_class_weights(&nan);
    for engine in engines() {
        let run = engine.run(&Config::default(), HALFWAY, &batch, Outputs::ALL);
        assert!(
            matches!(run, Err(Error::ClassWeight { class: 2, .. })),
            "{run:?}"
        );
    }
    for got in [2, 4] {
        let weights = vec![1.0; got];
        let batch = Batch::new(&SIX, &SIX, &[0, 2], 3).with_class_weights(&weights);
        let want = Error::ClassWeightCount { classes: 3, got };
        refused_on_slices(
            "another number of weights",
            &Config::default(),
            &batch,
            &want,
            true,
        );
    }
    // The steps after each other would not know of them.
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3).with_class_weights(&[1.0; 3]);
    let want = Error::Unsupported {
        what: "`class_weights` in a single step".to_owned(),
        why: "",
    };
    for engine in engines() {
        refused("observe", engine.observe(&Config::default(), &batch), &want);
        let decisions = [Decision::default(); 2];
        refused(
            "apply",
            engine.apply(&Config::default(), &batch, &decisions),
            &want,
        );
    }
}

/// Combinations that no kernel has. Without weights the choice has no effect.
#[test]
fn class_weights_beside_other_losses_are_refused() {
    let soft = |config| Config {
        class_weighting: ClassWeighting::Soft,
        ..config
    };
    let smoothed = Config {
        divergence: Divergence::Nkd { gamma: 1.0 },
        label_smoothing: 0.1,
        ..Config::default()
    };
    let attached = Config {
        similarity: Similarity::ExpNegKl,
        tssr_gradient: TssrGradient::Attached,
        ..Config::default()
    };
    let forward = Config {
        divergence: Divergence::ForwardKl,
        ..Config::default()
    };
    for (config, what) in [
        (
            soft(forward),
            "class weights in the soft part with the divergence `forward-kl`",
        ),
        (
            soft(attached),
            "class weights in the soft part with `TssrGradient::Attached` and the similarity `ExpNegKl`",
        ),
        (
            smoothed,
            "class weights with label smoothing and the divergence `nkd:1`",
        ),
    ] {
        let plain = Batch::new(&SIX, &SIX, &[0, 2], 3);
        let batch = plain.with_class_weights(&[1.0; 3]);
        let want = Error::Unsupported {
            what: what.to_owned(),
            why: "",
        };
        refused_on_slices(what, &config, &batch, &want, true);
        for engine in engines() {
            let run = engine.run(&config, HALFWAY, &plain, Outputs::ALL);
            assert!(run.is_ok(), "{what}, without weights: {run:?}");
        }
    }
}

#[test]
fn bad_labels_on_slices_are_refused() {
    // Labels, ignore_index, and the first wrong row.
    let cases: [(&str, [i32; 2], i32, usize); 6] = [
        ("one beyond the classes", [0, 3], -100, 1),
        ("just below them", [-1, 0], -100, 0),
        ("as far as it goes", [2, i32::MAX], -100, 1),
        ("as far as it goes below", [i32::MIN, 5], -100, 0),
        (
            "the usual ignore_index, where it is another",
            [1, -100],
            -1,
            1,
        ),
        ("the first is named, not the worst", [3, i32::MIN], 2, 0),
    ];
    for (why, labels, ignore_index, row) in cases {
        let config = Config {
            ignore_index,
            ..Config::default()
        };
        let (label, classes) = (labels[row], 3);
        let want = Error::LabelOutOfRange {
            row,
            label,
            classes,
        };
        let batch = Batch::new(&SIX, &SIX, &labels, 3);
        refused_on_slices(why, &config, &batch, &want, false);
    }
}

#[test]
fn a_new_gradient_is_not_accumulated() {
    let config = Config {
        grad_write: GradWrite::Accumulate,
        ..Config::default()
    };
    let want = Error::Unsupported {
        what: "`GradWrite::Accumulate`".to_owned(),
        why: "",
    };
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
    let decisions = [Decision::default(); 2];
    for engine in engines() {
        for outputs in [Outputs::SUMMARY, Outputs::ALL] {
            let run = engine.run(&config, HALFWAY, &batch, outputs);
            let message = run.as_ref().map_err(Error::to_string).unwrap_err();
            assert!(message.contains("run_into"), "{message}");
            refused("run", run, &want);
        }
        refused("apply", engine.apply(&config, &batch, &decisions), &want);
    }
}
