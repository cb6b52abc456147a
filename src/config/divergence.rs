//! The soft part of the loss: one table of divergences.

use super::choice::choice;
use super::range::require;
use crate::Result;

/// Passes the table of divergences to a macro. An entry is
/// `Variant { number = example, .. } = "name", stem, Shape(numbers), [moments], [second-sweep sums];`, with `, label_apart` at the end
/// of a divergence that leaves the label out of the sums, and `, sampled` at the end of one whose teacher is one log-probability a row.
///
/// `stem` names the files of the rule: `shaders/divergences/<stem>.wgsl`, `src/cpu/divergences/<stem>.rs` and
/// `src/reference/divergences/<stem>.rs`. Shapes and second-sweep sums are those of `rule.rs`, moments those of `moments.rs`.
macro_rules! divergences {
    ($macro:ident) => {
        $macro! {
            /// `- sum q ln p`, the cross-entropy with the teacher's probabilities: the method. Its minimum is the teacher's entropy.
            /// The gradient is that of [`ForwardKl`](Divergence::ForwardKl).
            #[default]
            SoftCrossEntropy = "soft-cross-entropy", soft_cross_entropy, Plain(), [SoftMoment], [];

            /// `KL(q, p) = sum q ln(q / p)`: Hinton et al. 2015. It covers all that the teacher considers possible.
            ForwardKl = "forward-kl", forward_kl, Plain(), [Difference], [];

            /// `KL(p, q) = sum p ln(p / q)`: MiniLLM (Gu et al. 2024). It keeps to what the teacher considers likely. Infinite, with a
            /// gradient of NaN, if the teacher masks a class that the student does not.
            ReverseKl = "reverse-kl", reverse_kl, LogRatio(), [ReverseDifference, UnseenMass], [];

            /// `forward KL(q, p) + reverse KL(p, q)` with fixed weights.
            KlSum {
                /// The weight of `KL(q, p)`, at least 0.
                forward = 0.5,
                /// The weight of `KL(p, q)`, above 0.
                reverse = 0.5,
            } = "kl-sum", kl_sum, LogRatio(), [Difference, ReverseDifference, UnseenMass], [];

            /// The generalised Jensen-Shannon divergence `beta KL(q, m) + (1 - beta) KL(p, m)` with `m = beta q + (1 - beta) p`:
            /// GKD (Agarwal et al. 2024).
            Jsd {
                /// The teacher's weight, between 0 and 1. Near 0 the loss is about `beta KL(q, p)`, near 1 about `(1 - beta) KL(p, q)`.
                beta = 0.5,
            } = "jsd", jsd, Mixture(beta, 1.0 - beta), [], [MixtureStudent, MixtureTeacher];

            /// The skew KL divergence `KL(q, alpha q + (1 - alpha) p)`: DistiLLM (Ko et al. 2024). At most `- ln alpha`.
            SkewKl {
                /// The teacher's share of the mixture, between 0 and 1.
                alpha = 0.1,
            } = "skew-kl", skew_kl, Mixture(alpha, 1.0 - alpha), [], [MixtureTeacher, MixtureProduct];

            /// The skew reverse KL divergence `KL(p, alpha p + (1 - alpha) q)`: DistiLLM (Ko et al. 2024). At most `- ln alpha`.
            SkewReverseKl {
                /// The student's share of the mixture, between 0 and 1.
                alpha = 0.1,
            } = "skew-reverse-kl", skew_reverse_kl, Mixture(1.0 - alpha, alpha), [], [MixtureStudent, MixtureProduct];

            /// The total variation distance `sum abs(p - q) / 2`, in `[0, 1]`.
            TotalVariation = "total-variation", total_variation, Below(), [], [Overlap, BelowMass];

            /// `- ln sum min(p, q)`, the negative logarithm of the probability that speculative decoding accepts a token.
            NegLogOverlap = "neg-log-overlap", neg_log_overlap, Below(), [], [Overlap, BelowMass];

            /// `l KL(q, p) + (1 - l) TV(p, q)` with `l = scale e^(- decay sum min(p, q))`. No gradient passes through `l`.
            KlTv {
                /// The weight of the KL divergence of disjoint distributions, in `[0, 1]`.
                scale = 1.0,
                /// At least 0. The larger, the sooner the total variation takes over.
                decay = 1.0,
            } = "kl-tv", kl_tv, Below(), [Difference], [Overlap, BelowMass];

            /// The alpha-beta divergence `(alpha sum q^(alpha+beta) + beta sum p^(alpha+beta)) / ((alpha + beta) alpha beta) -
            /// sum q^alpha p^beta / (alpha beta)`: ABKD (Wang et al. 2025).
            AlphaBeta {
                /// The power of the teacher's probabilities, 0.05 to 4.
                alpha = 0.5,
                /// The power of the student's probabilities, 0.05 to 4.
                beta = 0.5,
            } = "alpha-beta", alpha_beta, Power(alpha, beta), [PowerCross, StudentPower, TeacherPower], [];

            /// `KL(m, p)` with `m = softmax(share t + (1 - share) s)`, the student's logits `s` in `m` detached: TAID (Shing et al. 2025).
            Taid {
                /// The teacher's share of the logits of `m`, above 0 and below 1. It grows in the course of the training.
                share = 0.5,
            } = "taid", taid, Power(share, 1.0 - share), [PowerCross, PowerDifference], [];

            /// Decoupled knowledge distillation, `alpha TCKD + beta NCKD`: the divergence of the label's probability, and the forward
            /// divergence of the other classes (DKD, Zhao et al. 2022).
            Dkd {
                /// The weight of the target class (TCKD), 0 to 1e3.
                alpha = 1.0,
                /// The weight of the other classes (NCKD), 0 to 1e3.
                beta = 8.0,
            } = "dkd", dkd, Plain(), [Difference], [], label_apart;

            /// Normalised knowledge distillation: `gamma` times the cross-entropy of the other classes, and the hard part times
            /// `1 + q` of the label, at the temperature of the hard part (NKD, Yang et al. 2023).
            Nkd {
                /// The weight of the other classes, above 0, at most 1e3.
                gamma = 1.5,
            } = "nkd", nkd, Plain(), [SoftMoment, HardSum, TeacherHardSum], [], label_apart;

            /// Weighted soft labels: `- w sum q ln p` with the row's weight `w = 1 - exp(- CE / (CE of the teacher + 1e-7))`, which has no
            /// gradient. `CE` is the cross-entropy with the label at the temperature of the hard part (WSLD, Zhou et al. 2021).
            Wsld = "wsld", wsld, Plain(), [SoftMoment, HardSum, TeacherHardSum], [], label_apart;
            /// `- r`, the estimate k1 of `KL(p, q)` from a token that the student sampled (Schulman 2020), with `r = ln q_c - ln p_c`.
            ///
            /// The token is the label `c`. The teacher's logits are `[rows, 1]`: its log-probability `ln q_c` of each row's label, at
            /// the teacher's own temperature. The gradient is that of the policy gradient with the reward `r`: `- r` times the
            /// gradient of `ln p_c`, with `r` held constant.
            K1 {
                /// Bounds `r` to `[- clamp, clamp]`; above 0, at most 1e4. Where `r` lies beyond, the gradient is 0.
                clamp = 20.0,
            } = "k1", k1, Plain(), [], [], sampled;

            /// `r^2 / 2`, the estimate k2 of `KL(p, q)` from a sampled token (Schulman 2020), with the teacher and `r` of
            /// [`K1`](Divergence::K1). The gradient is that of `K1`.
            K2 {
                /// As that of `K1`.
                clamp = 20.0,
            } = "k2", k2, Plain(), [], [], sampled;

            /// `e^r - 1 - r`, the estimate k3 of `KL(p, q)` from a sampled token (Schulman 2020), with the teacher and `r` of
            /// [`K1`](Divergence::K1). At least 0.
            K3 {
                /// Bounds `r` to `[- clamp, clamp]`; above 0, at most 20. Where `r` lies beyond, the gradient is 0.
                clamp = 20.0,
            } = "k3", k3, Plain(), [], [], sampled;
        }
    };
}
pub(crate) use divergences;

