//! Refusals of losses: numbers out of range, combinations that no kernel has, texts that name no divergence.

use wgpu_distill::{
    Batch, Config, Divergence as D, Error, HardTemperature, Logits, MaskedClasses, Outputs, Scope,
    Selection, Similarity, Standardization, TeacherClasses, TssrGradient, reference,
};

use super::{HALFWAY, SIX, config_error, engines, refused, refused_on_slices};

/// A configuration with one bad number, and the name and value in its error.
fn bad_numbers() -> Vec<(Config, &'static str, f32)> {
    let mut list = Vec::new();
    let mut add = |field, values: &[f32], set: &dyn Fn(&mut Config, f32)| {
        for &value in values {
            let mut config = Config::default();
            set(&mut config, value);
            list.push((config, field, value));
        }
    };
    // Shares strictly between 0 and 1: at the ends another divergence is meant.
    let ends = [0.0, 1.0, -0.5, 1.5, f32::NAN, f32::INFINITY];
    add("divergence: Jsd beta", &ends, &|c, beta| {
        c.divergence = D::Jsd { beta };
    });
    add("divergence: SkewKl alpha", &ends, &|c, alpha| {
        c.divergence = D::SkewKl { alpha };
    });
    add("divergence: SkewReverseKl alpha", &ends, &|c, alpha| {
        c.divergence = D::SkewReverseKl { alpha };
    });
    add("divergence: Taid share", &ends, &|c, share| {
        c.divergence = D::Taid { share };
    });
    // Weights, of which the reverse one is not 0.
    let weights = [-0.1, 1.1e6, f32::NAN, f32::INFINITY];
    add("divergence: KlSum forward", &weights, &|c, forward| {
        c.divergence = D::KlSum {
            forward,
            reverse: 1.0,
        };
    });
    let reverse = [0.0, -1.0, 1.1e6, f32::NAN];
    add("divergence: KlSum reverse", &reverse, &|c, reverse| {
        c.divergence = D::KlSum {
            forward: 1.0,
            reverse,
        };
    });
    add(
        "divergence: KlTv scale",
        &[-0.1, 1.1, f32::NAN],
        &|c, scale| {
            c.divergence = D::KlTv { scale, decay: 1.0 };
        },
    );
    let decays = [-0.1, 101.0, f32::NAN, f32::INFINITY];
    add("divergence: KlTv decay", &decays, &|c, decay| {
        c.divergence = D::KlTv { scale: 1.0, decay };
    });
    // Powers: the rounding of the value grows as 1 / (alpha beta).
    let powers = [0.0, 0.049, 4.1, -1.0, f32::NAN, f32::INFINITY];
    add("divergence: AlphaBeta alpha", &powers, &|c, alpha| {
        c.divergence = D::AlphaBeta { alpha, beta: 1.0 };
    });
    add("divergence: AlphaBeta beta", &powers, &|c, beta| {
        c.divergence = D::AlphaBeta { alpha: 1.0, beta };
    });
    let weights = [-0.1, 1001.0, f32::NAN];
    add("divergence: Dkd alpha", &weights, &|c, alpha| {
        c.divergence = D::Dkd { alpha, beta: 1.0 };
    });
    add("divergence: Dkd beta", &weights, &|c, beta| {
        c.divergence = D::Dkd { alpha: 1.0, beta };
    });
    let weights = [0.0, -0.1, 1001.0, f32::NAN];
    add("divergence: Nkd gamma", &weights, &|c, gamma| {
        c.divergence = D::Nkd { gamma };
    });
    let clamps = [0.0, -1.0, 1.1e4, f32::NAN, f32::INFINITY];
    add("divergence: K1 clamp", &clamps, &|c, clamp| {
        c.divergence = D::K1 { clamp };
    });
    add("divergence: K2 clamp", &clamps, &|c, clamp| {
        c.divergence = D::K2 { clamp };
    });
    let clamps = [0.0, -1.0, 20.5, f32::NAN, f32::INFINITY];
    add("divergence: K3 clamp", &clamps, &|c, clamp| {
        c.divergence = D::K3 { clamp };
    });
    let temperatures = [0.0, -1.0, 1e-31, 1e31, f32::NAN, f32::INFINITY];
    add("hard_temperature: Own", &temperatures, &|c, own| {
        c.hard_temperature = HardTemperature::Own(own);
    });
    // A weight is 0 or far enough from 0 for the products of factors.
    let weights = [-1.0, 1e-7, 1.1e6, f32::NAN, f32::INFINITY];
    add("soft_weight", &weights, &|c, weight| c.soft_weight = weight);
    add("hard_weight", &weights, &|c, weight| c.hard_weight = weight);
    let weights = [-1.0, 1e-10, 1.1e3, f32::NAN, f32::INFINITY];
    add("z_loss", &weights, &|c, weight| c.z_loss = weight);
    // Temperatures that are accepted without standardised logits.
    let temperatures = [9e-4, 1.1e3];
    add("student_temperature", &temperatures, &|c, temperature| {
        c.standardization = Standardization::ZScore;
        c.student_temperature = temperature;
    });
    add("teacher_temperature", &temperatures, &|c, temperature| {
        c.standardization = Standardization::ZScore;
        c.teacher_temperature = temperature;
    });
    list
}

