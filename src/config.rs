//! What to compute: one plain struct with public fields, and the choices it names.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// How the likeness of teacher and student (KDR) is measured, per row, in `[0, 1]`, 1 for equal distributions.
///
/// `q` are the teacher's probabilities (STK), `p` the student's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Similarity {
    /// `sum(p q) / sqrt(sum(p^2) sum(q^2))`, the cosine of the angle between the two.
    #[default]
    Cosine,
    /// `sum(sqrt(p q))`, the Bhattacharyya coefficient.
    Bhattacharyya,
    /// `exp(-KL(q, p))` with `KL = sum(q ln(q / p))`.
    ExpNegKl,
    /// `1 - JSD(q, p) / ln 2`, one minus the Jensen-Shannon divergence in bits.
    JensenShannon,
    /// `sum(min(p, q))`, one minus the total variation distance.
    Overlap,
}

impl Similarity {
    /// Every similarity, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::Cosine,
        Self::Bhattacharyya,
        Self::ExpNegKl,
        Self::JensenShannon,
        Self::Overlap,
    ];

    /// True where KDR needs both rows' normalisers before it can be summed (a second look at the row).
    pub fn needs_second_sweep(self) -> bool {
        matches!(self, Self::JensenShannon | Self::Overlap)
    }

    /// The name on command lines and in reports, for example `exp-neg-kl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Bhattacharyya => "bhattacharyya",
            Self::ExpNegKl => "exp-neg-kl",
            Self::JensenShannon => "jensen-shannon",
            Self::Overlap => "overlap",
        }
    }
}

impl fmt::Display for Similarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Similarity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|s| s.name() == text)
            .ok_or_else(|| Error::InvalidConfig {
                field: "similarity",
                value: text.to_owned(),
                expected: "cosine, bhattacharyya, exp-neg-kl, jensen-shannon or overlap",
            })
    }
}

/// How the share of the true label in the target (TSSR) is selected from the share of training time gone (TSTR) and the similarity (KDR).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Selection {
    /// The larger of TSTR and KDR.
    Max,
    /// The smaller of TSTR and KDR.
    #[default]
    Min,
    /// The arithmetic mean of TSTR and KDR.
    Mean,
    /// TSTR times KDR.
    Product,
    /// TSTR alone: the teacher annealing of BAM! (Clark et al. 2019).
    Tstr,
    /// KDR alone.
    Kdr,
    /// A constant in `[0, 1]`: plain distillation with a fixed mix; 1 is training on labels only.
    Fixed(f32),
}

impl Selection {
    /// Every selection, `Fixed` with one half.
    pub const ALL: [Self; 7] = [
        Self::Max,
        Self::Min,
        Self::Mean,
        Self::Product,
        Self::Tstr,
        Self::Kdr,
        Self::Fixed(0.5),
    ];

    /// True if TSSR depends on training time (TSTR). If not, [`Progress::NONE`] is accepted.
    pub fn needs_progress(self) -> bool {
        match self {
            Self::Max | Self::Min | Self::Mean | Self::Product | Self::Tstr => true,
            Self::Kdr | Self::Fixed(_) => false,
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Min => f.write_str("min"),
            Self::Mean => f.write_str("mean"),
            Self::Product => f.write_str("product"),
            Self::Tstr => f.write_str("tstr"),
            Self::Kdr => f.write_str("kdr"),
            Self::Fixed(w) => write!(f, "fixed:{w}"),
        }
    }
}

impl FromStr for Selection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::InvalidConfig {
            field: "selection",
            value: text.to_owned(),
            expected: "max, min, mean, product, tstr, kdr or fixed:W with W in [0, 1]",
        };
        match text {
            "max" => Ok(Self::Max),
            "min" => Ok(Self::Min),
            "mean" => Ok(Self::Mean),
            "product" => Ok(Self::Product),
            "tstr" => Ok(Self::Tstr),
            "kdr" => Ok(Self::Kdr),
            _ => {
                let w = text.strip_prefix("fixed:").ok_or_else(unknown)?;
                let w: f32 = w.parse().map_err(|_| unknown())?;
                if (0.0..=1.0).contains(&w) {
                    Ok(Self::Fixed(w))
                } else {
                    Err(unknown())
                }
            }
        }
    }
}

/// Whose KDR selects a row's TSSR.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Scope {
    /// Each row its own.
    #[default]
    Row,
    /// The mean KDR of the batch's valid rows serves all rows. The rows are read twice; nothing is read back.
    Batch,
    /// The caller supplies it, in `[0, 1]`: the last step's value, a moving average, one that was reduced over machines.
    Given(f32),
}

/// How the losses of the rows become one number, and by what the gradient is divided.
///
/// A row is *valid* if its label lies in `[0, classes)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reduction {
    /// No reduction: each row's gradient is that of its own loss. The summary's loss is the sum.
    None,
    /// The sum over the valid rows.
    Sum,
    /// The mean over the valid rows; 0 where no row is valid.
    #[default]
    Mean,
    /// The sum divided by this number, finite and above 0: for gradient accumulation, where the caller knows the number of items in the whole batch.
    SumOver(f32),
}

