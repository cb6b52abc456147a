//! The configuration and the types of its fields.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// The measure of similarity of teacher and student (KDR): per row, in `[0, 1]`, 1 for equal distributions.
///
/// `q` are the teacher's probabilities (STK), `p` the student's. Formulas and sources: docs/METHOD.md, section 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
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

    /// Returns true if KDR needs a second sweep over the row, because its sum needs the normalisers of both distributions first.
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
        let found = Self::ALL.into_iter().find(|s| s.name() == text);
        found.ok_or_else(|| Error::InvalidConfig {
            field: "similarity",
            value: text.to_owned(),
            expected: "cosine, bhattacharyya, exp-neg-kl, jensen-shannon or overlap",
        })
    }
}

/// The rule that selects the share of the true label in the target (TSSR) from the elapsed share of training time (TSTR) and the
/// similarity (KDR).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
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
    /// Every selection. `Fixed` has the value 0.5.
    pub const ALL: [Self; 7] = [
        Self::Max,
        Self::Min,
        Self::Mean,
        Self::Product,
        Self::Tstr,
        Self::Kdr,
        Self::Fixed(0.5),
    ];

    /// The name on command lines and in reports, for example `max`; `fixed` without its number.
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
            Self::Mean => "mean",
            Self::Product => "product",
            Self::Tstr => "tstr",
            Self::Kdr => "kdr",
            Self::Fixed(_) => "fixed",
        }
    }

    /// Returns true if TSSR depends on training time (TSTR). Otherwise [`Progress::NONE`](crate::Progress::NONE) is accepted.
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
            Self::Fixed(w) => write!(f, "{}:{w}", self.name()),
            _ => f.write_str(self.name()),
        }
    }
}

impl FromStr for Selection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let selection = match text.split_once(':') {
            Some(("fixed", w)) => w
                .parse()
                .ok()
                .filter(|w| (0.0..=1.0).contains(w))
                .map(Self::Fixed),
            Some(_) => None,
            None => {
                let named = |s: &Self| s.name() == text && !matches!(s, Self::Fixed(_));
                Self::ALL.into_iter().find(named)
            }
        };
        selection.ok_or_else(|| Error::InvalidConfig {
            field: "selection",
            value: text.to_owned(),
            expected: "max, min, mean, product, tstr, kdr or fixed:W with W in [0, 1]",
        })
    }
}

/// The KDR that selects a row's TSSR.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Scope {
    /// Each row's own KDR.
    #[default]
    Row,
    /// The mean KDR of the batch's valid and finite rows, for all rows. The rows are read twice. Nothing is read back.
    /// A micro-batch has its own mean; see [`Reduction::SumOver`] for the mean of the whole batch.
    Batch,
    /// A given KDR for all rows, in `[0, 1]`: for example the last step's, a moving average, or a mean over several machines.
    Given(f32),
}

/// The reduction of the rows' losses to one number. Its denominator also divides the gradient.
///
/// A row is *valid* if its label lies in `[0, classes)` and is not `ignore_index`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Reduction {
    /// No reduction: each row's gradient is the gradient of its own loss. The summary's loss is the sum.
    None,
    /// The sum over the valid rows.
    Sum,
    /// The mean over the valid rows; 0 if no row is valid.
    #[default]
    Mean,
    /// The sum divided by this number: 0, or between 1.2e-38 and 8.5e37 with quotients in range (see [`Config`]).
    ///
    /// Use it for gradient accumulation, with the number of labels in the whole batch. 0 states that no row has a label: loss and
    /// gradient are then 0. If a row has a label nevertheless, a call on slices returns an error. On buffers such a row gets NaN in
    /// loss and gradient and counts in [`Summary::invalid_labels`](crate::Summary::invalid_labels).
    ///
    /// With [`Scope::Batch`] each micro-batch would use its own mean KDR. To get loss and gradient of the whole batch, take the KDR
    /// of all micro-batches first, then pass it with [`Scope::Given`]:
    ///
    /// ```
    /// use wgpu_distill::{
    ///     Batch, Config, Engine, GradientMut, Outputs, Progress, Reduction, Scope,
    /// };
    ///
    /// # fn main() -> wgpu_distill::Result<()> {
    /// # let engine = Engine::cpu();
    /// let classes = 3;
    /// let student = [2.0, 0.5, -1.0, 0.1, 0.2, 0.3, 1.0, 1.5, -0.5, 0.0, 0.0, 4.0];
    /// let teacher = [1.0, 1.5, -2.0, 0.3, 0.9, 0.1, 0.5, 2.5, -0.5, 3.0, 0.0, 1.0];
    /// let labels = [0, -100, 1, 2];
    /// let progress = Progress::new(9, 10);
    ///
    /// // Two rows each.
    /// let micro_batches = || {
    ///     let logits = student.chunks(2 * classes).zip(teacher.chunks(2 * classes));
    ///     let labels = labels.chunks(2);
    ///     logits.zip(labels).map(|((s, t), l)| Batch::new(s, t, l, classes))
    /// };
    ///
    /// // First KDR: the mean over the valid and finite rows of all micro-batches.
    /// let (mut kdr, mut averaged, mut valid) = (0.0, 0, 0);
    /// for batch in micro_batches() {
    ///     let summary = engine.run(&Config::default(), progress, &batch, Outputs::SUMMARY)?.summary;
    ///     let rows = summary.valid_rows - summary.non_finite_rows;
    ///     kdr += summary.kdr * rows as f32;
    ///     averaged += rows;
    ///     valid += summary.valid_rows;
    /// }
    /// let kdr = (kdr / averaged.max(1) as f32).clamp(0.0, 1.0);
    ///
    /// // Then loss and gradient.
    /// let config = Config {
    ///     scope: Scope::Given(kdr),
    ///     reduction: Reduction::SumOver(valid as f32),
    ///     ..Config::default()
    /// };
    /// let mut gradient = vec![0.0f32; student.len()];
    /// let mut loss = 0.0;
    /// for (batch, gradient) in micro_batches().zip(gradient.chunks_mut(2 * classes)) {
    ///     let outputs = GradientMut::new(gradient, classes).into();
    ///     loss += engine.run_into(&config, progress, &batch, outputs)?.loss;
    /// }
    ///
    /// # let whole = Config { scope: Scope::Batch, ..Config::default() };
    /// let batch = Batch::new(&student, &teacher, &labels, classes);
    /// let whole = engine.run(&whole, progress, &batch, Outputs::GRADIENT)?;
    /// assert!((loss - whole.summary.loss).abs() < 1e-6);
    /// # for (g, w) in gradient.iter().zip(whole.into_grad_student_logits()) {
    /// #     assert!((g - w).abs() < 1e-6);
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    SumOver(f32),
}

