//! Every divergence against its formula in f64, and its gradient against differences of that formula.

use super::*;
use crate::{
    Divergence, HardTemperature, Selection, Similarity, TeacherClasses, TssrGradient, flags,
};

/// Deterministic logits with standard deviation of about 2.
fn logits(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    (0..n)
        .map(|_| {
            let sum: f64 = (0..4)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) as f64 / f64::from(1u32 << 31)
                })
                .sum();
            ((sum - 2.0) * 3.5) as f32
        })
        .collect()
}

fn lse(x: &[f64], temperature: f64) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|x| ((x - max) / temperature).exp()).sum();
    max / temperature + sum.ln()
}

fn log_softmax(x: &[f64], temperature: f64) -> Vec<f64> {
    let lse = lse(x, temperature);
    x.iter().map(|x| x / temperature - lse).collect()
}

/// `sum a ln(a / b)`
fn kl(a: &[f64], b: &[f64]) -> f64 {
    let term = |(a, b): (&f64, &f64)| {
        if *a == f64::NEG_INFINITY {
            0.0
        } else {
            a.exp() * (a - b)
        }
    };
    a.iter().zip(b).map(term).sum()
}

fn mix(a: f64, p: &[f64], q: &[f64]) -> Vec<f64> {
    let m = |(p, q): (&f64, &f64)| (a * q.exp() + (1.0 - a) * p.exp()).ln();
    p.iter().zip(q).map(m).collect()
}

fn sum(p: &[f64], q: &[f64], f: impl Fn(f64, f64) -> f64) -> f64 {
    p.iter().zip(q).map(|(p, q)| f(p.exp(), q.exp())).sum()
}

/// The divergence by its definition, from logarithms. `fixed` is the student at which detached weights are taken.
fn textbook(divergence: Divergence, p: &[f64], q: &[f64], fixed: &[f64]) -> f64 {
    let f = f64::from;
    let overlap = |p: &[f64]| sum(p, q, f64::min);
    match divergence {
        Divergence::SoftCrossEntropy => {
            let term = |(p, q): (&f64, &f64)| {
                if *q == f64::NEG_INFINITY {
                    0.0
                } else {
                    -q.exp() * p
                }
            };
            p.iter().zip(q).map(term).sum()
        }
        Divergence::ForwardKl => kl(q, p),
        Divergence::ReverseKl => kl(p, q),
        Divergence::KlSum { forward, reverse } => f(forward) * kl(q, p) + f(reverse) * kl(p, q),
        Divergence::Jsd { beta } => {
            let m = mix(f(beta), p, q);
            f(beta) * kl(q, &m) + (1.0 - f(beta)) * kl(p, &m)
        }
        Divergence::SkewKl { alpha } => kl(q, &mix(f(alpha), p, q)),
        Divergence::SkewReverseKl { alpha } => kl(p, &mix(1.0 - f(alpha), p, q)),
        Divergence::TotalVariation => 0.5 * sum(p, q, |p, q| (p - q).abs()),
        Divergence::NegLogOverlap => -overlap(p).ln(),
        Divergence::KlTv { scale, decay } => {
            let l = f(scale) * (-f(decay) * overlap(fixed)).exp();
            l * kl(q, p) + (1.0 - l) * 0.5 * sum(p, q, |p, q| (p - q).abs())
        }
        Divergence::AlphaBeta { alpha, beta } => {
            let (a, b) = (f(alpha), f(beta));
            let mean = sum(p, q, |p, q| {
                (a * q.powf(a + b) + b * p.powf(a + b)) / (a + b)
            });
            (mean - sum(p, q, |p, q| q.powf(a) * p.powf(b))) / (a * b)
        }
        Divergence::Taid { share } => {
            let share = f(share);
            let m: Vec<f64> = (fixed.iter().zip(q))
                .map(|(p, q)| share * q + (1.0 - share) * p)
                .collect();
            kl(&log_softmax(&m, 1.0), p)
        }
    }
}

