//! The divergences: 0 where both distributions are equal, bounds, symmetries, identities and limits.

use proptest::prelude::*;
use std::f64::consts::LN_2;
use wgpu_distill::{Divergence as D, Engine, Reduction, Selection, Similarity, reference};

use super::agree::{TOLERANCE, close};
use super::drawn::{Drawn, Kernels, Masked, drawn, for_all, on_every_engine};
use super::losses::{divergence, is_apart};
use crate::cases::tolerance::loss_factor;

/// The logarithms of two random distributions, from one class up, and a label. Some have classes of probability 0.
fn pair() -> impl Strategy<Value = (Vec<f64>, Vec<f64>, usize)> {
    drawn(Kernels::Any, false).prop_map(|drawn| {
        let n = drawn.classes;
        let log_softmax = |x: &[f32], temperature: f32| -> Vec<f64> {
            let s = x[..n]
                .iter()
                .map(|x| f64::from(*x) / f64::from(temperature));
            let max = s.clone().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = s.clone().map(|s| (s - max).exp()).sum();
            s.map(|s| s - max - sum.ln()).collect()
        };
        (
            log_softmax(&drawn.student, drawn.config.student_temperature),
            log_softmax(&drawn.teacher, drawn.config.teacher_temperature),
            drawn.labels[0] as usize,
        )
    })
}

fn entropy(log_q: &[f64]) -> f64 {
    let live = log_q.iter().filter(|x| x.is_finite());
    live.map(|x| -x.exp() * x).sum()
}

/// The upper bound of a divergence, if it has one.
fn bound(divergence: D) -> Option<f64> {
    let f = f64::from;
    match divergence {
        D::TotalVariation => Some(1.0),
        D::Jsd { beta } => Some(-f(beta) * f(beta).ln() - (1.0 - f(beta)) * (-f(beta)).ln_1p()),
        D::SkewKl { alpha } | D::SkewReverseKl { alpha } => Some(-f(alpha).ln()),
        _ => None,
    }
}

#[test]
fn the_references_divergences_have_their_bounds() {
    let strategy = (divergence(), pair());
    for_all(
        "reference",
        [2000, 40_000],
        &strategy,
        |(divergence, (log_p, log_q, label))| {
            let value = |p: &[f64], q: &[f64]| reference::divergence(divergence, p, q, label);
            let got = value(&log_p, &log_q);
            if got.is_nan() || got < 0.0 {
                return Err(format!("{got:e}"));
            }
            let bound = bound(divergence).unwrap_or(f64::INFINITY);
            if got > bound + 1e-12 {
                return Err(format!("{got:e}, above {bound:e}"));
            }
            let own = match divergence {
                D::SoftCrossEntropy | D::Wsld => entropy(&log_q),
                // The entropy of the other classes; the sum below compares it.
                D::Nkd { .. } => return Ok(()),
                _ => 0.0,
            };
            close(
                "of a distribution from itself",
                value(&log_q, &log_q),
                own,
                1e-12,
            )
        },
    );
}

#[test]
fn the_references_gradients_sum_to_0() {
    let strategy = (divergence(), pair());
    for_all(
        "reference",
        [1000, 20_000],
        &strategy,
        |(divergence, (log_p, log_q, label))| {
            let gradient = reference::divergence_gradient(divergence, &log_p, &log_q, label);
            let value = reference::divergence(divergence, &log_p, &log_q, label);
            if gradient.iter().any(|g| g.is_nan()) {
                return match value.is_infinite() {
                    true => Ok(()),
                    false => Err("no gradient of a finite value".to_owned()),
                };
            }
            let size: f64 = gradient.iter().map(|g| g.abs()).sum();
            close("sum", gradient.iter().sum(), 0.0, 1e-12 * (1.0 + size))?;
            let own = reference::divergence_gradient(divergence, &log_q, &log_q, label);
            for g in own {
                close("gradient of equal distributions", g, 0.0, 1e-12)?;
            }
            Ok(())
        },
    );
}