impl Reduction {
    /// The divisor of losses and gradients for a batch with this number of valid rows.
    pub fn denominator(self, valid_rows: u32) -> f64 {
        match self {
            Self::None | Self::Sum => 1.0,
            Self::Mean => f64::from(valid_rows.max(1)),
            // Loss and gradient are 0.
            Self::SumOver(0.0) => 1.0,
            Self::SumOver(d) => f64::from(d),
        }
    }
}

/// The factor of loss and gradient that compensates for the temperatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum TemperatureScaling {
    /// Factor 1.
    #[default]
    None,
    /// Factor `student_temperature * teacher_temperature`, the T^2 of Hinton et al. 2015.
    Squared,
}

/// The treatment of a teacher whose number of classes differs from the student's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum TeacherClasses {
    /// An error that names both numbers.
    #[default]
    SameAsStudent,
    /// The common prefix is used. Teacher classes beyond the student's are left out. Classes that the teacher lacks have
    /// probability 0 in its distribution, as if their logits were `-inf`.
    CommonPrefix,
}

/// The effect on the memory that receives the gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum GradWrite {
    /// The gradient replaces the memory's contents.
    #[default]
    Overwrite,
    /// The gradient is added to the memory's contents in f32, and the sum is rounded once to the storage type. The contents must be
    /// initialised. A call that returns a new gradient refuses this choice.
    Accumulate,
}

/// The configuration of the distillation loss. The default is the method as published, at temperature 1.
///
/// Later versions may add fields: write `Config { .., ..Config::default() }`.
///
/// The kernels multiply the loss by [`temperature_factor`](Self::temperature_factor) and the gradient by
/// [`gradient_factor`](Self::gradient_factor). Each, and its quotient by the denominator of the reduction (for a mean the number of
/// rows), must be 0 or have a magnitude between 1e-30 and 1e30. Other values are refused with the name of the product.
///
/// With the feature `serde` a configuration is saved and loaded. A field that a file lacks gets its default. A field that this version
/// does not know is an error, since a loss without it would be another loss.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Config {
    /// Divides the student's logits. Between 1e-30 and 1e30. Default 1.
    pub student_temperature: f32,
    /// Divides the teacher's logits. Between 1e-30 and 1e30. Default 1.
    pub teacher_temperature: f32,
    /// Default: `None`.
    pub temperature_scaling: TemperatureScaling,
    /// The measure of KDR. Default: `Cosine`.
    pub similarity: Similarity,
    /// The rule that selects TSSR from TSTR and KDR. Default: `Min`.
    pub selection: Selection,
    /// The KDR that selects a row's TSSR. Default: `Row`.
    pub scope: Scope,
    /// Default: `Mean`.
    pub reduction: Reduction,
    /// The true label's distribution EK is `(1 - e) onehot + e / classes`; `e` in `[0, 1)`. Default 0.
    pub label_smoothing: f32,
    /// Rows with this label have loss 0 and gradient 0 and are not counted. Their logits are never read. Default -100.
    pub ignore_index: i32,
    /// The upstream gradient (for a mean or a sum), including the loss scale of mixed-precision training. It multiplies the gradient,
    /// not the loss. 0, or a magnitude that keeps the factors in range. Default 1.
    // Burn's configurations saved it by the alias before they embedded this struct.
    #[cfg_attr(feature = "serde", serde(alias = "grad_scale"))]
    pub grad_loss: f32,
    /// Default: a teacher with another number of classes is refused.
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
    /// The factor of loss and gradient that `temperature_scaling` selects.
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
