//! Inputs of a call on slices: logits in one of three storage types, and labels.

use half::{bf16, f16};

use crate::{Error, Result};

/// The storage type of numbers. Arithmetic is always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Storage {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16, the upper half of a binary32.
    Bf16,
}

impl Storage {
    /// Every storage type.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// `f32`, `f16` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// Numbers in one of the storage types.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// 16-bit IEEE floats.
    F16(&'a [f16]),
    /// 16-bit brain floats.
    Bf16(&'a [bf16]),
}

impl<'a> Values<'a> {
    /// The storage type.
    pub fn storage(self) -> Storage {
        match self {
            Self::F32(_) => Storage::F32,
            Self::F16(_) => Storage::F16,
            Self::Bf16(_) => Storage::Bf16,
        }
    }

    /// The number of elements.
    pub fn len(self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::Bf16(v) => v.len(),
        }
    }

    /// Returns true if there are no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The number at `index`, widened to f32 (exact).
    ///
    /// # Panics
    /// If `index` is out of bounds, as a slice does.
    #[inline]
    pub fn get(self, index: usize) -> f32 {
        match self {
            Self::F32(v) => v[index],
            Self::F16(v) => v[index].to_f32(),
            Self::Bf16(v) => v[index].to_f32(),
        }
    }

    /// Elements `range`.
    pub(crate) fn part(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::F32(v) => Self::F32(&v[range]),
            Self::F16(v) => Self::F16(&v[range]),
            Self::Bf16(v) => Self::Bf16(&v[range]),
        }
    }

    /// The bytes in memory.
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::F32(v) => bytemuck::cast_slice(v),
            Self::F16(v) => bytemuck::cast_slice(v),
            Self::Bf16(v) => bytemuck::cast_slice(v),
        }
    }
}

impl<'a> From<&'a [f32]> for Values<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a [f16]> for Values<'a> {
    fn from(values: &'a [f16]) -> Self {
        Self::F16(values)
    }
}

impl<'a> From<&'a [bf16]> for Values<'a> {
    fn from(values: &'a [bf16]) -> Self {
        Self::Bf16(values)
    }
}