macro_rules! define {
    ($(
        $(#[$doc:meta])*
        $variant:ident $({ $($fields:tt)* })? = $name:literal,
        $stem:ident, $shape:ident($($shape_number:expr),*), [$($moment:ident),*], [$($sum:ident),*] $(, $kind:ident)?;
    )*) => {
        choice! {
            /// The soft part of the loss: the distance of the student's probabilities `p` from the teacher's `q`, in nats.
            ///
            /// [`Selection`](crate::Selection) mixes it with the label's cross-entropy. Formulas, sources, edges and the names that other
            /// libraries use: docs/LOSSES.md.
            Divergence, "divergence";
            $(
                $(#[$doc])*
                $variant $({ $($fields)* })? = $name
            ),*
        }
    };
}

divergences!(define);

impl Divergence {
    /// Returns true for `K1`, `K2` and `K3`, whose teacher is one log-probability a row: that of the label, a token that the student sampled.
    pub fn is_sampled(self) -> bool {
        self.rule().sampled
    }

    /// Refuses numbers out of range, and names the loss that the caller wants at the ends of a range.
    pub(crate) fn check(self) -> Result<()> {
        let inside = |x: f32| x > 0.0 && x < 1.0;
        let weight = |x: f32| (0.0..=1e6).contains(&x);
        let power = |x: f32| (0.05..=4.0).contains(&x);
        match self {
            Self::KlSum { forward, reverse } => {
                let expected = "a number in [0, 1e6]";
                require(
                    weight(forward),
                    "divergence: KlSum forward",
                    forward,
                    expected,
                )?;
                let expected =
                    "a number above 0, at most 1e6; without the reverse divergence use `ForwardKl`";
                let ok = weight(reverse) && reverse > 0.0;
                require(ok, "divergence: KlSum reverse", reverse, expected)
            }
            Self::Jsd { beta } => {
                let expected = "a number between 0 and 1; other libraries mean `ForwardKl` by 0 and `ReverseKl` by 1";
                require(inside(beta), "divergence: Jsd beta", beta, expected)
            }
            Self::SkewKl { alpha } => {
                let expected = "a number between 0 and 1; 0 is `ForwardKl`, and 1 is always 0";
                require(inside(alpha), "divergence: SkewKl alpha", alpha, expected)
            }
            Self::SkewReverseKl { alpha } => {
                let expected = "a number between 0 and 1; 0 is `ReverseKl`, and 1 is always 0";
                require(
                    inside(alpha),
                    "divergence: SkewReverseKl alpha",
                    alpha,
                    expected,
                )
            }
            Self::KlTv { scale, decay } => {
                let ok = (0.0..=1.0).contains(&scale);
                require(ok, "divergence: KlTv scale", scale, "a number in [0, 1]")?;
                let ok = (0.0..=100.0).contains(&decay);
                require(ok, "divergence: KlTv decay", decay, "a number in [0, 100]")
            }
            Self::AlphaBeta { alpha, beta } => {
                let expected = "a number in [0.05, 4]; alpha 1 with beta 0 is `ForwardKl`, alpha 0 with beta 1 is `ReverseKl`";
                require(power(alpha), "divergence: AlphaBeta alpha", alpha, expected)?;
                require(power(beta), "divergence: AlphaBeta beta", beta, expected)
            }
            Self::Taid { share } => {
                let expected = "a number between 0 and 1, 0 and 1 excluded";
                require(inside(share), "divergence: Taid share", share, expected)
            }
            Self::Dkd { alpha, beta } => {
                let ok = |x: f32| (0.0..=1e3).contains(&x);
                let expected = "a number in [0, 1e3]";
                require(ok(alpha), "divergence: Dkd alpha", alpha, expected)?;
                require(ok(beta), "divergence: Dkd beta", beta, expected)
            }
            Self::Nkd { gamma } => {
                let ok = gamma > 0.0 && gamma <= 1e3;
                let expected = "a number above 0, at most 1e3";
                require(ok, "divergence: Nkd gamma", gamma, expected)
            }
            Self::K1 { clamp } | Self::K2 { clamp } => {
                let field = match self {
                    Self::K1 { .. } => "divergence: K1 clamp",
                    _ => "divergence: K2 clamp",
                };
                let ok = clamp > 0.0 && clamp <= 1e4;
                require(ok, field, clamp, "a number above 0, at most 1e4")
            }
            Self::K3 { clamp } => {
                let ok = clamp > 0.0 && clamp <= 20.0;
                let expected = "a number above 0, at most 20: the loss is up to `e^clamp`";
                require(ok, "divergence: K3 clamp", clamp, expected)
            }
            _ => Ok(()),
        }
    }
}