/// The same divergence with student and teacher exchanged.
fn exchanged(divergence: D) -> Option<D> {
    Some(match divergence {
        D::ForwardKl => D::ReverseKl,
        D::ReverseKl => D::ForwardKl,
        D::KlSum { forward, reverse } => D::KlSum {
            forward: reverse,
            reverse: forward,
        },
        D::Jsd { beta } => D::Jsd { beta: 1.0 - beta },
        D::SkewKl { alpha } => D::SkewReverseKl { alpha },
        D::SkewReverseKl { alpha } => D::SkewKl { alpha },
        D::TotalVariation | D::NegLogOverlap => divergence,
        D::AlphaBeta { alpha, beta } => D::AlphaBeta {
            alpha: beta,
            beta: alpha,
        },
        _ => return None,
    })
}

#[test]
fn the_references_divergences_are_those_of_the_exchanged_distributions() {
    let strategy = (divergence(), pair());
    for_all(
        "reference",
        [1000, 20_000],
        &strategy,
        |(divergence, (log_p, log_q, label))| {
            let Some(other) = exchanged(divergence) else {
                return Ok(());
            };
            let got = reference::divergence(other, &log_q, &log_p, label);
            let want = reference::divergence(divergence, &log_p, &log_q, label);
            // 1 - beta is rounded to f32.
            close(&format!("{other}"), got, want, 1e-6 * (1.0 + want.abs()))
        },
    );
}

/// Identities between divergences, similarities and other sums, and limits of their numbers.
#[test]
fn the_references_divergences_have_their_identities() {
    let strategy = (pair(), (0.1f32..2.0, 0.1f32..2.0));
    for_all(
        "reference",
        [1000, 20_000],
        &strategy,
        |((log_p, log_q, label), (a, b))| {
            let of = |divergence| reference::divergence(divergence, &log_p, &log_q, label);
            let similarity = |s| reference::second_sweep(s, &log_p, &log_q);
            let pairs = || log_p.iter().zip(&log_q).map(|(p, q)| (p.exp(), q.exp()));
            let (forward, reverse) = (of(D::ForwardKl), of(D::ReverseKl));
            let (f, r) = (f64::from(a), f64::from(b));
            let alpha_beta = |alpha, beta| of(D::AlphaBeta { alpha, beta });
            let same = |what: &str, got: f64, want: f64| {
                close(what, got, want, 1e-11 * (1.0 + want.abs()))
            };
            let sum = of(D::KlSum {
                forward: a,
                reverse: b,
            });
            same("KlSum", sum, f * forward + r * reverse)?;
            if forward.is_finite() {
                same(
                    "SoftCrossEntropy",
                    of(D::SoftCrossEntropy),
                    forward + entropy(&log_q),
                )?;
            }
            let coefficient = similarity(Similarity::Bhattacharyya);
            same(
                "AlphaBeta(1/2, 1/2)",
                alpha_beta(0.5, 0.5),
                4.0 * (1.0 - coefficient),
            )?;
            let square: f64 = pairs().map(|(p, q)| (p - q) * (p - q)).sum();
            same("AlphaBeta(1, 1)", alpha_beta(1.0, 1.0), square / 2.0)?;
            let jsd = 1.0 - similarity(Similarity::JensenShannon);
            same("Jsd(1/2)", of(D::Jsd { beta: 0.5 }), jsd * LN_2)?;
            let (overlap, tv) = (similarity(Similarity::Overlap), of(D::TotalVariation));
            same("TotalVariation", tv, 1.0 - overlap)?;
            if overlap > 0.0 {
                same("NegLogOverlap", of(D::NegLogOverlap), -overlap.ln())?;
            }
            let (scale, decay) = (0.0, b);
            same("KlTv(0)", of(D::KlTv { scale, decay }), tv)?;
            let (scale, decay) = (1.0, 0.0);
            same("KlTv(1, 0)", of(D::KlTv { scale, decay }), forward)?;
            // DKD and NKD, from the divergence of the whole.
            let (q_c, p_c) = (log_q[label].exp(), log_p[label].exp());
            if forward.is_finite() && reverse.is_finite() && q_c < 0.999 && p_c < 0.999 {
                let target = of(D::Dkd {
                    alpha: 1.0,
                    beta: 0.0,
                });
                let others = of(D::Dkd {
                    alpha: 0.0,
                    beta: 1.0,
                });
                close(
                    "Dkd",
                    target + (1.0 - q_c) * others,
                    forward,
                    1e-9 * (1.0 + forward),
                )?;
                let rest: Vec<f64> = (0..log_q.len())
                    .map(|i| {
                        if i == label {
                            f64::NEG_INFINITY
                        } else {
                            log_q[i] - (-q_c).ln_1p()
                        }
                    })
                    .collect();
                let got = of(D::Nkd { gamma: a });
                close(
                    "Nkd",
                    got,
                    f * (others + entropy(&rest)),
                    1e-9 * (1.0 + got),
                )?;
            }
            // Limits. The tolerances are the next terms of the series.
            let largest = log_p.iter().zip(&log_q).filter(|(_, q)| q.is_finite());
            let largest = largest.map(|(p, q)| (q - p).exp()).fold(1.0, f64::max);
            if forward.is_finite() && largest < 1e4 {
                let near = 1e-6f32;
                let allowed = 1e-6 * (largest + 1.0) * 2.0;
                close("SkewKl(0)", of(D::SkewKl { alpha: near }), forward, allowed)?;
                let jsd = of(D::Jsd { beta: near }) / f64::from(near);
                close("Jsd(0) / beta", jsd, forward, 1e-5 * (largest + 1.0))?;
                let share = 1.0 - f32::EPSILON;
                let distance = log_p
                    .iter()
                    .zip(&log_q)
                    .filter(|(p, q)| p.is_finite() && q.is_finite());
                let distance = distance.map(|(p, q)| (p - q).abs()).fold(1.0, f64::max);
                let allowed = 1e-6 * distance * distance;
                close("Taid(1)", of(D::Taid { share }), forward, allowed)?;
            }
            Ok(())
        },
    );
}