impl<'a, T> From<&'a Vec<T>> for Values<'a>
where
    &'a [T]: Into<Values<'a>>,
{
    fn from(values: &'a Vec<T>) -> Self {
        values.as_slice().into()
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for Values<'a>
where
    &'a [T]: Into<Values<'a>>,
{
    fn from(values: &'a [T; N]) -> Self {
        values.as_slice().into()
    }
}

/// A matrix `[rows, classes]` of logits in host memory. Row `r` starts at element `r * row_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    /// The logits. The length must be between `(rows - 1) * row_stride + classes` and `rows * row_stride`.
    /// To use a part of a longer slice, pass that part.
    pub values: Values<'a>,
    /// Logits per row.
    pub classes: usize,
    /// Elements from the start of one row to the start of the next, at least `classes`.
    pub row_stride: usize,
}

impl<'a> Logits<'a> {
    /// Rows of `classes` logits without gaps.
    pub fn new(values: impl Into<Values<'a>>, classes: usize) -> Self {
        Self {
            values: values.into(),
            classes,
            row_stride: classes,
        }
    }

    /// Sets [`row_stride`](Self::row_stride), in elements.
    pub fn with_row_stride(self, row_stride: usize) -> Self {
        Self { row_stride, ..self }
    }
}

/// A batch on slices: logits of student and teacher, and one label for each row. The number of labels is the number of rows.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// `[rows, classes]`
    pub student_logits: Logits<'a>,
    /// `[rows, classes]`. For [`Divergence::K1`](crate::Divergence::K1), `K2` and `K3` `[rows, 1]`: the teacher's log-probability of the label.
    ///
    /// With [`teacher_ids`](Self::teacher_ids) `[rows, k]`: the log-probabilities of the listed classes.
    pub teacher_logits: Logits<'a>,
    /// `[rows, k]` without gaps: the teacher is a list of its `k` likeliest classes, as inference servers and logit caches give them.
    /// `teacher_logits` has the natural logarithms of their probabilities. [`Config::teacher_tail`](crate::Config::teacher_tail) says
    /// where the rest of the teacher's probability belongs.
    ///
    /// Each entry is a class of the student, in any order and at most once in a row, or -1 for an empty place. A log-probability of `-inf`
    /// also is an empty place. `k` is at most 1,024 and at most `classes`. Of the teacher, 4 bytes and the log-probability are read per entry,
    /// instead of a row of logits. docs/LOSSES.md, section 11, defines the loss and lists what is refused beside a list.
    ///
    /// ```
    /// use wgpu_distill::{Batch, Config, Engine, Outputs, Progress, Selection};
    ///
    /// # fn main() -> wgpu_distill::Result<()> {
    /// // One row of 5 classes. The teacher gives class 3 the probability 0.7 and class 0 the probability 0.2; 0.1 is off the list.
    /// let log_probabilities = [0.7f32.ln(), 0.2f32.ln()];
    /// let batch = Batch::top_k(&[2.0f32, 0.5, 1.0, 3.0, 0.0], &log_probabilities, &[3, 0], &[3], 5);
    /// let config = Config { selection: Selection::Fixed(0.4), ..Config::default() };
    /// let done = Engine::cpu().run(&config, Progress::NONE, &batch, Outputs::GRADIENT)?;
    /// # assert!(done.summary.loss.is_finite());
    /// # Ok(())
    /// # }
    /// ```
    pub teacher_ids: Option<&'a [i32]>,
    /// `[rows]`, each a class or `ignore_index`.
    pub labels: &'a [i32],
    /// `[rows, classes]`, numbers from 0 to 1e6: a row of probabilities in place of the label, as mixup, CutMix and annotators give them.
    /// The hard part of a row is then `- sum y_i ln h_i` with the row's `y`. A row need not sum to 1, and nothing normalises it, as in
    /// PyTorch's `cross_entropy` with probabilities. Label smoothing makes it `(1 - e) y_i + e / classes`.
    ///
    /// `labels` still says which rows count: `ignore_index` leaves a row out, with its soft label. Any class lets it count, 0 if the
    /// row has no class of its own; only the accuracies of the metrics use that class. Divergences that leave the label out of their
    /// sums ([`Dkd`](crate::Divergence::Dkd), [`Nkd`](crate::Divergence::Nkd)) are refused. Each entry is read as often as a logit of the
    /// teacher.
    ///
    /// ```
    /// use wgpu_distill::{Batch, Config, Engine, Outputs, Progress, Selection};
    ///
    /// # fn main() -> wgpu_distill::Result<()> {
    /// // Mixup: 70 % of an image of class 0, 30 % of one of class 2.
    /// let soft_labels = [0.7, 0.0, 0.3];
    /// let batch = Batch::new(&[2.0f32, 0.5, 1.0], &[1.0f32, 0.5, 2.0], &[0], 3)
    ///     .with_soft_labels(&soft_labels);
    /// let config = Config { selection: Selection::Fixed(0.4), ..Config::default() };
    /// let done = Engine::cpu().run(&config, Progress::NONE, &batch, Outputs::GRADIENT)?;
    /// # assert!(done.summary.loss.is_finite());
    /// # Ok(())
    /// # }
    /// ```
    pub soft_labels: Option<Logits<'a>>,
    /// `[rows]`, finite numbers of any sign: importance weights, advantages. Each multiplies loss and gradient of its row, but neither KDR
    /// nor TSSR. The denominator of a reduction does not depend on them: [`Reduction::Mean`](crate::Reduction::Mean) divides by the number
    /// of valid rows, and [`Reduction::SumOver`](crate::Reduction::SumOver) with the sum of the weights gives the weighted mean. A row of
    /// weight 0 has loss 0 and gradient 0, even where its loss is infinite. Products with the factors of loss and gradient beyond f32 are
    /// infinite. Without weights each row counts as it is.
    pub row_weights: Option<&'a [f32]>,
    /// `[classes]` of the student, each from 0 to 1e6: the weights of the classes in the parts of the loss that
    /// [`Config::class_weighting`](crate::Config::class_weighting) selects, against an imbalance of classes. They change neither KDR nor
    /// TSSR. The denominator of a reduction does not depend on them: PyTorch's weighted mean is
    /// [`Reduction::SumOver`](crate::Reduction::SumOver) with the sum of the weights of the labels. A class of weight 0 contributes 0,
    /// even where its term is infinite. Without weights each class counts as it is.
    pub class_weights: Option<&'a [f32]>,
}

impl<'a> Batch<'a> {
    /// A batch whose student and teacher have the same number of classes and no gaps between rows.
    /// Each must have exactly `labels.len() * classes` logits.
    pub fn new(
        student_logits: impl Into<Values<'a>>,
        teacher_logits: impl Into<Values<'a>>,
        labels: &'a [i32],
        classes: usize,
    ) -> Self {
        Self {
            student_logits: Logits::new(student_logits, classes),
            teacher_logits: Logits::new(teacher_logits, classes),
            teacher_ids: None,
            labels,
            soft_labels: None,
            row_weights: None,
            class_weights: None,
        }
    }

    /// A batch whose teacher is a list of classes with their log-probabilities, both `[rows, k]` without gaps:
    /// [`teacher_ids`](Self::teacher_ids). `k` is the number of entries for each label.
    pub fn top_k(
        student_logits: impl Into<Values<'a>>,
        teacher_log_probabilities: impl Into<Values<'a>>,
        teacher_ids: &'a [i32],
        labels: &'a [i32],
        classes: usize,
    ) -> Self {
        let k = teacher_ids.len().checked_div(labels.len()).unwrap_or(1);
        Self {
            teacher_logits: Logits::new(teacher_log_probabilities, k),
            teacher_ids: Some(teacher_ids),
            ..Self::new(student_logits, &[] as &[f32], labels, classes)
        }
    }

