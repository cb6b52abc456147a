//! The soft part of the loss by Burn's operations: the divergences of docs/LOSSES.md, each by its value and its derivative.

use burn::tensor::{Bool, Tensor};
use wgpu_distill::Divergence;

use super::softmax::{Softmax, minus_log, mixture, weighted};
use super::sums::over_classes;

/// A divergence of the student's probabilities `p` from the teacher's `q`.
pub(super) struct SoftPart {
    /// `[rows, 1]`
    pub value: Tensor<2>,
    /// `p F'` with `F'` the derivative with respect to `p`, `[rows, classes]`; infinite in a row without a derivative.
    pub slopes: Tensor<2>,
}

impl SoftPart {
    /// Rows without a derivative, `[rows, 1]`.
    pub fn has_none(&self) -> Tensor<2, Bool> {
        self.slopes.clone().is_inf().any_dim(1)
    }

    /// The derivative with respect to the student's logits over their temperature: `p (F' - sum p F')`. NaN in a row without one.
    pub fn gradient(&self, p: &Softmax) -> Tensor<2> {
        let none = self.has_none().expand(self.slopes.dims());
        let slopes = self.slopes.clone().mask_fill(none.clone(), 0.0);
        let mean = over_classes(slopes.clone());
        (slopes - p.probabilities.clone() * mean).mask_fill(none, f32::NAN)
    }
}

/// A divergence as a function of the student's and the teacher's softmax.
pub(super) type SoftRule = Box<dyn Fn(&Softmax, &Softmax) -> SoftPart>;

/// The function of a divergence; `None` for one of a later version.
pub(super) fn rule(divergence: Divergence) -> Option<SoftRule> {
    Some(match divergence {
        Divergence::SoftCrossEntropy => Box::new(soft_cross_entropy),
        Divergence::ForwardKl => Box::new(forward_kl),
        Divergence::ReverseKl => Box::new(reverse_kl),
        Divergence::KlSum { forward, reverse } => {
            Box::new(move |p, q| sum(forward_kl(p, q), forward, reverse_kl(p, q), reverse))
        }
        Divergence::Jsd { beta } => Box::new(move |p, q| jsd(p, q, beta)),
        Divergence::SkewKl { alpha } => Box::new(move |p, q| skew_kl(p, q, alpha)),
        Divergence::SkewReverseKl { alpha } => Box::new(move |p, q| skew_reverse_kl(p, q, alpha)),
        Divergence::TotalVariation => Box::new(total_variation),
        Divergence::NegLogOverlap => Box::new(neg_log_overlap),
        Divergence::KlTv { scale, decay } => Box::new(move |p, q| kl_tv(p, q, scale, decay)),
        Divergence::AlphaBeta { alpha, beta } => {
            Box::new(move |p, q| alpha_beta(p, q, alpha, beta))
        }
        Divergence::Taid { share } => Box::new(move |p, q| taid(p, q, share)),
        _ => return None,
    })
}

/// `a x + b y`; a part with a weight of 0 contributes 0 even if it is infinite.
fn sum(x: SoftPart, a: f32, y: SoftPart, b: f32) -> SoftPart {
    let times = |x: Tensor<2>, a: f32| match a {
        0.0 => x.zeros_like(),
        a => x * a,
    };
    SoftPart {
        value: times(x.value, a) + times(y.value, b),
        slopes: times(x.slopes, a) + times(y.slopes, b),
    }
}

/// `- sum q ln p`, `F' = - q / p`
fn soft_cross_entropy(p: &Softmax, q: &Softmax) -> SoftPart {
    cross_entropy(p, q.probabilities.clone())
}

/// The soft cross-entropy with the weights `v` of the classes, `[1, classes]`: `- sum v q ln p`, `F' = - v q / p`
pub(super) fn weighted_cross_entropy(p: &Softmax, q: &Softmax, v: Tensor<2>) -> SoftPart {
    cross_entropy(p, q.probabilities.clone() * v)
}

fn cross_entropy(p: &Softmax, target: Tensor<2>) -> SoftPart {
    SoftPart {
        value: over_classes(minus_log(&target, &p.log)),
        slopes: target.neg(),
    }
}

/// `sum q ln(q / p)`, `F' = - q / p`
fn forward_kl(p: &Softmax, q: &Softmax) -> SoftPart {
    let terms = weighted(&q.probabilities, q.log.clone(), p.log.clone());
    SoftPart {
        value: over_classes(terms).clamp_min(0.0),
        slopes: q.probabilities.clone().neg(),
    }
}

/// `sum p ln(p / q)`, `F' = ln(p / q)`: a constant in `F'` has no effect on the gradient. Infinite, without a derivative, if only the teacher
/// masks a class.
fn reverse_kl(p: &Softmax, q: &Softmax) -> SoftPart {
    let terms = weighted(&p.probabilities, p.log.clone(), q.log.clone());
    SoftPart {
        value: over_classes(terms.clone()).clamp_min(0.0),
        slopes: terms,
    }
}

/// `beta KL(q, m) + (1 - beta) KL(p, m)` with `m = beta q + (1 - beta) p`, `F' = (1 - beta) ln(p / m)`
fn jsd(p: &Softmax, q: &Softmax, beta: f32) -> SoftPart {
    let ln_m = mixture(beta, q, p).log();
    let teacher = weighted(&q.probabilities, q.log.clone(), ln_m.clone()) * beta;
    let student = weighted(&p.probabilities, p.log.clone(), ln_m) * (1.0 - beta);
    SoftPart {
        value: over_classes(teacher + student.clone()).clamp_min(0.0),
        slopes: student,
    }
}