#[test]
fn bad_numbers_of_losses_are_refused() {
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
    for (config, field, value) in bad_numbers() {
        let about = format!("{field} = {value}");
        let want = config_error(field, &value.to_string());
        refused_on_slices(&about, &config, &batch, &want, true);
    }
}

#[test]
fn bounds_of_a_loss_are_two_finite_numbers_in_order() {
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
    for bounds in [
        [1.0, 1.0],
        [2.0, 1.0],
        [0.0, f32::INFINITY],
        [f32::NEG_INFINITY, 1.0],
        [f32::NAN, 1.0],
        [0.0, f32::NAN],
    ] {
        let config = Config {
            loss_clamp: Some(bounds),
            ..Config::default()
        };
        let value = format!("[{}, {}]", bounds[0], bounds[1]);
        let want = config_error("loss_clamp", &value);
        refused_on_slices(&value, &config, &batch, &want, true);
    }
}

/// At the ends of a range the error names the divergence that the caller means.
#[test]
fn errors_name_the_other_divergence() {
    for (divergence, names) in [
        (D::Jsd { beta: 0.0 }, ["`ForwardKl`", "`ReverseKl`"]),
        (D::SkewKl { alpha: 0.0 }, ["`ForwardKl`", "always 0"]),
        (D::SkewReverseKl { alpha: 0.0 }, ["`ReverseKl`", "always 0"]),
        (
            D::KlSum {
                forward: 1.0,
                reverse: 0.0,
            },
            ["`ForwardKl`", "above 0"],
        ),
        (
            D::AlphaBeta {
                alpha: 1.0,
                beta: 0.0,
            },
            ["`ForwardKl`", "`ReverseKl`"],
        ),
    ] {
        let config = Config {
            divergence,
            ..Config::default()
        };
        let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
        let error = reference::observe(&config, &batch).expect_err("refused");
        let text = error.to_string();
        for name in names {
            assert!(text.contains(name), "`{text}` without {name}");
        }
    }
}

/// Numbers at the ends of their ranges are accepted.
#[test]
fn numbers_at_the_ends_are_answered() {
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
    let near_1 = 1.0 - f32::EPSILON;
    for divergence in [
        D::KlSum {
            forward: 0.0,
            reverse: 1e6,
        },
        D::Jsd {
            beta: f32::MIN_POSITIVE,
        },
        D::Jsd { beta: near_1 },
        D::SkewKl {
            alpha: f32::MIN_POSITIVE,
        },
        D::SkewReverseKl { alpha: near_1 },
        D::KlTv {
            scale: 0.0,
            decay: 100.0,
        },
        D::AlphaBeta {
            alpha: 0.05,
            beta: 4.0,
        },
        D::AlphaBeta {
            alpha: 4.0,
            beta: 0.05,
        },
        D::Taid {
            share: f32::MIN_POSITIVE,
        },
        D::Taid { share: near_1 },
        D::Dkd {
            alpha: 0.0,
            beta: 1e3,
        },
        D::Nkd { gamma: 1e3 },
    ] {
        let config = Config {
            divergence,
            ..Config::default()
        };
        for engine in engines() {
            let about = format!("{divergence} on {}", engine.describe());
            let got = engine.run(&config, HALFWAY, &batch, Outputs::ALL);
            let got = got.unwrap_or_else(|e| panic!("{about}: {e}"));
            assert!(got.summary.loss.is_finite(), "{about}");
            let gradient = got.into_grad_student_logits();
            assert!(gradient.iter().all(|g| g.is_finite()), "{about}");
        }
    }
}

