//! The configuration and the types of its fields.

pub(crate) mod choice;
mod divergence;
mod range;
mod rows;
mod selection;
mod similarity;
mod text;

pub use divergence::Divergence;
pub(crate) use divergence::divergences;
pub(crate) use range::{require, temperature};
pub use rows::{ClassWeighting, NonFinite};
pub use selection::Selection;
pub use similarity::Similarity;

/// The KDR that selects a row's TSSR.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Scope {
    /// Each row's own KDR.
    #[default]
    Row,
    /// The mean KDR of the batch's valid and finite rows, for all rows. The rows are read twice. Nothing is read back.
    /// A micro-batch has its own mean; see [`Reduction::SumOver`] for the mean of the whole batch, and [`KdrSum`](crate::KdrSum) for a batch
    /// on several devices.
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
    /// Factor `student_temperature * teacher_temperature`, the T^2 of Hinton et al. 2015; with standardised logits too.
    Squared,
}

/// The temperature of the hard part, the cross-entropy with the label.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum HardTemperature {
    /// The student's temperature, as the method has it: one target for one softmax. `temperature_scaling` multiplies both parts.
    #[default]
    Student,
    /// A temperature of its own, between 1e-30 and 1e30: usually 1, as in Hinton et al. 2015. `temperature_scaling` multiplies the soft
    /// part only.
    Own(f32),
}

/// The logits that temperatures divide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Standardization {
    /// The logits as they are.
    #[default]
    None,
    /// Each row's z-scores `(x - mean x) / (std x + 1e-7)`, in student and teacher, as in Sun et al. 2024 (arXiv:2403.01427). `std` is the
    /// square root of the unbiased variance. Masked classes take no part in it. The gradient passes through mean and `std`.
    ///
    /// The soft part and KDR see the z-scores, and so does a hard part with the student's temperature. A hard part with a temperature of its
    /// own sees the logits. For the divergences `SoftCrossEntropy` and `ForwardKl`, a detached TSSR, temperatures between 1e-3 and 1e3, and
    /// a z-loss only beside [`HardTemperature::Own`]. Costs one more sweep over the logits.
    ZScore,
}

impl Standardization {
    /// Added to a row's standard deviation.
    pub(crate) const FLOOR: f64 = 1e-7;

    /// The factor of a row's temperature, given the standard deviation of its logits.
    pub(crate) fn scale(self, deviation: f32) -> f64 {
        match self {
            Self::None => 1.0,
            Self::ZScore => f64::from(deviation) + Self::FLOOR,
        }
    }
}

/// The gradient of TSSR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum TssrGradient {
    /// TSSR is a constant for the gradient, as the method has it.
    #[default]
    Detached,
    /// The gradient also passes through KDR. A row may then lower its loss by moving away from the teacher. For the similarities
    /// `Cosine`, `Bhattacharyya` and `ExpNegKl`, and the scope `Row`.
    Attached,
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

/// The teacher's probability off the list of [`Batch::teacher_ids`](crate::Batch::teacher_ids).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum TeacherTail {
    /// One more class, opposite the student's probability off the list. The teacher's temperature must be 1.
    #[default]
    Ghost,
    /// None: the listed probabilities are divided by their sum, at the teacher's temperature. The student's probability off the list
    /// counts as misplaced.
    Renormalized,
}

/// The classes that share the smoothed part of the label's distribution EK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum SmoothedClasses {
    /// Every class of the student. A row in which the student masks a class has an infinite hard part.
    #[default]
    All,
    /// The classes that the student does not mask in the row, those that the teacher masks or lacks included.
    Unmasked,
}