/// `sum q ln(q / m)` with `m = alpha q + (1 - alpha) p`, `F' = - (1 - alpha) q / m`
fn skew_kl(p: &Softmax, q: &Softmax, alpha: f32) -> SoftPart {
    let m = mixture(alpha, q, p);
    let terms = weighted(&q.probabilities, q.log.clone(), m.clone().log());
    SoftPart {
        value: over_classes(terms).clamp_min(0.0),
        slopes: p.probabilities.clone() * (q.probabilities.clone() / m) * (alpha - 1.0),
    }
}

/// `sum p ln(p / m)` with `m = alpha p + (1 - alpha) q`, `F' = ln(p / m) + (1 - alpha) q / m`
fn skew_reverse_kl(p: &Softmax, q: &Softmax, alpha: f32) -> SoftPart {
    let m = mixture(alpha, p, q);
    let terms = weighted(&p.probabilities, p.log.clone(), m.clone().log());
    let product = p.probabilities.clone() * (q.probabilities.clone() / m);
    SoftPart {
        value: over_classes(terms.clone()).clamp_min(0.0),
        slopes: terms + product * (1.0 - alpha),
    }
}

/// `p sgn(p - q)`. Two probabilities whose difference is at most 4e-6 of the larger one count as equal: rounding must not decide the sign.
fn signed(p: &Softmax, q: &Softmax) -> Tensor<2> {
    let (a, b) = (p.probabilities.clone(), q.probabilities.clone());
    let apart = a.clone() - b.clone();
    let larger = a.clone().max_pair(b);
    let tie = apart.clone().abs().lower_equal(larger * 4e-6);
    a * apart.sign().mask_fill(tie, 0.0)
}

/// `sum min(p, q)`
fn overlap(p: &Softmax, q: &Softmax) -> Tensor<2> {
    let smaller = p.probabilities.clone().min_pair(q.probabilities.clone());
    over_classes(smaller).clamp_max(1.0)
}

/// `sum abs(p - q) / 2`, `F' = sgn(p - q) / 2`
fn total_variation(p: &Softmax, q: &Softmax) -> SoftPart {
    let apart = p.probabilities.clone() - q.probabilities.clone();
    SoftPart {
        value: over_classes(apart.abs()) * 0.5,
        slopes: signed(p, q) * 0.5,
    }
}

/// `- ln overlap`, `F' = - (1 - sgn(p - q)) / (2 overlap)`. Without an overlap the gradient counts as 0.
fn neg_log_overlap(p: &Softmax, q: &Softmax) -> SoftPart {
    let [rows, classes] = p.probabilities.dims();
    let overlap = overlap(p, q);
    let none = overlap.clone().equal_scalar(0.0).expand([rows, classes]);
    let slopes = (signed(p, q) - p.probabilities.clone()) / (overlap.clone() * 2.0);
    SoftPart {
        value: overlap.log().neg(),
        slopes: slopes.mask_fill(none, 0.0),
    }
}

/// `l KL(q, p) + (1 - l) TV(p, q)` with `l = scale e^(- decay overlap)`, constant for the gradient
fn kl_tv(p: &Softmax, q: &Softmax, scale: f32, decay: f32) -> SoftPart {
    let share = (overlap(p, q) * -decay).exp() * scale;
    let rest = share.clone().neg() + 1.0;
    let (kl, tv) = (forward_kl(p, q), total_variation(p, q));
    let none = share.clone().equal_scalar(0.0);
    SoftPart {
        value: (kl.value * share.clone()).mask_fill(none, 0.0) + tv.value * rest.clone(),
        slopes: kl.slopes * share + tv.slopes * rest,
    }
}

/// `(alpha sum q^(alpha+beta) + beta sum p^(alpha+beta)) / ((alpha + beta) alpha beta) - sum q^alpha p^beta / (alpha beta)`,
/// `F' = (p^(alpha+beta-1) - q^alpha p^(beta-1)) / alpha`
fn alpha_beta(p: &Softmax, q: &Softmax, alpha: f32, beta: f32) -> SoftPart {
    let both = alpha + beta;
    let student = (p.log.clone() * both).exp();
    let teacher = (q.log.clone() * both).exp();
    let cross = (q.log.clone() * alpha + p.log.clone() * beta).exp();
    // The sum of terms that are each at least 0.
    let terms = teacher * (alpha / both) + student.clone() * (beta / both) - cross.clone();
    SoftPart {
        value: over_classes(terms).clamp_min(0.0) / (alpha * beta),
        slopes: (student - cross) / alpha,
    }
}

/// `KL(m, p)` with `m = softmax(share t + (1 - share) s)`, constant for the gradient, `F' = - m / p`. Without a common class it is infinite
/// and has no derivative.
fn taid(p: &Softmax, q: &Softmax, share: f32) -> SoftPart {
    let [rows, classes] = p.probabilities.dims();
    let none_ignored = p.bad.clone().bool_and(p.bad.clone().bool_not());
    let logits = q.log.clone() * share + p.log.clone() * (1.0 - share);
    let m = Softmax::of(logits, 1.0, &none_ignored);
    let value =
        over_classes(weighted(&m.probabilities, m.log.clone(), p.log.clone())).clamp_min(0.0);
    let whole = m.bad.clone().expand([rows, classes]);
    SoftPart {
        value: value.mask_fill(m.bad, f32::INFINITY),
        slopes: m.probabilities.neg().mask_fill(whole, f32::INFINITY),
    }
}
