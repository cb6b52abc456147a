//! Names of choices, fields, operands and errors, and the parameters of further steps: a host in another language relies on them.

use std::collections::HashSet;
use std::fmt::Display;
use std::str::FromStr;

use wgpu_distill::plan::{LabelType, Limits, List, Lists, Operand, Plan, check_bindings};
use wgpu_distill::*;

use crate::cases;
use crate::problems::problem;

/// Every choice prints a text that parses to it; no two print the same.
fn round_trip<T: Display + FromStr<Err = Error> + PartialEq + Copy>(all: &[T]) {
    let mut texts = HashSet::new();
    for choice in all {
        let text = choice.to_string();
        assert!(T::from_str(&text).is_ok_and(|c| c == *choice), "{text}");
        assert!(texts.insert(text.clone()), "{text} twice");
        assert!(T::from_str(&format!("{text}:1:2")).is_err(), "{text}");
    }
    assert!(!all.is_empty() && T::from_str("").is_err());
}

#[test]
fn every_choice_parses_from_what_it_prints() {
    round_trip(&Divergence::ALL);
    round_trip(&Selection::ALL);
    round_trip(&Similarity::ALL);
    round_trip(&Scope::ALL);
    round_trip(&Reduction::ALL);
    round_trip(&TemperatureScaling::ALL);
    round_trip(&HardTemperature::ALL);
    round_trip(&Standardization::ALL);
    round_trip(&TssrGradient::ALL);
    round_trip(&TeacherClasses::ALL);
    round_trip(&MaskedClasses::ALL);
    round_trip(&TeacherTail::ALL);
    round_trip(&SmoothedClasses::ALL);
    round_trip(&GradWrite::ALL);
    round_trip(&NonFinite::ALL);
    round_trip(&ClassWeighting::ALL);
    for storage in Storage::ALL {
        assert_eq!(storage.name().parse(), Ok(storage));
    }
    assert_eq!("given:0.25".parse(), Ok(Scope::Given(0.25)));
    assert!("given:1.5".parse::<Scope>().is_err());
    assert!("own:0".parse::<HardTemperature>().is_err());
    assert!("sum-over:-1".parse::<Reduction>().is_err());
    assert!("f64".parse::<Storage>().is_err());
}

/// A configuration rebuilt from the texts of its fields is the same, for every case of the table.
#[test]
fn a_configuration_is_rebuilt_from_its_texts() {
    for case in cases::all() {
        let mut config = Config::default();
        for field in Config::FIELDS {
            let text = case.config.get(field).expect("a field");
            config.set(field, &text).expect(&text);
        }
        assert_eq!(config, case.config, "{}", case.name);
        // The same from names and numbers.
        let mut config = Config::default();
        for field in Config::FIELDS {
            let text = case.config.get(field).expect("a field");
            let (names, numbers): (Vec<&str>, Vec<&str>) = text
                .split(':')
                .partition(|part| part.parse::<f64>().is_err());
            let numbers: Vec<f64> = numbers.iter().flat_map(|n| n.parse()).collect();
            config
                .set_named(field, &names.concat(), &numbers)
                .expect(&text);
        }
        assert_eq!(config, case.config, "{}", case.name);
    }
    let mut config = Config::default();
    for (field, text) in [
        ("temperature", "2"),
        ("loss_clamp", "1"),
        ("loss_clamp", "1:x"),
        ("ignore_index", "1.5"),
        ("grad_loss", ""),
        ("selection", "fixed"),
        ("scope", "Row"),
    ] {
        let refused = config.set(field, text);
        assert!(
            matches!(refused, Err(Error::InvalidConfig { .. })),
            "{field} {text}"
        );
    }
    for (field, name, numbers) in [
        ("temperature", "", &[2.0][..]),
        ("grad_loss", "2", &[]),
        ("grad_loss", "", &[1.0, 2.0]),
        ("ignore_index", "", &[0.5]),
        ("ignore_index", "", &[3e9]),
        ("loss_clamp", "none", &[1.0]),
        ("selection", "fixed", &[]),
        ("selection", "fixed", &[1.5]),
        ("scope", "row", &[1.0]),
    ] {
        let refused = config.set_named(field, name, numbers);
        assert!(
            matches!(refused, Err(Error::InvalidConfig { .. })),
            "{field} {name} {numbers:?}"
        );
    }
    assert_eq!(config, Config::default());
    assert_eq!(config.get("temperature"), None);
}

#[test]
fn every_operand_and_error_has_one_name() {
    let names: HashSet<&str> = Operand::ALL.iter().map(|o| o.name()).collect();
    assert_eq!(names.len(), Operand::ALL.len());
    let source = include_str!("../../src/plan/operand.rs");
    let variants = source.split("Self::").filter(|part| part.contains("=> \""));
    assert_eq!(variants.count(), Operand::ALL.len());

    let error = Error::LimitExceeded {
        what: "rows",
        needed: 2,
        limit: 1,
    };
    assert_eq!(error.name(), "LimitExceeded");
    assert_eq!(Error::PlanMismatch.name(), "PlanMismatch");
    // Each arm gives the variant's own name.
    let source = include_str!("../../src/error.rs");
    let mut arms = 0;
    for line in source.lines().filter(|line| line.contains(" => \"")) {
        let (variant, name) = line.trim().split_once(" => \"").expect("an arm");
        let variant = variant.trim_start_matches("Self::");
        let end = variant.find([' ', '(']).unwrap_or(variant.len());
        assert_eq!(&variant[..end], name.trim_end_matches("\","));
        arms += 1;
    }
    assert!(arms > 30, "{arms} arms");
}

