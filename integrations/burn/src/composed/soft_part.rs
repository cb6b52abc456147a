//! The soft part of the loss by Burn's operations: the divergences of docs/LOSSES.md, each by its value and its derivative.

use burn::tensor::{Bool, Tensor};
use wgpu_distill::Divergence;

use super::part::times;
use super::softmax::{Softmax, mixture, product};
use super::sums::over_classes;

/// A divergence of the student's probabilities `p` from the teacher's `q`.
///
/// Its derivative with respect to the student's logits over their temperature is `p (F' - sum p F')`, with `F'` the derivative with respect to
/// `p`. `p F'` is a factor of `q` and a factor of a matrix, each of which may be missing.
pub(super) struct SoftPart {
    /// `[rows, 1]`
    pub value: Tensor<2>,
    /// The factor of `q` in `p F'`, `[rows, 1]`.
    pub teacher: Option<Tensor<2>>,
    /// A matrix `[rows, classes]` in `p F'` and its factor `[rows, 1]`.
    pub slopes: Option<(Tensor<2>, Tensor<2>)>,
    /// `sum p F'`, `[rows, 1]`
    pub mean: Tensor<2>,
    /// Rows without a derivative, whose value is infinite, `[rows, 1]`. Their slopes may be infinite.
    pub undefined: Option<Tensor<2, Bool>>,
}

impl SoftPart {
    /// A divergence with the matrix `p F'`, which is finite.
    fn with_slopes(value: Tensor<2>, slopes: Tensor<2>) -> Self {
        Self {
            teacher: None,
            mean: over_classes(slopes.clone()),
            slopes: Some((slopes, value.ones_like())),
            value,
            undefined: None,
        }
    }
}

/// A divergence as a function of the student's and the teacher's softmax. It may take their distances.
pub(super) type SoftRule = Box<dyn Fn(&mut Softmax, &mut Softmax) -> SoftPart>;

/// Returns true if the divergence needs the distances of student and teacher.
pub(super) fn needs_distances(divergence: Divergence) -> [bool; 2] {
    match divergence {
        Divergence::SoftCrossEntropy => [true, false],
        Divergence::TotalVariation | Divergence::NegLogOverlap => [false, false],
        _ => [true, true],
    }
}

/// The function of a divergence; `None` for one of a later version.
pub(super) fn rule(divergence: Divergence) -> Option<SoftRule> {
    Some(match divergence {
        Divergence::SoftCrossEntropy => Box::new(soft_cross_entropy),
        Divergence::ForwardKl => Box::new(forward_kl),
        Divergence::ReverseKl => Box::new(reverse_kl),
        Divergence::KlSum { forward, reverse } => {
            Box::new(move |p, q| kl_sum(p, q, forward, reverse))
        }
        Divergence::Jsd { beta } => Box::new(move |p, q| jsd(p, q, beta)),
        Divergence::SkewKl { alpha } => Box::new(move |p, q| skew_kl(p, q, alpha)),
        Divergence::SkewReverseKl { alpha } => Box::new(move |p, q| skew_reverse_kl(p, q, alpha)),
        Divergence::TotalVariation => Box::new(|p, q| total_variation(p, q)),
        Divergence::NegLogOverlap => Box::new(|p, q| neg_log_overlap(p, q)),
        Divergence::KlTv { scale, decay } => Box::new(move |p, q| kl_tv(p, q, scale, decay)),
        Divergence::AlphaBeta { alpha, beta } => {
            Box::new(move |p, q| alpha_beta(p, q, alpha, beta))
        }
        Divergence::Taid { share } => Box::new(move |p, q| taid(p, q, share)),
        _ => return None,
    })
}

/// `- sum q ln p`, `F' = - q / p`
fn soft_cross_entropy(p: &mut Softmax, q: &mut Softmax) -> SoftPart {
    let moment = over_classes(product(q.powers.clone(), p.take_distances()));
    let one = q.sum.ones_like();
    SoftPart {
        value: p.ln_sum.clone() - moment / q.sum.clone(),
        teacher: Some(one.clone().neg()),
        slopes: None,
        mean: one.neg(),
        undefined: None,
    }
}

/// The soft cross-entropy with the weights `v` of the classes, `[1, classes]`: `- sum v q ln p`, `F' = - v q / p`
pub(super) fn weighted_cross_entropy(p: &Softmax, q: &Softmax, v: Tensor<2>) -> SoftPart {
    let target = q.probabilities() * v;
    let value = over_classes(product(target.clone(), p.log())).neg();
    SoftPart::with_slopes(value, target.neg())
}