/// Whether loss and gradient are multiplied by the temperatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TemperatureScaling {
    /// The loss as written.
    #[default]
    None,
    /// Times `student_temperature * teacher_temperature`, the T^2 of Hinton et al. 2015.
    Squared,
}

/// What happens when teacher and student have different numbers of classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TeacherClasses {
    /// It is refused, with an error that names both.
    #[default]
    SameAsStudent,
    /// The common prefix is used: teacher classes beyond the student's are left out, and classes that the teacher lacks get no probability from it (as if its logits were `-inf`).
    CommonPrefix,
}

/// What is done to the memory that receives the gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum GradWrite {
    /// It is overwritten.
    #[default]
    Overwrite,
    /// The gradient is added to what is there, in f32, and rounded once to the storage type. For memory that the caller passes: a call that returns a new gradient refuses it.
    Accumulate,
}

/// Training time: `TSTR = step / total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Progress {
    /// Steps done, at most `total`.
    pub step: u64,
    /// Steps of the whole training, at least 1. 0 only in [`Progress::NONE`].
    pub total: u64,
}

impl Progress {
    /// No training time, `0` of `0`. Accepted by selections that do not look at it: see [`Selection::needs_progress`].
    pub const NONE: Self = Self { step: 0, total: 0 };

    /// `step` of `total`. A call refuses a step beyond the total, and a total of 0.
    pub fn new(step: u64, total: u64) -> Self {
        Self { step, total }
    }

    /// `step` of `total`, where a step beyond the total counts as the last. A training of 0 steps is at its end: 1 of 1.
    pub fn clamped(step: u64, total: u64) -> Self {
        match total {
            0 => Self::new(1, 1),
            _ => Self::new(step.min(total), total),
        }
    }

    /// The share of training time gone (TSTR), in `[0, 1]`; 0 for [`Progress::NONE`].
    pub fn tstr(self) -> f32 {
        if self == Self::NONE {
            return 0.0;
        }
        (self.step as f64 / self.total as f64) as f32
    }
}

/// The distillation loss, as one plain value. `Config::default()` is the method as published, at temperature 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// The student's logits are divided by it. Finite, above 0. Default 1.
    pub student_temperature: f32,
    /// The teacher's logits are divided by it. Finite, above 0. Default 1.
    pub teacher_temperature: f32,
    /// Default: `None`.
    pub temperature_scaling: TemperatureScaling,
    /// How KDR is measured. Default: `Cosine`.
    pub similarity: Similarity,
    /// How TSSR is selected from TSTR and KDR. Default: `Min`.
    pub selection: Selection,
    /// Whose KDR selects a row's TSSR. Default: `Row`.
    pub scope: Scope,
    /// Default: `Mean`.
    pub reduction: Reduction,
    /// The true label's distribution EK is `(1 - e) onehot + e / classes`; `e` in `[0, 1)`. Default 0.
    pub label_smoothing: f32,
    /// Rows with this label give loss 0 and gradient 0, are not counted, and their logits are never looked at. Default -100.
    pub ignore_index: i32,
    /// The gradient that arrives from above (for a mean or a sum): multiplies the gradient, not the loss. Also the place for the loss scale of mixed-precision training. Finite. Default 1.
    pub grad_loss: f32,
    /// Default: a teacher of another size is refused.
    pub teacher_classes: TeacherClasses,
    /// Default: the gradient overwrites.
    pub grad_write: GradWrite,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            student_temperature: 1.0,
            teacher_temperature: 1.0,
            temperature_scaling: TemperatureScaling::None,
            similarity: Similarity::Cosine,
            selection: Selection::Min,
            scope: Scope::Row,
            reduction: Reduction::Mean,
            label_smoothing: 0.0,
            ignore_index: -100,
            grad_loss: 1.0,
            teacher_classes: TeacherClasses::SameAsStudent,
            grad_write: GradWrite::Overwrite,
        }
    }
}

impl Config {
    /// The factor that `temperature_scaling` puts on loss and gradient.
    pub fn temperature_factor(&self) -> f64 {
        match self.temperature_scaling {
            TemperatureScaling::None => 1.0,
            TemperatureScaling::Squared => {
                f64::from(self.student_temperature) * f64::from(self.teacher_temperature)
            }
        }
    }

    /// The factor of `p - y` in the gradient before reduction: `temperature_factor * grad_loss / student_temperature`.
    pub fn gradient_factor(&self) -> f64 {
        let grad_loss = f64::from(self.grad_loss);
        match self.temperature_scaling {
            TemperatureScaling::None => grad_loss / f64::from(self.student_temperature),
            TemperatureScaling::Squared => grad_loss * f64::from(self.teacher_temperature),
        }
    }
}