fn lists(rows: usize) -> Lists {
    let of = |bytes: usize| List::new((bytes * rows).max(256) as u64);
    Lists {
        labels: of(4),
        label_type: LabelType::I32,
        teacher_ids: None,
        row_weights: None,
        class_weights: None,
        row_results: Some(of(16)),
        row_metrics: None,
        summary: Some(of(80)),
        shard: None,
    }
}

/// The parameters of a further step are those of a list made for that step, for every kind of plan.
#[test]
fn renumbered_dispatches_are_those_of_the_step() {
    let mut kinds = HashSet::new();
    let small = Limits {
        binding_bytes: 64 << 10,
        ..Limits::DEFAULT
    };
    for (rows, classes, scope, limits) in [
        (8, 10, Scope::Row, &Limits::DEFAULT),
        (600, 1_000, Scope::Row, &Limits::DEFAULT),
        (600, 50_000, Scope::Row, &Limits::DEFAULT),
        (2, 50_000, Scope::Row, &Limits::DEFAULT),
        (64, 100, Scope::Batch, &Limits::DEFAULT),
        (600, 500, Scope::Row, &small),
        (600, 100, Scope::Batch, &small),
    ] {
        let first = Config {
            scope,
            ..Config::default()
        };
        let problem = problem(rows, classes, Storage::F32);
        let plan = Plan::new(&first, &problem, limits).expect("a plan");
        kinds.insert((plan.kind(), plan.chunks().len() > 1));
        let lists = lists(rows);
        let later = Config {
            grad_loss: 128.0,
            student_temperature: 1.5,
            loss_clamp: Some([0.0, 9.0]),
            ..first
        };
        let progress = Progress::new(7, 9);
        let mut list = plan.dispatches(&first, Progress::new(0, 9), &lists);
        let list = list.as_mut().expect("a list");
        plan.renumber(list, &later, progress).expect("numbers");
        let anew = plan.dispatches(&later, progress, &lists).expect("a list");
        assert_eq!(*list, anew, "{plan}");

        let other = Config {
            reduction: Reduction::SumOver(3.0),
            selection: Selection::Kdr,
            divergence: Divergence::ReverseKl,
            ..first
        };
        let refused = plan.renumber(list, &other, progress);
        assert_eq!(refused, Err(Error::PlanMismatch));
        let refused = plan.renumber(list, &first, Progress::new(2, 1));
        assert!(matches!(refused, Err(Error::InvalidProgress { .. })));
        assert_eq!(*list, anew, "a refused step changes nothing");
    }
    assert!(kinds.len() >= 6, "{kinds:?}");
}

/// Buffers are told apart by the host's answer alone.
#[test]
fn operands_in_one_buffer_are_found() {
    let with_gradient = problem(4, 64, Storage::F32);
    assert!(with_gradient.gradient.is_some());
    let lists = lists(4);
    let apart = with_gradient
        .in_buffers(&lists, |_, _| false)
        .expect("apart");
    assert!(!apart.in_place && !apart.shared_buffers);

    // The gradient and the student's logits are one matrix.
    let pair = [Operand::StudentLogits, Operand::Gradient];
    let same = |a, b| pair.contains(&a) && pair.contains(&b);
    let mut in_place = with_gradient;
    in_place.gradient = Some(in_place.student);
    let found = in_place.in_buffers(&lists, same).expect("in place");
    assert!(found.in_place && !found.shared_buffers);

    // The gradient starts in the middle of the student's logits.
    let mut shifted = in_place;
    if let Some(gradient) = &mut shifted.gradient {
        gradient.offset = 512;
        gradient.buffer_bytes += 512;
    }
    let refused = shifted.in_buffers(&lists, same);
    assert!(matches!(
        refused,
        Err(Error::BufferOverlap {
            first: "gradient",
            ..
        })
    ));

    // Behind them, it only shares the buffer; at less than 256 bytes a binding reaches back into them.
    for (offset, fits) in [(1280, true), (1040, false)] {
        let mut behind = in_place;
        if let Some(gradient) = &mut behind.gradient {
            (gradient.offset, gradient.buffer_bytes) = (offset, 4096);
        }
        (behind.student.offset, behind.student.buffer_bytes) = (16, 4096);
        behind.classes = 63;
        behind.teacher_classes = 63;
        let found = behind.in_buffers(&lists, same).expect("behind");
        assert!(found.shared_buffers && !found.in_place);
        let plan = Plan::new(&Config::default(), &found, &Limits::DEFAULT).expect("a plan");
        let list = plan.dispatches(&Config::default(), Progress::new(0, 1), &lists);
        let checked = check_bindings(&list.expect("a list"), same);
        assert_eq!(checked.is_ok(), fits, "{offset}: {checked:?}");
    }
}