    /// Sets [`soft_labels`](Self::soft_labels), `[rows, classes]` without gaps between rows.
    pub fn with_soft_labels(self, soft_labels: impl Into<Values<'a>>) -> Self {
        Self {
            soft_labels: Some(Logits::new(soft_labels, self.classes())),
            ..self
        }
    }

    /// Sets [`row_weights`](Self::row_weights), one for each row.
    pub fn with_row_weights(self, row_weights: &'a [f32]) -> Self {
        Self {
            row_weights: Some(row_weights),
            ..self
        }
    }

    /// Sets [`class_weights`](Self::class_weights), one for each class.
    pub fn with_class_weights(self, class_weights: &'a [f32]) -> Self {
        Self {
            class_weights: Some(class_weights),
            ..self
        }
    }

    /// The weight of a row.
    pub(crate) fn row_weight(&self, row: usize) -> f32 {
        self.row_weights.map_or(1.0, |weights| weights[row])
    }

    /// The classes of the teacher's list of a row.
    pub(crate) fn ids(&self, row: usize) -> Option<&'a [i32]> {
        let k = self.teacher_logits.classes;
        self.teacher_ids.map(|ids| &ids[row * k..(row + 1) * k])
    }

    /// The soft label of a row.
    pub(crate) fn soft_label(&self, row: usize) -> Option<Values<'a>> {
        let all = self.soft_labels?;
        let start = row * all.row_stride;
        Some(all.values.part(start..start + all.classes))
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// Classes of the student and of the gradient.
    pub fn classes(&self) -> usize {
        self.student_logits.classes
    }
}

/// Labels of 64 bits, as PyTorch and NumPy have them, as a [`Batch`] takes them. The result has the same length.
///
/// ```
/// use wgpu_distill::{Batch, Error, labels_from_i64};
///
/// # fn main() -> wgpu_distill::Result<()> {
/// let labels = labels_from_i64(&[2, -100])?;
/// let batch = Batch::new(&[0.5f32; 6], &[0.25f32; 6], &labels, 3);
/// assert_eq!(batch.labels, [2, -100]);
/// let too_large = labels_from_i64(&[0, 1 << 40]);
/// assert_eq!(too_large, Err(Error::LabelTooLarge { row: 1, label: 1 << 40 }));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::LabelTooLarge`] for the first label that is no `i32`. Classes and `ignore_index` are. The call that gets the batch refuses other
/// labels out of range.
pub fn labels_from_i64(labels: &[i64]) -> Result<Vec<i32>> {
    let narrow = |(row, &label): (usize, &i64)| {
        i32::try_from(label).map_err(|_| Error::LabelTooLarge { row, label })
    };
    labels.iter().enumerate().map(narrow).collect()
}

/// The largest number in a row of soft labels. Sums over a row stay far below the largest f32.
pub(crate) const MOST_SOFT_LABEL: f32 = 1e6;

/// Checks that the numbers of a row's soft label are 0 to [`MOST_SOFT_LABEL`].
pub(crate) fn check_soft_label(row: usize, soft_label: Values<'_>) -> Result<()> {
    // As integers, the bits of negative numbers and NaN are above those of every accepted number. Compilers vectorise the maximum.
    let most = match soft_label {
        Values::F32(v) => v.iter().fold(0, |most, y| most.max(y.to_bits())),
        Values::F16(v) => {
            let most = v.iter().fold(0, |most, y| most.max(y.to_bits()));
            f16::from_bits(most).to_f32().to_bits()
        }
        Values::Bf16(v) => {
            let most = v.iter().fold(0, |most, y| most.max(y.to_bits()));
            u32::from(most) << 16
        }
    };
    if most <= MOST_SOFT_LABEL.to_bits() {
        return Ok(());
    }
    for class in 0..soft_label.len() {
        let value = soft_label.get(class);
        // -0 is 0.
        if !(0.0..=MOST_SOFT_LABEL).contains(&value) {
            return Err(Error::SoftLabel { row, class, value });
        }
    }
    Ok(())
}

/// Returns true if the label is a class.
pub(crate) fn is_class(label: i32, classes: usize) -> bool {
    usize::try_from(label).is_ok_and(|label| label < classes)
}

/// The number of rows whose label is a class and not `ignore_index`. A mean divides by it.
pub(crate) fn valid_rows(labels: &[i32], classes: usize, ignore_index: i32) -> u32 {
    let valid = |&&label: &&i32| label != ignore_index && is_class(label, classes);
    labels.iter().filter(valid).count() as u32
}
