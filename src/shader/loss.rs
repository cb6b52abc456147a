//! The choices of a kernel that follow from the loss.

use crate::moments::Moments;
use crate::rule::{self, ClassWeights, Shape, SweepSum};
use crate::{Config, Divergence, Similarity, Standardization, TeacherTail, TssrGradient};

/// The choices of a kernel that follow from the loss. The numbers of divergence, selection and temperatures are parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LossVariant {
    /// The measure of KDR.
    pub similarity: Similarity,
    /// The name of the divergence.
    pub divergence: &'static str,
    /// The shape of the gradient.
    pub shape: Shape,
    /// The moments that are summed.
    pub moments: Moments,
    /// The divergence's sums of the second sweep.
    pub sweep: [Option<SweepSum>; 2],
    /// True if KDR or the divergence needs a second sweep.
    pub second_sweep: bool,
    /// True if the label's class is left out of the sums.
    pub label_apart: bool,
    /// True if the teacher is one log-probability a row, that of the label. No row of teacher logits is read, and there is no KDR.
    pub sampled: bool,
    /// The tail of a teacher that is a list of classes; `None` without a list.
    pub teacher_list: Option<TeacherTail>,
    /// True if the hard part has a temperature of its own.
    pub hard_own: bool,
    /// True if the gradient also passes through KDR.
    pub tssr_attached: bool,
    /// True if the label is smoothed.
    pub smoothing: bool,
    /// True if the smoothed share is that of the classes that the student does not mask.
    pub smoothing_unmasked: bool,
    /// True if the teacher's logit at the label is read.
    pub teacher_label: bool,
    /// True if rows have metrics.
    pub metrics: bool,
    /// The parts that weights of classes multiply.
    pub class_weights: ClassWeights,
    /// True if the logits are standardised.
    pub standardized: bool,
    /// True if a class that either row masks is masked in both.
    pub masks_joined: bool,
}

impl LossVariant {
    /// The choices of a configuration.
    pub fn of(config: &Config) -> Self {
        let rule = config.divergence.rule();
        let sums = rule.sweep;
        Self {
            similarity: match rule.sampled {
                true => Similarity::default(),
                false => config.similarity,
            },
            divergence: config.divergence.name(),
            shape: rule::shape(config).0,
            moments: rule::moments(config),
            sweep: std::array::from_fn(|i| sums.get(i).copied()),
            second_sweep: rule::needs_second_sweep(config),
            label_apart: rule.label_apart,
            sampled: rule.sampled,
            teacher_list: None,
            hard_own: config.has_own_hard_temperature(),
            tssr_attached: config.tssr_gradient == TssrGradient::Attached,
            smoothing: config.label_smoothing > 0.0,
            smoothing_unmasked: config.smooths_unmasked(),
            teacher_label: rule::needs_teacher_label(config),
            metrics: false,
            class_weights: ClassWeights::default(),
            standardized: config.standardization == Standardization::ZScore,
            masks_joined: config.joins_masks(),
        }
    }

    /// The same choices with weights of classes, and the moments that they need.
    pub fn with_class_weights(self, class_weights: ClassWeights) -> Self {
        Self {
            moments: class_weights.replace(self.moments),
            class_weights,
            ..self
        }
    }

    /// The same choices with metrics of rows, and the moments that they need.
    pub fn with_metrics(self) -> Self {
        Self {
            moments: self.moments.with(rule::metrics(self.sampled)),
            teacher_label: !self.sampled || self.teacher_label,
            metrics: true,
            ..self
        }
    }

    /// The same choices with a teacher that is a list of classes.
    pub fn with_list(self, tail: TeacherTail) -> Self {
        Self {
            teacher_list: Some(tail),
            ..self
        }
    }

    /// Returns true if the teacher has a logit for each class of a row.
    pub(super) fn has_teacher_row(&self) -> bool {
        !self.sampled && self.teacher_list.is_none()
    }

    /// The same choices with the moments of soft labels.
    pub fn with_soft_labels(self) -> Self {
        Self {
            moments: self.moments.with(rule::SOFT_LABELS),
            ..self
        }
    }

    /// The choices of kernels that do not depend on the loss.
    pub(super) fn none() -> Self {
        Self {
            similarity: Similarity::default(),
            divergence: Divergence::default().name(),
            shape: Shape::Plain,
            moments: Moments::NONE,
            sweep: [None; 2],
            second_sweep: false,
            label_apart: false,
            sampled: false,
            teacher_list: None,
            hard_own: false,
            tssr_attached: false,
            smoothing: false,
            smoothing_unmasked: false,
            teacher_label: false,
            metrics: false,
            class_weights: ClassWeights::default(),
            standardized: false,
            masks_joined: false,
        }
    }

    /// Returns true if the gradient has terms of p, q and the label only.
    pub(super) fn is_plain(&self) -> bool {
        self.shape == Shape::Plain && !self.hard_own && self.has_teacher_row()
    }

    /// Returns true if the gradient has further terms than those of p, q and the label.
    pub(super) fn is_shaped(&self) -> bool {
        !self.is_plain() && self.has_teacher_row()
    }

    /// Returns true if the last tile's logits stay in registers instead of its exponentials.
    pub(super) fn keeps_logits(&self) -> bool {
        // Classes off a list have the terms of the plain shape.
        (self.shape.needs_logits() && self.teacher_list.is_none()) || self.hard_own
    }

    /// Returns true if the second sweep is slow with tiles of 16 vectors, as measured: it takes logarithms of the student's terms.
    pub(crate) fn has_heavy_sweep(&self) -> bool {
        self.similarity == Similarity::JensenShannon
            || self.sweep.contains(&Some(SweepSum::MixtureStudent))
    }
}
