//! Each preset against its published formula.

use super::*;
use crate::{Batch, Engine, Logits, Outputs, reference};

const CLASSES: usize = 5;
const LABEL: usize = 2;
const STUDENT: [f64; CLASSES] = [0.3, -1.2, 0.9, 2.1, -0.4];
const TEACHER: [f64; CLASSES] = [1.5, 0.2, 2.8, -0.7, -1.9];

fn softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let powers: Vec<f64> = logits.iter().map(|x| (x / temperature).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

fn sum(p: &[f64], q: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
    p.iter().zip(q).map(|(p, q)| term(*p, *q)).sum()
}

/// `KL(a, b)`
fn kl(a: &[f64], b: &[f64]) -> f64 {
    sum(a, b, |a, b| a * (a / b).ln())
}

/// `share a + (1 - share) b`
fn mix(share: f64, a: &[f64], b: &[f64]) -> Vec<f64> {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| share * a + (1.0 - share) * b).collect()
}

/// `- sum y ln p`
fn cross_entropy(y: &[f64], p: &[f64]) -> f64 {
    -sum(y, p, |y, p| y * p.ln())
}

fn one_hot() -> Vec<f64> {
    (0..CLASSES).map(|i| f64::from(i == LABEL)).collect()
}

/// A loss as a function of the student's logits. The second argument has the same logits without a gradient.
type Published<'a> = &'a dyn Fn(&[f64], &[f64]) -> f64;

/// Loss and gradient of one row, by the reference and by the CPU path, equal a published formula and its central differences.
fn agree(config: &Config, progress: Progress, published: Published) {
    let f32s = |x: [f64; CLASSES]| x.map(|x| x as f32);
    let (student, teacher) = (f32s(STUDENT), f32s(TEACHER));
    let mut batch = Batch::new(&student, &teacher, &[LABEL as i32], CLASSES);
    let token = [softmax(&TEACHER, 1.0)[LABEL].ln() as f32];
    if config.divergence.is_sampled() {
        batch.teacher_logits = Logits::new(&token, 1);
    }
    let done = reference::distill(config, progress, &batch).expect("valid");
    // Logits and numbers of the configuration are rounded to f32.
    let expected = published(&STUDENT, &STUDENT);
    let difference = (done.summary.loss - expected).abs();
    assert!(difference < 1e-6, "{} {expected}", done.summary.loss);
    let cpu = Engine::cpu().run(config, progress, &batch, Outputs::GRADIENT);
    let cpu = cpu.expect("valid");
    let difference = (f64::from(cpu.summary.loss) - expected).abs();
    assert!(difference < 1e-5 * expected.abs(), "{expected} {cpu:?}");
    let cpu = cpu.into_grad_student_logits();
    for (i, gradient) in done.grad_student_logits.iter().enumerate() {
        let at = |step: f64| {
            let mut moved = STUDENT;
            moved[i] += step;
            published(&moved, &STUDENT)
        };
        let slope = (at(1e-4) - at(-1e-4)) / 2e-4;
        assert!((gradient - slope).abs() < 1e-6, "{i}: {gradient} {slope}");
        assert!(
            (f64::from(cpu[i]) - slope).abs() < 3e-6,
            "{i}: {cpu:?} {slope}"
        );
    }
}

/// A loss of `p` and `q` at temperature 1.
fn agrees(config: &Config, published: impl Fn(&[f64], &[f64]) -> f64) {
    let q = softmax(&TEACHER, 1.0);
    agree(config, Progress::NONE, &|x, _| {
        published(&softmax(x, 1.0), &q)
    });
}

#[test]
fn bam_and_ps_kd_mix_label_and_teacher() {
    let q = softmax(&TEACHER, 1.0);
    let target = |share: f64| mix(share, &one_hot(), &q);
    let bam = |x: &[f64], _: &[f64]| cross_entropy(&target(0.25), &softmax(x, 1.0));
    agree(&teacher_annealing(), Progress::new(25, 100), &bam);
    let ps_kd = super::ps_kd(0.8, Progress::new(3, 10));
    agrees(&ps_kd, |p, _| cross_entropy(&target(1.0 - 0.8 * 0.3), p));
}

