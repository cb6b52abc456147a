//! The parts of the computation that a configuration needs: moments of the first sweep, sums of the second, the shape of the gradient.

use crate::config::divergences;
use crate::moments::{Moment, Moments};
use crate::{
    ClassWeighting, Config, Divergence, Selection, Similarity, Standardization, TssrGradient,
};

/// The form of the gradient beyond `cp p - cq q + ch h - cu`: the terms `k1 f1 + k2 f2` (docs/METHOD.md, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// No further terms.
    Plain,
    /// `f1 = p ln(p / q)`, from the logits.
    LogRatio,
    /// `f1 = p ln(p / m)`, `f2 = p q / m` with `m = a q + b p`, `b = 1 - a`.
    Mixture,
    /// `f1 = p [p < q]`, half of it where both are equal.
    Below,
    /// `f1 = q^u p^v`, `f2 = p^(u + v)`, from the logits.
    Power,
    /// `f1 = s - ms`, `f2 = 1`, over the classes that the student does not mask; from the logits.
    Linear,
}

impl Shape {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::LogRatio => "log_ratio",
            Self::Mixture => "mixture",
            Self::Below => "below",
            Self::Power => "power",
            Self::Linear => "linear",
        }
    }

    /// Returns true if the terms need logits, because a probability may have underflowed.
    pub(crate) fn needs_logits(self) -> bool {
        matches!(self, Self::LogRatio | Self::Power | Self::Linear)
    }
}

/// A sum over the normalised probabilities `p` and `q`, which needs a second sweep. `m = a q + b p`, `b = 1 - a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SweepSum {
    /// `KL(p, m) = sum p ln(p / m)`
    MixtureStudent,
    /// `KL(q, m) = sum q ln(q / m)`
    MixtureTeacher,
    /// `sum p q / m`
    MixtureProduct,
    /// `sum min(p, q)`
    Overlap,
    /// `sum p [p < q]`, at most the overlap; equal probabilities count half.
    BelowMass,
}

impl SweepSum {
    /// Every sum.
    pub(crate) const ALL: [Self; 5] = [
        Self::MixtureStudent,
        Self::MixtureTeacher,
        Self::MixtureProduct,
        Self::Overlap,
        Self::BelowMass,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MixtureStudent => "mixture_student",
            Self::MixtureTeacher => "mixture_teacher",
            Self::MixtureProduct => "mixture_product",
            Self::Overlap => "overlap",
            Self::BelowMass => "below_mass",
        }
    }
}

/// The needs of a divergence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rule {
    pub shape: Shape,
    /// `a` and `b` of `Mixture`, both given so that a small one keeps its digits; `u` and `v` of `Power`.
    pub shape_numbers: [f32; 2],
    pub moments: Moments,
    /// Sums of the second sweep, at most two: `sweep_first` and `sweep_second` of [`RowStats`](crate::RowStats).
    pub sweep: &'static [SweepSum],
    /// True if the label's class is left out of the sums and has a gradient of its own.
    pub label_apart: bool,
    /// True if the teacher is one log-probability a row, that of the label, instead of a row of logits.
    pub sampled: bool,
}