/// The masked classes of a row: those whose logit is `-inf`, and those that the teacher lacks ([`TeacherClasses::CommonPrefix`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum MaskedClasses {
    /// Each row masks its own classes. A divergence is infinite where one side has mass and the other has none: most of them where the
    /// student alone masks a class, reverse KL where the teacher alone does.
    #[default]
    Each,
    /// A class that is masked in either row is masked in both, and the others are renormalised. Its gradient is 0. A row without a class
    /// that both have has no finite result.
    ///
    /// For vocabularies that are padded to different sizes, beside `CommonPrefix`: with `Each`, reverse KL is infinite in every row. The
    /// hard part is infinite if the label is masked, and with `label_smoothing` unless `smoothed_classes` is `Unmasked`. Labels that the
    /// teacher lacks need a call of their own, with the label alone (docs/LOSSES.md, section 12).
    Both,
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
    ///
    /// Calls that add to one gradient are also the way to several teachers, and to rows without a label or without a teacher
    /// (docs/LOSSES.md, section 12). Here an index per row chooses the teacher: a call ignores the rows of the others, and reads nothing of
    /// them.
    ///
    /// ```
    /// use wgpu_distill::{Batch, Config, Engine, GradWrite, GradientMut, OutputsMut, Progress, Reduction, Selection};
    ///
    /// # fn main() -> wgpu_distill::Result<()> {
    /// let student = [0.2f32, 0.1, -0.4, 1.5, -0.3, 0.0];
    /// let teachers = [[2.0f32, -1.0, 0.1, f32::NAN, f32::NAN, f32::NAN], [f32::NAN, f32::NAN, f32::NAN, 3.0, -2.0, 0.5]];
    /// let (labels, teacher_of_row) = ([0, 2], [0, 1]);
    /// let config = Config {
    ///     selection: Selection::Fixed(0.25),
    ///     reduction: Reduction::SumOver(labels.len() as f32),
    ///     grad_write: GradWrite::Accumulate,
    ///     ..Config::default()
    /// };
    /// let (mut loss, mut gradient) = (0.0, [0.0f32; 6]);
    /// for (k, teacher) in teachers.iter().enumerate() {
    ///     let own = |row: usize| if teacher_of_row[row] == k { labels[row] } else { config.ignore_index };
    ///     let labels = [own(0), own(1)];
    ///     let batch = Batch::new(&student, teacher, &labels, 3);
    ///     let outputs = OutputsMut::from(GradientMut::new(&mut gradient, 3));
    ///     loss += Engine::cpu().run_into(&config, Progress::NONE, &batch, outputs)?.loss;
    /// }
    /// assert!(loss.is_finite() && gradient.iter().all(|g| g.is_finite() && *g != 0.0));
    /// # Ok(())
    /// # }
    /// ```
    Accumulate,
}