/// `sum q ln(q / p)` from the sum of the powers of `q` times the difference of the distances, teacher less student.
fn forward_value(p: &Softmax, q: &Softmax, difference: Tensor<2>) -> Tensor<2> {
    let sum = over_classes(product(q.powers.clone(), difference));
    (sum / q.sum.clone() - q.ln_sum.clone() + p.ln_sum.clone()).clamp_min(0.0)
}

/// `sum q ln(q / p)`, `F' = - q / p`
fn forward_kl(p: &mut Softmax, q: &mut Softmax) -> SoftPart {
    let difference = q.take_distances() - p.take_distances();
    let one = q.sum.ones_like();
    SoftPart {
        value: forward_value(p, q, difference),
        teacher: Some(one.clone().neg()),
        slopes: None,
        mean: one.neg(),
        undefined: None,
    }
}

/// `sum p ln(p / q)`, `F' = ln(p / q)`: a constant in `F'` has no effect on the gradient. Infinite, without a derivative, if only the teacher
/// masks a class. `difference` is that of the distances, student less teacher.
fn reverse_of(p: &Softmax, q: &Softmax, difference: Tensor<2>) -> SoftPart {
    let terms = product(p.powers.clone(), difference);
    let mean = over_classes(terms.clone()) / p.sum.clone();
    let value = (mean.clone() - p.ln_sum.clone() + q.ln_sum.clone()).clamp_min(0.0);
    let undefined = value.clone().is_inf();
    SoftPart {
        value,
        teacher: None,
        slopes: Some((terms, p.sum.clone().recip())),
        mean: mean.mask_fill(undefined.clone(), 0.0),
        undefined: Some(undefined),
    }
}

fn reverse_kl(p: &mut Softmax, q: &mut Softmax) -> SoftPart {
    let difference = p.take_distances() - q.take_distances();
    reverse_of(p, q, difference)
}

/// `a KL(q, p) + b KL(p, q)`; a part with a weight of 0 contributes 0 even if it is infinite.
fn kl_sum(p: &mut Softmax, q: &mut Softmax, a: f32, b: f32) -> SoftPart {
    if b == 0.0 {
        let part = forward_kl(p, q);
        return SoftPart {
            value: part.value * a,
            teacher: part.teacher.map(|factor| factor * a),
            mean: part.mean * a,
            ..part
        };
    }
    let difference = p.take_distances() - q.take_distances();
    let forward = (a != 0.0).then(|| forward_value(p, q, difference.clone().neg()));
    let reverse = reverse_of(p, q, difference);
    let value = reverse.value * b;
    SoftPart {
        teacher: forward.as_ref().map(|forward| forward.ones_like() * -a),
        value: match forward {
            Some(forward) => value + forward * a,
            None => value,
        },
        slopes: reverse.slopes.map(|(terms, factor)| (terms, factor * b)),
        mean: reverse.mean * b - a,
        undefined: reverse.undefined,
    }
}

/// `beta KL(q, m) + (1 - beta) KL(p, m)` with `m = beta q + (1 - beta) p`, `F' = (1 - beta) ln(p / m)`
fn jsd(p: &mut Softmax, q: &mut Softmax, beta: f32) -> SoftPart {
    let (a, b) = (p.probabilities(), q.probabilities());
    let ln_m = mixture(beta, b.clone(), a.clone()).log();
    let ln_q = q.take_distances() - q.ln_sum.clone();
    let teacher = over_classes(product(b, ln_q - ln_m.clone())) * beta;
    let ln_p = p.take_distances() - p.ln_sum.clone();
    let student = product(a, ln_p - ln_m) * (1.0 - beta);
    let value = (teacher + over_classes(student.clone())).clamp_min(0.0);
    SoftPart::with_slopes(value, student)
}

/// `sum q ln(q / m)` with `m = alpha q + (1 - alpha) p`, `F' = - (1 - alpha) q / m`
fn skew_kl(p: &mut Softmax, q: &mut Softmax, alpha: f32) -> SoftPart {
    let (a, b) = (p.probabilities(), q.probabilities());
    let m = mixture(alpha, b.clone(), a.clone());
    let ln_q = q.take_distances() - q.ln_sum.clone();
    let terms = product(b.clone(), ln_q - m.clone().log());
    let value = over_classes(terms).clamp_min(0.0);
    SoftPart::with_slopes(value, a * (b / m) * (alpha - 1.0))
}

/// `sum p ln(p / m)` with `m = alpha p + (1 - alpha) q`, `F' = ln(p / m) + (1 - alpha) q / m`
fn skew_reverse_kl(p: &mut Softmax, q: &mut Softmax, alpha: f32) -> SoftPart {
    let (a, b) = (p.probabilities(), q.probabilities());
    let m = mixture(alpha, a.clone(), b.clone());
    let ln_p = p.take_distances() - p.ln_sum.clone();
    let terms = product(a.clone(), ln_p - m.clone().log());
    let value = over_classes(terms.clone()).clamp_min(0.0);
    SoftPart::with_slopes(value, terms + a * (b / m) * (1.0 - alpha))
}