macro_rules! rules {
    ($(
        $(#[$doc:meta])*
        $variant:ident $({ $( $(#[$number_doc:meta])* $number:ident = $example:literal ),+ $(,)? })? = $name:literal,
        $stem:ident, $shape:ident($($shape_number:expr),*), [$($moment:ident),*], [$($sum:ident),*] $(, $kind:ident)?;
    )*) => {
        impl Divergence {
            /// The needs of the divergence.
            #[allow(unused_variables, reason = "not every number is one of the shape")]
            pub(crate) fn rule(self) -> Rule {
                match self {
                    $( Self::$variant $({ $($number),+ })? => Rule {
                        shape: Shape::$shape,
                        shape_numbers: numbers(&[$($shape_number),*]),
                        moments: const { Moments::of(&[$(Moment::$moment),*]) },
                        sweep: &[$(SweepSum::$sum),*],
                        label_apart: false $( || stringify!($kind) == "label_apart" )?,
                        sampled: false $( || stringify!($kind) == "sampled" )?,
                    } ),*
                }
            }
        }
    };
}

divergences!(rules);

fn numbers(list: &[f32]) -> [f32; 2] {
    std::array::from_fn(|i| list.get(i).copied().unwrap_or(0.0))
}

impl Similarity {
    /// The moments of the similarity.
    pub(crate) const fn moments(self) -> Moments {
        use Moment::{Cross, Difference, RootCross, StudentSquare, TeacherSquare};
        match self {
            Self::Cosine => Moments::of(&[Cross, StudentSquare, TeacherSquare]),
            Self::Bhattacharyya => Moments::of(&[RootCross]),
            Self::ExpNegKl => Moments::of(&[Difference]),
            Self::JensenShannon | Self::Overlap => Moments::NONE,
        }
    }
}

/// The moments that the metrics of [`RowStats`](crate::RowStats) need. The single step `observe` always has them. Sampled tokens have none,
/// because all of them need the teacher's row.
pub(crate) const fn statistics(sampled: bool) -> Moments {
    match sampled {
        true => Moments::NONE,
        false => Moments::of(&[Moment::Difference, Moment::TeacherMoment]),
    }
}

/// The moments that a configuration needs from logits to gradient.
pub(crate) fn moments(config: &Config) -> Moments {
    let rule = config.divergence.rule();
    let mut all = rule.moments;
    if !rule.sampled {
        all = all.with(config.similarity.moments());
    }
    if config.label_smoothing > 0.0 {
        all = all.with(const { Moments::of(&[Moment::StudentOffset, Moment::StudentCount]) });
    }
    if config.has_own_hard_temperature() {
        all = all.with(const { Moments::of(&[Moment::HardSum]) });
    }
    if config.standardization == Standardization::ZScore {
        all = all.with(const { Moments::of(&[Moment::SoftMoment, Moment::StudentMoment]) });
    }
    all
}

/// Returns true if TSSR, the divergence or joined masks need the teacher's logit at the label.
pub(crate) fn needs_teacher_label(config: &Config) -> bool {
    config.divergence.rule().label_apart
        || matches!(config.selection, Selection::Margin(_))
        || config.joins_masks()
}

/// The moments of the metrics of rows. Of sampled tokens, those of the student alone.
pub(crate) const fn metrics(sampled: bool) -> Moments {
    match sampled {
        true => Moments::of(&[Moment::StudentMoment]),
        false => Moments::of(&[
            Moment::Difference,
            Moment::TeacherMoment,
            Moment::StudentMoment,
            Moment::Agreement,
        ]),
    }
}

/// The parts of the loss that weights of classes multiply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClassWeights {
    /// The weight of the label multiplies the hard part.
    pub label: bool,
    /// With label smoothing, the weight of each class multiplies its share of the label's distribution.
    pub smoothing: bool,
    /// The weight of each class multiplies its term of the soft part.
    pub soft: bool,
}

impl ClassWeights {
    /// The parts that a configuration selects.
    pub(crate) fn of(config: &Config) -> Self {
        let label = config.class_weighting != ClassWeighting::Soft;
        Self {
            label,
            smoothing: label && config.label_smoothing > 0.0,
            soft: config.class_weighting != ClassWeighting::Hard,
        }
    }

    /// The moments of a configuration with weights instead of those without.
    pub(crate) fn replace(self, moments: Moments) -> Moments {
        use Moment::{MaskedWeight, SoftMoment, StudentCount, StudentOffset};
        use Moment::{WeightSum, WeightedMasked, WeightedOffset, WeightedSoft, WeightedTeacher};
        let mut all = moments;
        if self.soft {
            all = all
                .without(const { Moments::of(&[SoftMoment]) })
                .with(const { Moments::of(&[WeightedTeacher, WeightedMasked, WeightedSoft]) });
        }
        if self.smoothing {
            all = all
                .without(const { Moments::of(&[StudentOffset, StudentCount]) })
                .with(const { Moments::of(&[WeightSum, MaskedWeight, WeightedOffset]) });
        }
        all
    }
}

/// The moments of soft labels.
pub(crate) const SOFT_LABELS: Moments =
    Moments::of(&[Moment::SoftLabelSum, Moment::SoftLabelMoment]);

/// The shape of the gradient and its numbers. An attached TSSR with the similarities of products of powers adds terms of `Power`;
/// `validate.rs` refuses it beside another shape. So it does with standardised logits, whose standard deviation adds terms of `Linear`.
pub(crate) fn shape(config: &Config) -> (Shape, [f32; 2]) {
    let rule = config.divergence.rule();
    if config.standardization == Standardization::ZScore {
        return (Shape::Linear, [0.0; 2]);
    }
    if config.tssr_gradient == TssrGradient::Attached {
        match config.similarity {
            Similarity::Cosine => return (Shape::Power, [1.0, 1.0]),
            Similarity::Bhattacharyya => return (Shape::Power, [0.5, 0.5]),
            _ => {}
        }
    }
    (rule.shape, rule.shape_numbers)
}

/// Returns true if KDR or the divergence needs a second sweep over the row.
pub(crate) fn needs_second_sweep(config: &Config) -> bool {
    let rule = config.divergence.rule();
    !rule.sweep.is_empty() || (!rule.sampled && config.similarity.needs_second_sweep())
}

impl Config {
    /// Returns true if KDR or the divergence needs a second sweep over the row, with its normalisers: a second message between
    /// [`Shard`](crate::Shard)s.
    pub fn sweeps_twice(&self) -> bool {
        needs_second_sweep(self)
    }
}