#[test]
fn hinton_and_mdistiller_have_the_label_at_temperature_1() {
    let t = 4.0;
    let q = softmax(&TEACHER, t);
    let label = |x: &[f64]| -softmax(x, 1.0)[LABEL].ln();
    agree(&hinton(4.0, 0.25), Progress::NONE, &|x, _| {
        0.25 * label(x) + 0.75 * t * t * cross_entropy(&q, &softmax(x, t))
    });
    agree(&mdistiller_kd(4.0, 0.1, 0.9), Progress::NONE, &|x, _| {
        0.1 * label(x) + 0.9 * t * t * kl(&q, &softmax(x, t))
    });
}

#[test]
fn logit_standardization_distils_z_scores() {
    let z_scores = |x: &[f64]| -> Vec<f64> {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let scores = x.iter().map(|x| (x - mean) / (variance.sqrt() + 1e-7));
        scores.collect()
    };
    let t = 2.0;
    let q = softmax(&z_scores(&TEACHER), t);
    let config = logit_standardization(2.0, 0.1, 9.0);
    agree(&config, Progress::NONE, &|x, _| {
        let label = -softmax(x, 1.0)[LABEL].ln();
        0.1 * label + 9.0 * t * t * kl(&q, &softmax(&z_scores(x), t))
    });
}

/// The softmax over all classes but the label.
fn others(logits: &[f64], temperature: f64) -> Vec<f64> {
    let kept = (0..CLASSES).filter(|i| *i != LABEL).map(|i| logits[i]);
    softmax(&kept.collect::<Vec<_>>(), temperature)
}

#[test]
fn dkd_and_nkd_leave_the_label_out() {
    let t = 4.0;
    let label = |x: &[f64]| -softmax(x, 1.0)[LABEL].ln();
    let two = |x: &[f64]| {
        let p = softmax(x, t)[LABEL];
        [p, 1.0 - p]
    };
    let dkd = mdistiller_dkd(4.0, 0.75, 1.5, 8.0);
    agree(&dkd, Progress::NONE, &|x, _| {
        let target_class = kl(&two(&TEACHER), &two(x));
        let other_classes = kl(&others(&TEACHER, t), &others(x, t));
        0.75 * label(x) + t * t * (1.5 * target_class + 8.0 * other_classes)
    });
    agree(&nkd(4.0, 1.5), Progress::NONE, &|x, _| {
        let q = softmax(&TEACHER, 1.0)[LABEL];
        let other_classes = cross_entropy(&others(&TEACHER, t), &others(x, t));
        (1.0 + q) * label(x) + 1.5 * t * t * other_classes
    });
}

#[test]
fn wsld_weights_the_soft_part_by_the_labels_cross_entropies() {
    let t = 2.0;
    let label = |x: &[f64]| -softmax(x, 1.0)[LABEL].ln();
    agree(&wsld(2.0, 2.5), Progress::NONE, &|x, detached| {
        let weight = 1.0 - (-label(detached) / label(&TEACHER)).exp();
        let soft = cross_entropy(&softmax(&TEACHER, t), &softmax(x, t));
        label(x) + 2.5 * t * t * weight * soft
    });
}

#[test]
fn mft_corrects_the_teacher() {
    let t = 2.0;
    let q = softmax(&TEACHER, t);
    // The teacher is right, so its label is raised by the threshold.
    let raised = |threshold: f64| threshold / (1.0 - q[LABEL]);
    for (threshold, share) in [(0.2, raised(0.2)), (0.75, 1.0)] {
        let target = mix(share, &one_hot(), &q);
        assert!((target[LABEL] - (q[LABEL] + threshold).min(1.0)).abs() < 1e-12);
        agree(&mft(2.0, threshold as f32), Progress::NONE, &|x, _| {
            t * t * cross_entropy(&target, &softmax(x, t))
        });
    }
    // A teacher that is wrong: the label is above its choice by the threshold.
    let log_q = [0.5f64, 0.3, 0.2].map(f64::ln);
    let share = reference::margin_share(0.2, &log_q, 1.0, 1);
    let target = |label: f64, q: f64| share * label + (1.0 - share) * q;
    assert!((target(1.0, 0.3) - target(0.0, 0.5) - 0.2).abs() < 1e-12);
}

#[test]
fn gkd_is_a_jsd_with_kl_at_its_ends() {
    agrees(&gkd(0.0), |p, q| kl(q, p));
    agrees(&gkd(1.0), kl);
    for beta in [0.1f32, 0.5, 0.9] {
        let b = f64::from(beta);
        agrees(&gkd(beta), |p, q| {
            let m = mix(b, q, p);
            b * kl(q, &m) + (1.0 - b) * kl(p, &m)
        });
    }
}