/// The combinations with an attached TSSR that kernels have. The documentation of `TssrGradient` states them.
fn attaches(divergence: D, similarity: Similarity, scope: Scope) -> bool {
    let plain = matches!(divergence, D::SoftCrossEntropy | D::ForwardKl);
    let apart = matches!(divergence, D::Dkd { .. } | D::Nkd { .. } | D::Wsld);
    let similarity = match similarity {
        Similarity::Cosine | Similarity::Bhattacharyya => plain,
        Similarity::ExpNegKl => !apart && !divergence.is_sampled(),
        _ => false,
    };
    similarity && scope == Scope::Row
}

#[test]
fn an_attached_tssr_is_answered_or_refused_by_name() {
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
    let (mut answered, mut refused) = (0, 0);
    for divergence in D::ALL {
        for similarity in Similarity::ALL {
            for scope in [Scope::Row, Scope::Batch, Scope::Given(0.5)] {
                let config = Config {
                    divergence,
                    similarity,
                    scope,
                    tssr_gradient: TssrGradient::Attached,
                    ..Config::default()
                };
                let truth = reference::distill(&config, HALFWAY, &batch).err();
                match (&truth, attaches(divergence, similarity, scope)) {
                    (None, true) => answered += 1,
                    (Some(Error::Unsupported { what, .. }), false) => {
                        refused += 1;
                        assert!(what.contains("`TssrGradient::Attached`"), "{what}");
                    }
                    _ => panic!("{divergence}, {similarity}, {scope:?}: {truth:?}"),
                }
                // One kernel for each of the combinations would take minutes to compile.
                let cpu = wgpu_distill::Engine::cpu();
                let got = cpu.run(&config, HALFWAY, &batch, Outputs::ALL).err();
                assert_eq!(got, truth, "{divergence}, {similarity}, {scope:?}");
            }
        }
    }
    assert_eq!((answered, refused), (16, 254));
}

/// The choices that need the teacher's row, and teachers of more than one number a row.
#[test]
fn sampled_tokens_refuse_what_needs_the_teachers_row() {
    let batch = |teacher_classes| Batch {
        student_logits: Logits::new(&SIX, 3),
        teacher_logits: Logits::new(&SIX[..2 * teacher_classes], teacher_classes),
        labels: &[0, 2],
        soft_labels: None,
        row_weights: None,
        class_weights: None,
        teacher_ids: None,
    };
    let unsupported = |what: &str| Error::Unsupported {
        what: what.to_owned(),
        why: "",
    };
    for (name, divergence) in [
        ("k1:20", D::K1 { clamp: 20.0 }),
        ("k2:20", D::K2 { clamp: 20.0 }),
        ("k3:20", D::K3 { clamp: 20.0 }),
    ] {
        let accepted = Config {
            divergence,
            selection: Selection::Fixed(0.5),
            ..Config::default()
        };
        let refuses = |config: &Config, what: &str| {
            let want = unsupported(&format!("{what} with the divergence `{name}`"));
            refused_on_slices(what, config, &batch(1), &want, true);
        };
        for selection in Selection::ALL {
            let config = Config {
                selection,
                ..accepted
            };
            let given = Config {
                scope: Scope::Given(0.5),
                ..config
            };
            let whole = Config {
                scope: Scope::Batch,
                ..config
            };
            let is_margin = matches!(selection, Selection::Margin(_));
            assert!(is_margin || reference::distill(&given, HALFWAY, &batch(1)).is_ok());
            refuses(&whole, "`Scope::Batch`");
            match matches!(selection, Selection::Fixed(_) | Selection::Tstr) {
                true => assert!(reference::distill(&config, HALFWAY, &batch(1)).is_ok()),
                false => refuses(&config, &format!("the selection `{selection}`")),
            }
        }
        let attached = Config {
            tssr_gradient: TssrGradient::Attached,
            ..accepted
        };
        refuses(&attached, "`TssrGradient::Attached`");
        let warm = Config {
            teacher_temperature: 2.0,
            ..accepted
        };
        refuses(&warm, "`teacher_temperature` 2");
        // The number of classes that both have does not matter.
        for teacher_classes in [TeacherClasses::SameAsStudent, TeacherClasses::CommonPrefix] {
            let config = Config {
                teacher_classes,
                ..accepted
            };
            for got in [2, 3] {
                let want = Error::SampledTeacher {
                    divergence: name.to_owned(),
                    got,
                };
                let about = format!("{teacher_classes:?}, {got} classes");
                refused_on_slices(&about, &config, &batch(got), &want, true);
            }
        }
    }
}

