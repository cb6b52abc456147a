//! Configurations by the names under which losses are known.
//!
//! Each function returns a [`Config`]. Change any field of it afterwards; to use a known divergence with this crate's selection of the
//! label's share, for example:
//!
//! ```
//! use wgpu_distill::{Config, Divergence, Selection, presets};
//!
//! let config = Config {
//!     selection: Selection::Min,
//!     ..presets::gkd(0.5)
//! };
//! assert_eq!(config.divergence, Divergence::Jsd { beta: 0.5 });
//! ```
//!
//! Formulas are those of one row before reduction. `p` and `q` are the softmax of the student's and the teacher's logits over the
//! temperature, `p(1)` the student's at temperature 1, `c` is the label, `KL(q, p) = sum q ln(q / p)`, and
//! `CE = - ln p(1)_c` the cross-entropy with the label. Numbers out of range are not refused here but by the call that gets the
//! configuration, as for any `Config`. Only [`teacher_annealing`] needs a [`Progress`] in the call; the others accept
//! [`Progress::NONE`].
//!
//! Losses that a `Config` cannot express, and are therefore missing here:
//!
//! docs/LOSSES.md has the divergences, their gradients and edges, and the names that other libraries use.

use crate::{
    Config, Divergence, HardTemperature, Progress, Selection, Standardization, TemperatureScaling,
};

/// The teacher alone, at temperature 1. Labels only decide which rows count.
fn teacher_only(divergence: Divergence) -> Config {
    Config {
        divergence,
        selection: Selection::Fixed(0.0),
        ..Config::default()
    }
}

/// Teacher annealing: Clark et al. 2019, *BAM! Born-Again Multi-Task Networks* (arXiv:1907.04829).
///
/// `- sum y ln p` with `y = a onehot(c) + (1 - a) q`, at temperature 1. The label's share `a` rises linearly from 0 to 1: it is the TSTR
/// of the [`Progress`] that the call gets, `Progress::new(step, total)` in steps of the whole training.
pub fn teacher_annealing() -> Config {
    Config {
        selection: Selection::Tstr,
        ..Config::default()
    }
}

/// Hinton et al. 2015, *Distilling the Knowledge in a Neural Network* (arXiv:1503.02531).
///
/// `label_share CE - (1 - label_share) temperature^2 sum q ln p`, with `label_share` in `[0, 1]`.
///
/// Many libraries write `KL(q, p)` for the second sum. The gradient is the same; for their value set
/// [`Divergence::ForwardKl`].
pub fn hinton(temperature: f32, label_share: f32) -> Config {
    Config {
        student_temperature: temperature,
        teacher_temperature: temperature,
        temperature_scaling: TemperatureScaling::Squared,
        hard_temperature: HardTemperature::Own(1.0),
        selection: Selection::Fixed(label_share),
        ..Config::default()
    }
}

/// `KD` of mdistiller (Zhao et al. 2022), and of every library that weights the two parts apart.
///
/// `ce_weight CE + kd_weight temperature^2 KL(q, p)`. mdistiller's own numbers are 4, 0.1 and 0.9. Each weight is 0 or lies between
/// 5e-7 and 5e5: the configuration has twice the weights at equal shares, so its TSSR is 0.5.
pub fn mdistiller_kd(temperature: f32, ce_weight: f32, kd_weight: f32) -> Config {
    Config {
        divergence: Divergence::ForwardKl,
        hard_weight: 2.0 * ce_weight,
        soft_weight: 2.0 * kd_weight,
        ..hinton(temperature, 0.5)
    }
}

/// Sun et al. 2024, *Logit Standardization in Knowledge Distillation* (arXiv:2403.01427).
///
/// `ce_weight CE + kd_weight base_temperature^2 KL(q, p)`: `p` and `q` are the softmaxes of the z-scores of each row's logits over
/// `base_temperature`, `CE` sees the logits at temperature 1. The numbers of the paper's code are 2, 1 and 9 for CIFAR-100. Weights as in
/// [`mdistiller_kd`].
pub fn logit_standardization(base_temperature: f32, ce_weight: f32, kd_weight: f32) -> Config {
    Config {
        standardization: Standardization::ZScore,
        ..mdistiller_kd(base_temperature, ce_weight, kd_weight)
    }
}

/// `DKD` of mdistiller: Zhao et al. 2022, *Decoupled Knowledge Distillation* (arXiv:2203.08679).
///
/// `ce_weight CE + temperature^2 (alpha TCKD + beta NCKD)`: TCKD is the divergence of the two numbers `(q_c, 1 - q_c)` and
/// `(p_c, 1 - p_c)`, NCKD the forward divergence of the softmaxes over all classes but the label. mdistiller's numbers for CIFAR-100 are
/// 4, 1, 1 and 8; its warm-up multiplies `soft_weight` by `min(epoch / 20, 1)`. TSSR is 0.5, as in [`mdistiller_kd`].
pub fn mdistiller_dkd(temperature: f32, ce_weight: f32, alpha: f32, beta: f32) -> Config {
    Config {
        divergence: Divergence::Dkd { alpha, beta },
        ..mdistiller_kd(temperature, ce_weight, 1.0)
    }
}