/// No gradient passes through the share of `KlTv` nor through the mixture of `Taid`.
#[test]
fn the_references_constants_have_no_gradient() {
    let strategy = (pair(), (0.0f32..1.0, 0.0f32..4.0), 0.01f32..0.99);
    for_all(
        "reference",
        [500, 10_000],
        &strategy,
        |((log_p, log_q, label), (scale, decay), share)| {
            let of = |divergence| reference::divergence_gradient(divergence, &log_p, &log_q, label);
            let overlap = reference::second_sweep(Similarity::Overlap, &log_p, &log_q);
            let l = f64::from(scale) * (-f64::from(decay) * overlap).exp();
            let (kl, tv) = (of(D::ForwardKl), of(D::TotalVariation));
            for (i, got) in of(D::KlTv { scale, decay }).into_iter().enumerate() {
                close("KlTv", got, l * kl[i] + (1.0 - l) * tv[i], 1e-12)?;
            }
            let power =
                |(p, q): (&f64, &f64)| (f64::from(share) * q + (1.0 - f64::from(share)) * p).exp();
            let m: Vec<f64> = log_p.iter().zip(&log_q).map(power).collect();
            let sum: f64 = m.iter().sum();
            if sum > 1e-300 {
                for (i, got) in of(D::Taid { share }).into_iter().enumerate() {
                    close("Taid", got, log_p[i].exp() - m[i] / sum, 1e-9)?;
                }
            }
            Ok(())
        },
    );
}