/// Checks that every engine answers, or refuses with an error that has these words.
fn answered_or_refused(config: &Config, words: Option<[&str; 2]>) {
    let batch = Batch::new(&SIX, &SIX, &[0, 2], 3);
    let truth = reference::distill(config, HALFWAY, &batch).err();
    match (&truth, words) {
        (None, None) => {}
        (Some(Error::Unsupported { what, .. }), Some(words)) => {
            assert!(words.iter().all(|word| what.contains(word)), "{what}");
        }
        _ => panic!("{config:?}: {truth:?}"),
    }
    for engine in engines() {
        let got = engine.run(config, HALFWAY, &batch, Outputs::ALL).err();
        assert_eq!(got, truth, "{config:?}");
    }
}

#[test]
fn standardized_logits_are_answered_or_refused_by_name() {
    let default = Config {
        standardization: Standardization::ZScore,
        ..Config::default()
    };
    let check = |config: Config, name: Option<&str>| {
        answered_or_refused(
            &config,
            name.map(|name| ["`Standardization::ZScore`", name]),
        );
    };
    // Those of sampled tokens are refused for their selection.
    for divergence in D::ALL.into_iter().filter(|d| !d.is_sampled()) {
        let plain = matches!(divergence, D::SoftCrossEntropy | D::ForwardKl);
        let config = Config {
            divergence,
            ..default
        };
        let name = divergence.to_string();
        check(config, (!plain).then_some(name.as_str()));
    }
    let attached = Config {
        tssr_gradient: TssrGradient::Attached,
        ..default
    };
    check(attached, Some("`TssrGradient::Attached`"));
    let z_loss = Config {
        z_loss: 1e-4,
        ..default
    };
    check(z_loss, Some("z-loss"));
    let own = Config {
        hard_temperature: HardTemperature::Own(1.0),
        ..z_loss
    };
    check(own, None);
}

/// Every divergence reads back from its text, with any numbers.
#[test]
fn divergences_have_a_text() {
    for divergence in D::ALL {
        let text = divergence.to_string();
        assert_eq!(text.parse(), Ok(divergence), "{text}");
        assert_eq!(text.split(':').next(), Some(divergence.name()));
        // The name alone lacks the numbers, and a further number is too many.
        let more = format!("{text}:0.5");
        super::refused(&more, more.parse::<D>(), &config_error("divergence", &more));
        let name = divergence.name();
        if text != name {
            super::refused(name, name.parse::<D>(), &config_error("divergence", name));
        }
    }
    for (text, want) in [
        ("forward-kl", D::ForwardKl),
        ("jsd:0.9", D::Jsd { beta: 0.9 }),
        (
            "kl-sum:0:1.5",
            D::KlSum {
                forward: 0.0,
                reverse: 1.5,
            },
        ),
        (
            "alpha-beta:0.25:1e0",
            D::AlphaBeta {
                alpha: 0.25,
                beta: 1.0,
            },
        ),
        ("nkd:1.5", D::Nkd { gamma: 1.5 }),
        ("wsld", D::Wsld),
    ] {
        assert_eq!(text.parse(), Ok(want), "{text}");
    }
    for text in [
        "",
        "kl",
        "JSD:0.5",
        "jsd",
        "jsd:",
        "jsd:x",
        "jsd:0.5:",
        " forward-kl",
        "ForwardKl",
    ] {
        super::refused(text, text.parse::<D>(), &config_error("divergence", text));
    }
    // A text with a number out of range gives the text, and what the number must be.
    let bad = "jsd:1".parse::<D>();
    refused("jsd:1", bad.clone(), &config_error("divergence", "jsd:1"));
    let text = bad.expect_err("refused").to_string();
    assert!(text.contains("`ReverseKl`"), "{text}");
}

#[test]
fn joined_masks_are_answered_or_refused_by_name() {
    let default = Config {
        masked_classes: MaskedClasses::Both,
        ..Config::default()
    };
    let check = |config: Config, name: Option<&str>| {
        answered_or_refused(&config, name.map(|name| ["`MaskedClasses::Both`", name]));
    };
    for divergence in D::ALL.into_iter().filter(|d| !d.is_sampled()) {
        let name = divergence.to_string();
        let apart = matches!(divergence, D::Dkd { .. } | D::Nkd { .. } | D::Wsld);
        let config = Config {
            divergence,
            ..default
        };
        check(config, apart.then_some(name.as_str()));
    }
    let standardized = Config {
        standardization: Standardization::ZScore,
        ..default
    };
    check(standardized, Some("`Standardization::ZScore`"));
}