/// The configuration of the distillation loss. The default is the method as published, at temperature 1.
///
/// Later versions may add fields: write `Config { .., ..Config::default() }`.
///
/// The kernels multiply the loss by [`temperature_factor`](Self::temperature_factor) and the gradient by
/// [`gradient_factor`](Self::gradient_factor), each times the weight of the part; those of a hard part with a temperature of its own and
/// of the z-loss are 1 and `grad_loss` over that part's temperature. Each of these numbers, with and without the weight, and its quotient
/// by the denominator of the reduction (for a mean the number of rows), must be 0 or have a magnitude between 1e-30 and 1e30. Other
/// values are refused with the name of the product.
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
    /// Divides the teacher's logits. Between 1e-30 and 1e30; 1 for sampled tokens. Default 1.
    pub teacher_temperature: f32,
    /// Default: `None`.
    pub temperature_scaling: TemperatureScaling,
    /// The logits that the temperatures divide. Default: `None`, the logits as they are.
    pub standardization: Standardization,
    /// The soft part of the loss. Default: `SoftCrossEntropy`.
    pub divergence: Divergence,
    /// Multiplies the soft part, besides its share `1 - TSSR`. 0, or between 1e-6 and 1e6. Default 1.
    pub soft_weight: f32,
    /// Multiplies the hard part, besides its share TSSR. 0, or between 1e-6 and 1e6. Default 1.
    pub hard_weight: f32,
    /// The temperature of the hard part. Default: the student's.
    pub hard_temperature: HardTemperature,
    /// The weight of the z-loss `lse^2`, with `lse` the log-sum-exp of the student's logits at the temperature of the hard part (PaLM,
    /// Chowdhery et al. 2022). 0, or between 1e-9 and 1e3. `temperature_scaling` does not multiply it. Default 0.
    pub z_loss: f32,
    /// Default: `Detached`.
    pub tssr_gradient: TssrGradient,
    /// The measure of KDR. Default: `Cosine`. Sampled tokens have no KDR.
    pub similarity: Similarity,
    /// The rule that selects TSSR from TSTR and KDR. Default: `Min`.
    pub selection: Selection,
    /// The KDR that selects a row's TSSR. Default: `Row`.
    pub scope: Scope,
    /// Default: `Mean`.
    pub reduction: Reduction,
    /// The true label's distribution EK is `(1 - e) onehot + e / classes`; `e` in `[0, 1)`. Default 0.
    pub label_smoothing: f32,
    /// The classes over which `label_smoothing` spreads `e`. Default: `All`.
    pub smoothed_classes: SmoothedClasses,
    /// The least and the greatest loss of a row, before its weight, both finite and the first below the second. A row whose loss lies
    /// outside has the bound for its loss, the gradient 0 and the flag [`flags::CLAMPED`](crate::flags::CLAMPED). The loss includes weights
    /// of the parts, temperature scaling and z-loss. An infinite loss counts as above. Default: no bounds.
    pub loss_clamp: Option<[f32; 2]>,
    /// Rows with this label have loss 0 and gradient 0 and are not counted. Their logits are never read. Default -100.
    pub ignore_index: i32,
    /// The upstream gradient (for a mean or a sum), including the loss scale of mixed-precision training. It multiplies the gradient,
    /// not the loss. 0, or a magnitude that keeps the factors in range. Default 1.
    // Burn's configurations saved it by the alias before they embedded this struct.
    #[cfg_attr(feature = "serde", serde(alias = "grad_scale"))]
    pub grad_loss: f32,
    /// Default: a teacher with another number of classes is refused. That of sampled tokens has one class.
    pub teacher_classes: TeacherClasses,
    /// Default: `Each`, the masks of each row are its own.
    pub masked_classes: MaskedClasses,
    /// The teacher's probability off the list of [`Batch::teacher_ids`](crate::Batch::teacher_ids). Without a list it has no effect.
    /// Default: `Ghost`.
    pub teacher_tail: TeacherTail,
    /// Default: the gradient overwrites.
    pub grad_write: GradWrite,
    /// The treatment of rows without a finite result. Default: `Propagate`.
    pub non_finite: NonFinite,
    /// The parts of the loss that [`Batch::class_weights`](crate::Batch::class_weights) multiply. Without weights it has no effect.
    /// Default: `Hard`.
    pub class_weighting: ClassWeighting,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            student_temperature: 1.0,
            teacher_temperature: 1.0,
            temperature_scaling: TemperatureScaling::None,
            standardization: Standardization::None,
            divergence: Divergence::SoftCrossEntropy,
            soft_weight: 1.0,
            hard_weight: 1.0,
            hard_temperature: HardTemperature::Student,
            z_loss: 0.0,
            tssr_gradient: TssrGradient::Detached,
            similarity: Similarity::Cosine,
            selection: Selection::Min,
            scope: Scope::Row,
            reduction: Reduction::Mean,
            label_smoothing: 0.0,
            smoothed_classes: SmoothedClasses::All,
            loss_clamp: None,
            ignore_index: -100,
            grad_loss: 1.0,
            teacher_classes: TeacherClasses::SameAsStudent,
            masked_classes: MaskedClasses::Each,
            teacher_tail: TeacherTail::Ghost,
            grad_write: GradWrite::Overwrite,
            non_finite: NonFinite::Propagate,
            class_weighting: ClassWeighting::Hard,
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

    /// The temperature of the hard part.
    pub fn label_temperature(&self) -> f64 {
        match self.hard_temperature {
            HardTemperature::Student => f64::from(self.student_temperature),
            HardTemperature::Own(temperature) => f64::from(temperature),
        }
    }

    /// Returns true if the hard part has a temperature of its own.
    pub(crate) fn has_own_hard_temperature(&self) -> bool {
        self.hard_temperature != HardTemperature::Student
    }

    /// Returns true if a class that either row masks is masked in both. Sampled tokens have no row of the teacher.
    pub(crate) fn joins_masks(&self) -> bool {
        self.masked_classes == MaskedClasses::Both && !self.divergence.is_sampled()
    }

    /// Returns true if the label is smoothed over the classes that the student does not mask.
    pub(crate) fn smooths_unmasked(&self) -> bool {
        self.label_smoothing > 0.0 && self.smoothed_classes == SmoothedClasses::Unmasked
    }

    /// The factors of the hard part in loss and gradient before reduction, without its share TSSR.
    pub(crate) fn hard_factors(&self) -> (f64, f64) {
        let weight = f64::from(self.hard_weight);
        match self.hard_temperature {
            HardTemperature::Student => (
                weight * self.temperature_factor(),
                weight * self.gradient_factor(),
            ),
            HardTemperature::Own(temperature) => {
                let grad_loss = f64::from(self.grad_loss);
                (weight, weight * grad_loss / f64::from(temperature))
            }
        }
    }

    /// The factor of `lse h` in the gradient before reduction.
    pub(crate) fn z_gradient_factor(&self) -> f64 {
        2.0 * f64::from(self.z_loss) * f64::from(self.grad_loss) / self.label_temperature()
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