/// Only the divergence: no hard part, no z-loss, each row's own loss.
fn alone(mut drawn: Drawn) -> Drawn {
    let config = &mut drawn.config;
    config.selection = Selection::Fixed(0.0);
    config.reduction = Reduction::None;
    config.temperature_scaling = Default::default();
    config.tssr_gradient = Default::default();
    (config.soft_weight, config.hard_weight, config.z_loss) = (1.0, 1.0, 0.0);
    drawn
}

/// The losses of the rows.
fn losses(engine: &Engine, drawn: &Drawn) -> Result<Vec<f64>, String> {
    let got = drawn.run(engine)?;
    Ok(got.rows.iter().map(|row| f64::from(row.loss)).collect())
}

#[test]
fn divergences_have_their_bounds() {
    on_every_engine(
        |of| drawn(of, false),
        |engine, drawn| {
            let drawn = alone(drawn);
            let divergence = drawn.config.divergence;
            let allowed = TOLERANCE.loss_absolute * loss_factor(&drawn.config);
            let bound = bound(divergence).unwrap_or(f64::INFINITY);
            for (row, loss) in losses(engine, &drawn)?.into_iter().enumerate() {
                if loss.is_nan() || loss < -allowed || loss > bound + allowed {
                    return Err(format!("loss of row {row}: {loss:e}, in [0, {bound:e}]"));
                }
            }
            Ok(())
        },
    );
}

#[test]
fn a_divergence_of_equal_rows_is_0() {
    let unmasked = |of| {
        drawn(of, false).prop_filter("cross-entropies", |drawn| {
            let cross = matches!(
                drawn.config.divergence,
                D::SoftCrossEntropy | D::Nkd { .. } | D::Wsld
            );
            drawn.masked != Masked::Student && !cross
        })
    };
    on_every_engine(unmasked, |engine, drawn| {
        let mut drawn = alone(drawn);
        drawn.config.teacher_temperature = drawn.config.student_temperature;
        drawn.student.clone_from(&drawn.teacher);
        drawn.storage[0] = drawn.storage[1];
        let got = drawn.run(engine)?;
        let allowed = TOLERANCE.statistic_absolute * loss_factor(&drawn.config);
        let tolerance = TOLERANCE.gradient(0.0, drawn.weight());
        for (row, of_row) in got.gradient.chunks(drawn.classes).enumerate() {
            let loss = f64::from(got.rows[row].loss);
            close(&format!("loss of row {row}"), loss, 0.0, allowed)?;
            for (i, g) in of_row.iter().enumerate() {
                let about = format!("gradient of row {row}, class {i}");
                close(&about, f64::from(*g), 0.0, tolerance)?;
            }
        }
        Ok(())
    });
}

#[test]
fn divergences_are_those_of_the_exchanged_rows() {
    let exchangeable = |of| {
        drawn(of, false).prop_filter("no such divergence", |drawn| {
            exchanged(drawn.config.divergence).is_some() && !is_apart(drawn.config.divergence)
        })
    };
    on_every_engine(exchangeable, |engine, drawn| {
        let drawn = alone(drawn);
        let mut other = drawn.clone();
        other.config.divergence = exchanged(drawn.config.divergence).expect("filtered");
        let (ts, tt) = (
            drawn.config.student_temperature,
            drawn.config.teacher_temperature,
        );
        (
            other.config.student_temperature,
            other.config.teacher_temperature,
        ) = (tt, ts);
        std::mem::swap(&mut other.student, &mut other.teacher);
        other.gaps.swap(0, 1);
        other.storage.swap(0, 1);
        let factor = loss_factor(&drawn.config).max(loss_factor(&other.config));
        let (got, want) = (losses(engine, &other)?, losses(engine, &drawn)?);
        for (row, (g, w)) in got.into_iter().zip(want).enumerate() {
            let allowed = TOLERANCE.loss_of_sum(w, factor, 1.0);
            close(&format!("loss of row {row}"), g, w, allowed)?;
        }
        Ok(())
    });
}