/// NKD: Yang et al. 2023, *From Knowledge Distillation to Self-Knowledge Distillation* (arXiv:2303.13005), with the cross-entropy that
/// the paper adds.
///
/// `CE - q(1)_c ln p(1)_c - gamma temperature^2 sum q' ln p'`: `p'` and `q'` are the softmaxes over all classes but the label, `q(1)` is the
/// teacher's at temperature 1. The paper has `gamma` 1.5 and temperature 1. TSSR is 0.5, as in [`mdistiller_kd`].
pub fn nkd(temperature: f32, gamma: f32) -> Config {
    Config {
        divergence: Divergence::Nkd { gamma },
        ..mdistiller_kd(temperature, 1.0, 1.0)
    }
}

/// WSLD: Zhou et al. 2021, *Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective*
/// (arXiv:2102.00650), with the cross-entropy that the paper adds.
///
/// `CE - weight temperature^2 w sum q ln p` with `w = 1 - exp(- CE / (CE of the teacher + 1e-7))`, which has no gradient. `temperature` and
/// `weight` are `tau` and `loss_weight` of mmrazor, which has 2 and 2.5 in its example. TSSR is 0.5, as in [`mdistiller_kd`].
pub fn wsld(temperature: f32, weight: f32) -> Config {
    Config {
        divergence: Divergence::Wsld,
        ..mdistiller_kd(temperature, 1.0, weight)
    }
}

/// MFT: Belcak et al. 2025, *Minifinetuning* (arXiv:2506.15702). `MFTLoss` of Model-Optimizer.
///
/// `- temperature^2 sum y ln p` with the corrected teacher `y = a onehot(c) + (1 - a) q`, whose share `a` follows from the teacher's
/// margin: [`Selection::Margin`]. Model-Optimizer's `temperature` is 1, its `threshold` 0.2. It reports `KL(y, p)`, which is smaller by the
/// entropy of `y` and has the same gradient.
pub fn mft(temperature: f32, threshold: f32) -> Config {
    Config {
        student_temperature: temperature,
        teacher_temperature: temperature,
        temperature_scaling: TemperatureScaling::Squared,
        selection: Selection::Margin(threshold),
        ..Config::default()
    }
}

/// PS-KD: Kim et al. 2021, *Self-Knowledge Distillation with Progressive Refinement of Targets* (arXiv:2006.12000).
///
/// `- sum y ln p` with `y = (1 - a) onehot(c) + a q` and `a = alpha_end TSTR`, at temperature 1. The teacher's logits are those of the
/// student one epoch ago. `epoch` is `Progress::new(epoch, epochs)` with epochs counted from 1; make the configuration anew each epoch.
/// The paper has `alpha_end` 0.8, and labels alone in the first epoch, which has no teacher: `Selection::Fixed(1.0)`.
pub fn ps_kd(alpha_end: f32, epoch: Progress) -> Config {
    Config {
        selection: Selection::Fixed(1.0 - alpha_end * epoch.tstr()),
        ..Config::default()
    }
}

/// GKD: Agarwal et al. 2024, *On-Policy Distillation of Language Models* (arXiv:2306.13649). `beta` of TRL, ms-swift, Liger and axolotl.
///
/// `beta KL(q, m) + (1 - beta) KL(p, m)` with `m = beta q + (1 - beta) p`, at temperature 1. As in those libraries, `beta` 0 is
/// `KL(q, p)` ([`Divergence::ForwardKl`]) and 1 is `KL(p, q)` ([`Divergence::ReverseKl`]), although the formula is 0 there.
pub fn gkd(beta: f32) -> Config {
    teacher_only(match beta {
        0.0 => Divergence::ForwardKl,
        1.0 => Divergence::ReverseKl,
        _ => Divergence::Jsd { beta },
    })
}

/// The skew KL divergence of DistiLLM: Ko et al. 2024 (arXiv:2402.03898). Its `skewed_forward_kl` with `lam = alpha`.
///
/// `KL(q, alpha q + (1 - alpha) p)`, at temperature 1. The paper has `alpha` 0.1. DistiLLM's code leaves out the teacher's entropy,
/// which has no gradient.
pub fn distillm_skew_kl(alpha: f32) -> Config {
    teacher_only(Divergence::SkewKl { alpha })
}

/// The skew reverse KL divergence of DistiLLM: Ko et al. 2024 (arXiv:2402.03898). Its `skewed_reverse_kl` with `lam = alpha`.
///
/// `KL(p, alpha p + (1 - alpha) q)`, at temperature 1. The paper has `alpha` 0.1.
pub fn distillm_skew_reverse_kl(alpha: f32) -> Config {
    teacher_only(Divergence::SkewReverseKl { alpha })
}