fn similarity(similarity: Similarity, p: &[f64], q: &[f64]) -> f64 {
    match similarity {
        Similarity::Cosine => {
            sum(p, q, |p, q| p * q) / (sum(p, q, |p, _| p * p) * sum(p, q, |_, q| q * q)).sqrt()
        }
        Similarity::Bhattacharyya => sum(p, q, |p, q| (p * q).sqrt()),
        Similarity::ExpNegKl => (-kl(q, p)).exp(),
        Similarity::JensenShannon => {
            let m = mix(0.5, p, q);
            1.0 - 0.5 * (kl(q, &m) + kl(p, &m)) / std::f64::consts::LN_2
        }
        Similarity::Overlap => sum(p, q, f64::min),
    }
}

/// The loss of a row at the student's logits `x`, with everything detached at `fixed`.
fn loss(config: &Config, tstr: f64, x: &[f64], y: &[f64], label: usize, fixed: &[f64]) -> f64 {
    let f = f64::from;
    let ts = f(config.student_temperature);
    let (p, fixed) = (log_softmax(x, ts), log_softmax(fixed, ts));
    let q = log_softmax(y, f(config.teacher_temperature));
    let attached = config.tssr_gradient == TssrGradient::Attached;
    let kdr = similarity(config.similarity, if attached { &p } else { &fixed }, &q);
    let tssr = match config.selection {
        Selection::Min => tstr.min(kdr),
        Selection::Mean => 0.5 * (tstr + kdr),
        Selection::Product => tstr * kdr,
        Selection::Kdr => kdr,
        Selection::Fixed(share) => f(share),
        _ => unreachable!("not tested here"),
    };
    let th = config.label_temperature();
    let h = log_softmax(x, th);
    let e = f(config.label_smoothing);
    let mean = h.iter().sum::<f64>() / h.len() as f64;
    let mut hard = -(1.0 - e) * h[label];
    if e > 0.0 {
        hard -= e * mean;
    }
    let soft = textbook(config.divergence, &p, &q, &fixed);
    let (hard_factor, _) = config.hard_factors();
    let soft_factor = f(config.soft_weight) * config.temperature_factor();
    let share = |weight: f64, term: f64| if weight == 0.0 { 0.0 } else { weight * term };
    let z = lse(x, th);
    share(tssr * hard_factor, hard)
        + share((1.0 - tssr) * soft_factor, soft)
        + f(config.z_loss) * z * z
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

const STEP: Progress = Progress { step: 2, total: 5 };

/// Compares the loss of one row, and its gradient at some classes. `unit` is the size of the terms of the gradient.
fn check(config: &Config, x: &[f32], y: &[f32], label: usize, unit: f64) {
    let (classes, labels) = (x.len(), [label as i32]);
    let batch = Batch::new(x, y, &labels, classes);
    let batch = Batch {
        teacher_logits: Logits::new(y, y.len()),
        ..batch
    };
    let fixed = wide(x);
    let mut teacher = wide(y);
    teacher.resize(classes, f64::NEG_INFINITY);
    let at = |x: &[f64]| loss(config, f64::from(STEP.tstr()), x, &teacher, label, &fixed);
    let want = at(&fixed);
    let difference = |i: usize| {
        let by = |h: f64| {
            let mut x = fixed.clone();
            x[i] += h;
            at(&x)
        };
        let h = 2e-5;
        (8.0 * (by(h) - by(-h)) - (by(2.0 * h) - by(-2.0 * h))) / (12.0 * h)
    };
    let differences: Vec<(usize, f64)> = (0..classes)
        .step_by(classes.div_ceil(24))
        .chain([label, classes - 1])
        .map(|i| (i, difference(i)))
        .collect();
    for engine in Cpu::for_each_instruction_set() {
        let about = format!("{} {config:?}", engine.describe());
        let got = engine.run(config, STEP, &batch, Outputs::GRADIENT);
        let got = got.expect("valid");
        let error = (f64::from(got.summary.loss) - want).abs();
        let bound = 1e-5 * want.abs() + 1e-6 * unit;
        assert!(
            got.summary.loss == want as f32 || error < bound,
            "{about}: loss {}, want {want}",
            got.summary.loss
        );
        let gradient = got.into_grad_student_logits();
        let largest = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        if want.is_infinite() {
            // Differences say nothing.
            assert!(gradient.iter().all(|g| g.is_finite()), "{about}");
            continue;
        }
        for (i, want) in &differences {
            let g = f64::from(gradient[*i]);
            let bound = 1e-5 * f64::from(largest) + 5e-7 * unit;
            assert!(
                (g - want).abs() < bound,
                "{about}: gradient {i} is {g}, want {want}"
            );
        }
    }
}

fn divergences() -> Vec<Divergence> {
    let mut all = Divergence::ALL.to_vec();
    all.extend([
        Divergence::KlSum {
            forward: 2.0,
            reverse: 0.25,
        },
        Divergence::Jsd { beta: 0.1 },
        Divergence::SkewKl { alpha: 0.7 },
        Divergence::SkewReverseKl { alpha: 0.6 },
        Divergence::KlTv {
            scale: 0.8,
            decay: 3.0,
        },
        Divergence::AlphaBeta {
            alpha: 0.3,
            beta: 1.2,
        },
        Divergence::Taid { share: 0.2 },
    ]);
    all
}

/// Needs of several kinds in one configuration.
fn variants(divergence: Divergence) -> Vec<Config> {
    let base = Config {
        divergence,
        student_temperature: 1.7,
        teacher_temperature: 0.8,
        ..Config::default()
    };
    let mut all: Vec<Config> = Similarity::ALL
        .map(|similarity| Config { similarity, ..base })
        .to_vec();
    all.push(Config {
        selection: Selection::Fixed(0.0),
        temperature_scaling: crate::TemperatureScaling::Squared,
        soft_weight: 1.5,
        ..base
    });
    all.push(Config {
        hard_temperature: HardTemperature::Own(0.6),
        label_smoothing: 0.1,
        z_loss: 1e-3,
        hard_weight: 0.3,
        ..base
    });
    all.push(Config {
        label_smoothing: 0.1,
        z_loss: 1e-2,
        hard_weight: 2.0,
        ..base
    });
    all
}

#[test]
fn loss_and_gradient_of_every_divergence() {
    for divergence in divergences() {
        for (classes, seed) in [(3, 1), (37, 2), (1024, 4), (2600, 3)] {
            let (x, y) = (logits(classes, seed), logits(classes, seed + 100));
            for config in variants(divergence) {
                check(&config, &x, &y, classes / 2, 4.0);
            }
        }
    }
}

/// Masked classes in either row take the checked path.
#[test]
fn masked_classes() {
    for divergence in divergences() {
        for classes in [40, 1500] {
            for (student, teacher) in [(true, true), (false, true), (true, false)] {
                let (mut x, mut y) = (logits(classes, 5), logits(classes, 6));
                for i in (1..classes).step_by(3) {
                    if student {
                        x[i] = f32::NEG_INFINITY;
                    }
                    if teacher {
                        y[i] = f32::NEG_INFINITY;
                    }
                }
                for config in variants(divergence) {
                    let smooth = config.label_smoothing > 0.0;
                    let reverse = divergence
                        .rule()
                        .moments
                        .has(crate::moments::Moment::UnseenMass);
                    if (smooth && student) || (reverse && teacher && !student) {
                        continue;
                    }
                    check(&config, &x, &y, 3, 4.0);
                }
            }
        }
    }
}

#[test]
fn a_smaller_teacher() {
    for divergence in divergences() {
        for (classes, teacher) in [(40, 33), (3000, 1700), (2048, 1024)] {
            let (x, y) = (logits(classes, 7), logits(teacher, 8));
            for config in variants(divergence) {
                let config = Config {
                    teacher_classes: TeacherClasses::CommonPrefix,
                    ..config
                };
                if !divergence
                    .rule()
                    .moments
                    .has(crate::moments::Moment::UnseenMass)
                {
                    check(&config, &x, &y, 3, 4.0);
                }
            }
        }
    }
}

#[test]
fn attached_tssr() {
    let similarities = [
        Similarity::Cosine,
        Similarity::Bhattacharyya,
        Similarity::ExpNegKl,
    ];
    for divergence in divergences() {
        for similarity in similarities {
            for selection in [
                Selection::Min,
                Selection::Mean,
                Selection::Product,
                Selection::Kdr,
            ] {
                let config = Config {
                    divergence,
                    similarity,
                    selection,
                    student_temperature: 1.3,
                    tssr_gradient: TssrGradient::Attached,
                    soft_weight: 0.7,
                    ..Config::default()
                };
                if validate::config(&config).is_ok() {
                    check(&config, &logits(60, 9), &logits(60, 10), 4, 8.0);
                }
            }
        }
    }
}

/// A class that the teacher masks makes the reverse divergence infinite. Without weight it changes nothing.
#[test]
fn reverse_divergence_of_a_masked_class() {
    for divergence in [
        Divergence::ReverseKl,
        Divergence::KlSum {
            forward: 1.0,
            reverse: 1.0,
        },
    ] {
        for classes in [7, 1100] {
            for prefix in [false, true] {
                let (x, mut y) = (logits(classes, 11), logits(classes, 12));
                if prefix {
                    y.pop();
                } else {
                    y[classes - 2] = f32::NEG_INFINITY;
                }
                let labels = [1];
                let batch = Batch {
                    teacher_logits: Logits::new(&y, y.len()),
                    ..Batch::new(&x, &x, &labels, classes)
                };
                for (share, infinite) in [(0.5, true), (1.0, false)] {
                    let config = Config {
                        divergence,
                        selection: Selection::Fixed(share),
                        teacher_classes: TeacherClasses::CommonPrefix,
                        ..Config::default()
                    };
                    for engine in Cpu::for_each_instruction_set() {
                        let outputs = Outputs {
                            rows: true,
                            ..Outputs::GRADIENT
                        };
                        let got = engine.run(&config, STEP, &batch, outputs).expect("valid");
                        let flag = got.rows[0].flags & flags::NO_GRADIENT != 0;
                        assert_eq!(flag, infinite);
                        assert_eq!(got.summary.loss == f32::INFINITY, infinite);
                        let gradient = got.into_grad_student_logits();
                        assert!(gradient.iter().all(|g| g.is_nan() == infinite));
                    }
                }
            }
        }
    }
}

/// Every divergence but the cross-entropy is 0 for equal rows, and so is its gradient.
#[test]
fn equal_rows() {
    for divergence in divergences() {
        if divergence == Divergence::SoftCrossEntropy {
            continue;
        }
        let config = Config {
            divergence,
            selection: Selection::Fixed(0.0),
            ..Config::default()
        };
        for classes in [5, 2000] {
            let x = logits(classes, 13);
            let y: Vec<f32> = x.iter().map(|x| x + 3.0).collect();
            let labels = [0];
            let batch = Batch::new(&x, &y, &labels, classes);
            for engine in Cpu::for_each_instruction_set() {
                let got = engine
                    .run(&config, STEP, &batch, Outputs::GRADIENT)
                    .expect("valid");
                assert!(
                    got.summary.loss.abs() < 2e-6,
                    "{divergence}: {}",
                    got.summary.loss
                );
                let gradient = got.into_grad_student_logits();
                let largest = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
                assert!(largest < 2e-6, "{divergence}: {largest}");
            }
        }
    }
}

/// Small divergences keep their digits.
#[test]
fn nearly_equal_rows() {
    for divergence in [
        Divergence::Jsd { beta: 0.5 },
        Divergence::Jsd { beta: 0.9 },
        Divergence::SkewKl { alpha: 0.1 },
        Divergence::SkewReverseKl { alpha: 0.1 },
    ] {
        let config = Config {
            divergence,
            selection: Selection::Fixed(0.0),
            ..Config::default()
        };
        let x = logits(3000, 14);
        let y: Vec<f32> = x
            .iter()
            .zip(logits(3000, 15))
            .map(|(x, n)| x + 1e-3 * n)
            .collect();
        let p = log_softmax(&wide(&x), 1.0);
        let q = log_softmax(&wide(&y), 1.0);
        let want = textbook(divergence, &p, &q, &p);
        let labels = [0];
        let batch = Batch::new(&x, &y, &labels, 3000);
        for engine in Cpu::for_each_instruction_set() {
            let got = engine
                .run(&config, STEP, &batch, Outputs::SUMMARY)
                .expect("valid");
            let error = (f64::from(got.summary.loss) - want).abs();
            assert!(
                error < 1e-4 * want,
                "{divergence}: {}, want {want}",
                got.summary.loss
            );
        }
    }
}