/// `p sgn(p - q)` from the probabilities. Two probabilities whose difference is at most 4e-6 of the larger one count as equal: rounding must
/// not decide the sign.
fn signed(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let apart = a.clone() - b.clone();
    let larger = a.clone().max_pair(b);
    let tie = apart.clone().abs().lower_equal(larger * 4e-6);
    a * apart.sign().mask_fill(tie, 0.0)
}

/// `sum min(p, q)` from the probabilities.
fn overlap(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    over_classes(a.min_pair(b)).clamp_max(1.0)
}

/// `sum abs(p - q) / 2`, `F' = sgn(p - q) / 2`
fn total_variation(p: &Softmax, q: &Softmax) -> SoftPart {
    let (a, b) = (p.probabilities(), q.probabilities());
    let value = over_classes((a.clone() - b.clone()).abs()) * 0.5;
    SoftPart::with_slopes(value, signed(a, b) * 0.5)
}

/// `- ln overlap`, `F' = - (1 - sgn(p - q)) / (2 overlap)`. Without an overlap the gradient counts as 0.
fn neg_log_overlap(p: &Softmax, q: &Softmax) -> SoftPart {
    let (a, b) = (p.probabilities(), q.probabilities());
    let [rows, classes] = a.dims();
    let overlap = overlap(a.clone(), b.clone());
    let none = overlap.clone().equal_scalar(0.0).expand([rows, classes]);
    let slopes = (signed(a.clone(), b) - a) / (overlap.clone() * 2.0);
    SoftPart::with_slopes(overlap.log().neg(), slopes.mask_fill(none, 0.0))
}

/// `l KL(q, p) + (1 - l) TV(p, q)` with `l = scale e^(- decay overlap)`, constant for the gradient
fn kl_tv(p: &mut Softmax, q: &mut Softmax, scale: f32, decay: f32) -> SoftPart {
    let overlap = overlap(p.probabilities(), q.probabilities());
    let share = (overlap * -decay).exp() * scale;
    let rest = share.clone().neg() + 1.0;
    let (kl, tv) = (forward_kl(p, q), total_variation(p, q));
    let slopes = tv
        .slopes
        .map(|(slopes, factor)| (slopes, factor * rest.clone()));
    SoftPart {
        value: times(kl.value, share.clone()) + tv.value * rest.clone(),
        teacher: Some(share.clone().neg()),
        slopes,
        mean: tv.mean * rest - share,
        undefined: None,
    }
}

/// `(alpha sum q^(alpha+beta) + beta sum p^(alpha+beta)) / ((alpha + beta) alpha beta) - sum q^alpha p^beta / (alpha beta)`,
/// `F' = (p^(alpha+beta-1) - q^alpha p^(beta-1)) / alpha`
fn alpha_beta(p: &mut Softmax, q: &mut Softmax, alpha: f32, beta: f32) -> SoftPart {
    let both = alpha + beta;
    let ln_p = p.take_distances() - p.ln_sum.clone();
    let ln_q = q.take_distances() - q.ln_sum.clone();
    let student = (ln_p.clone() * both).exp();
    let teacher = (ln_q.clone() * both).exp();
    let cross = (ln_q * alpha + ln_p * beta).exp();
    // The sum of terms that are each at least 0.
    let terms = teacher * (alpha / both) + student.clone() * (beta / both) - cross.clone();
    let value = over_classes(terms).clamp_min(0.0) / (alpha * beta);
    SoftPart::with_slopes(value, (student - cross) / alpha)
}

/// `KL(m, p)` with `m = softmax(share t + (1 - share) s)`, constant for the gradient, `F' = - m / p`. Without a common class it is infinite
/// and has no derivative.
fn taid(p: &mut Softmax, q: &mut Softmax, share: f32) -> SoftPart {
    let ln_p = p.take_distances() - p.ln_sum.clone();
    let ln_q = q.take_distances() - q.ln_sum.clone();
    let [rows, classes] = ln_p.dims();
    let mut m = Softmax::of(ln_q * share + ln_p.clone() * (1.0 - share), 1.0, true);
    let ln_m = m.take_distances() - m.ln_sum.clone();
    let undefined = m.bad.clone();
    let whole = undefined.clone().expand([rows, classes]);
    let mixed = m.probabilities().mask_fill(whole, 0.0);
    let value = over_classes(product(mixed.clone(), ln_m - ln_p)).clamp_min(0.0);
    SoftPart {
        undefined: Some(undefined.clone()),
        ..SoftPart::with_slopes(value.mask_fill(undefined, f32::INFINITY), mixed.neg())
    }
}