/// Forward and reverse KL with fixed shares: `SymmetricKLLoss` of torchtune, `mixed` of NeMo-RL, `symmetric_kl(1 - forward_share)` of
/// DistiLLM.
///
/// `forward_share KL(q, p) + (1 - forward_share) KL(p, q)`, with `forward_share` in `[0, 1]`, at temperature 1. torchtune and DistiLLM
/// leave out the teacher's entropy, which has no gradient.
pub fn symmetric_kl(forward_share: f32) -> Config {
    teacher_only(match forward_share {
        0.0 => Divergence::ReverseKl,
        1.0 => Divergence::ForwardKl,
        _ => Divergence::KlSum {
            forward: forward_share,
            reverse: 1.0 - forward_share,
        },
    })
}

/// ABKD: Wang et al. 2025, *ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge Distillation via
/// alpha-beta-Divergence* (arXiv:2505.04560).
///
/// `(alpha sum q^(alpha+beta) + beta sum p^(alpha+beta)) / ((alpha + beta) alpha beta) - sum q^alpha p^beta / (alpha beta)`, at
/// temperature 1. The limits `(1, 0)` and `(0, 1)` are [`Divergence::ForwardKl`] and [`Divergence::ReverseKl`].
pub fn abkd(alpha: f32, beta: f32) -> Config {
    teacher_only(match (alpha, beta) {
        (1.0, 0.0) => Divergence::ForwardKl,
        (0.0, 1.0) => Divergence::ReverseKl,
        _ => Divergence::AlphaBeta { alpha, beta },
    })
}

/// TAID: Shing et al. 2025, *Temporally Adaptive Interpolated Distillation* (arXiv:2501.16937).
///
/// `KL(m, p)` with `m = softmax(share y + (1 - share) x)`, `x` and `y` the logits of student and teacher; no gradient passes through
/// `m`. At temperature 1. `share` 1 is [`Divergence::ForwardKl`]. The share grows in the course of the training, in the paper adaptively
/// from 0.4 to 1; [`schedule::linear`](crate::schedule::linear) gives its schedule without adaptation:
///
/// ```
/// use wgpu_distill::{Progress, presets, schedule};
///
/// let progress = Progress::new(30, 100);
/// let config = presets::taid(schedule::linear(0.4, 1.0, progress));
/// ```
///
/// TAID's code reports `- sum m ln p`, which is larger by the entropy of `m`.
pub fn taid(share: f32) -> Config {
    teacher_only(match share {
        1.0 => Divergence::ForwardKl,
        _ => Divergence::Taid { share },
    })
}

/// The LK loss for the drafts of speculative decoding: Samarin et al. 2026, *LK Losses* (arXiv:2602.23881). `nla` of speculators.
///
/// `- ln sum min(p, q)`, at temperature 1.
pub fn lk_alpha() -> Config {
    teacher_only(Divergence::NegLogOverlap)
}

/// The hybrid LK loss for the drafts of speculative decoding: Samarin et al. 2026, *LK Losses* (arXiv:2602.23881). `lk_hybrid` of
/// speculators.
///
/// `l KL(q, p) + (1 - l) sum abs(p - q) / 2` with `l = exp(- eta sum min(p, q))`, which has no gradient; at temperature 1. The paper's best
/// `eta` is 3.
pub fn lk_hybrid(eta: f32) -> Config {
    teacher_only(Divergence::KlTv {
        scale: 1.0,
        decay: eta,
    })
}

/// On-policy distillation from sampled tokens: Lu and Thinking Machines Lab 2025, *On-Policy Distillation*. The advantage of tinker's recipe
/// and of slime, `k1` of verl.
///
/// The gradient of `- r ln p_c`, `r = ln q_c - ln p_c` held constant, for a token `c` that the student sampled; at temperature 1. The token
/// is the row's label, and the teacher's logits are `[rows, 1]`, its log-probability of the token. This is the first step on a batch: for
/// further steps those libraries keep `r` and multiply the row by the ratio of the new to the old `p_c`. They do not clamp `r`; the clamp of
/// 1e4 is the largest.
pub fn on_policy() -> Config {
    teacher_only(Divergence::K1 { clamp: 1e4 })
}

/// The estimate k3 of the reverse KL divergence from sampled tokens: Schulman 2020, *Approximating KL Divergence*. `low_var_kl` and `k3` of
/// verl, slime and others.
///
/// `e^r - 1 - r`, with `r` as in [`on_policy`] within [-20, 20] and with its gradient; at temperature 1. slime's `k3` does not clamp `r`. `low_var_kl`
/// of both, and `k3` of verl, also clamp the value to 10.
pub fn low_var_kl() -> Config {
    teacher_only(Divergence::K3 { clamp: 20.0 })
}

#[cfg(test)]
mod tests;