#[test]
fn distillm_skews_kl() {
    agrees(&distillm_skew_kl(0.1), |p, q| kl(q, &mix(0.1, q, p)));
    let reverse = distillm_skew_reverse_kl(0.1);
    agrees(&reverse, |p, q| kl(p, &mix(0.1, p, q)));
}

#[test]
fn symmetric_kl_weights_both_directions() {
    for share in [0.0f32, 0.3, 1.0] {
        let w = f64::from(share);
        agrees(&symmetric_kl(share), |p, q| {
            w * kl(q, p) + (1.0 - w) * kl(p, q)
        });
    }
}

#[test]
fn abkd_is_the_alpha_beta_divergence() {
    agrees(&abkd(1.0, 0.0), |p, q| kl(q, p));
    agrees(&abkd(0.0, 1.0), kl);
    let (a, b) = (0.2, 0.7);
    agrees(&abkd(0.2, 0.7), |p, q| {
        let term = |p: f64, q: f64| {
            q.powf(a) * p.powf(b) - a / (a + b) * q.powf(a + b) - b / (a + b) * p.powf(a + b)
        };
        -sum(p, q, term) / (a * b)
    });
}

#[test]
fn taid_has_a_detached_target_between_the_logits() {
    agrees(&taid(1.0), |p, q| kl(q, p));
    agree(&taid(0.4), Progress::NONE, &|x, detached| {
        let logits = mix(0.4, &TEACHER, detached);
        kl(&softmax(&logits, 1.0), &softmax(x, 1.0))
    });
}

#[test]
fn lk_losses_are_those_of_the_overlap() {
    let overlap = |p: &[f64], q: &[f64]| sum(p, q, f64::min);
    agrees(&lk_alpha(), |p, q| -overlap(p, q).ln());
    let q = softmax(&TEACHER, 1.0);
    let l = (-3.0 * overlap(&softmax(&STUDENT, 1.0), &q)).exp();
    agrees(&lk_hybrid(3.0), |p, q| {
        l * kl(q, p) + (1.0 - l) * (1.0 - overlap(p, q))
    });
}

#[test]
fn sampled_tokens_have_the_gradients_of_reinforce_and_of_k3() {
    let log_ratio = |p: &[f64]| softmax(&TEACHER, 1.0)[LABEL].ln() - p[LABEL].ln();
    agree(&on_policy(), Progress::NONE, &|x, constant| {
        let (p, before) = (softmax(x, 1.0), softmax(constant, 1.0));
        let reward = log_ratio(&before);
        -reward - reward * (p[LABEL].ln() - before[LABEL].ln())
    });
    agrees(&low_var_kl(), |p, _| {
        let r = log_ratio(p);
        r.exp() - 1.0 - r
    });
}

#[test]
fn the_teacher_alone_leaves_the_label_out() {
    for config in [
        gkd(0.5),
        abkd(0.5, 0.5),
        taid(0.5),
        lk_hybrid(1.0),
        on_policy(),
    ] {
        assert_eq!(config.selection, Selection::Fixed(0.0));
        assert_eq!(config.hard_temperature, HardTemperature::Student);
    }
}

#[test]
fn numbers_out_of_range_are_refused_by_the_call() {
    let batch = Batch::new(&[0.0, 1.0], &[1.0, 0.0], &[0], 2);
    for config in [
        gkd(1.5),
        distillm_skew_kl(0.0),
        symmetric_kl(-0.1),
        abkd(0.0, 0.0),
        taid(0.0),
        lk_hybrid(-1.0),
        hinton(0.0, 0.5),
        mdistiller_kd(4.0, -1.0, 1.0),
        logit_standardization(1e-4, 0.1, 9.0),
        mdistiller_dkd(4.0, 1.0, -1.0, 8.0),
        mdistiller_dkd(4.0, 1.0, 1.0, 2e3),
        nkd(1.0, 0.0),
        wsld(2.0, -1.0),
        mft(1.0, 1.5),
        ps_kd(2.0, Progress::new(9, 10)),
    ] {
        let refused = reference::distill(&config, Progress::NONE, &batch);
        assert!(refused.is_err(), "{config:?}");
    }
}
