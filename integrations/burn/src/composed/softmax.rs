//! The softmax of a matrix of logits by Burn's operations, as its parts: the backends allocate a matrix for each operation.

use burn::tensor::{Bool, DType, Tensor};

use super::sums::over_classes;

/// The softmax of a matrix of logits, `e^z / sum e^z` with the distances `z` of the logits to the largest one, over the temperature.
///
/// A masked class has the distance `-inf`. A bad row has NaN in its sum, and numbers without meaning in its matrices.
#[derive(Clone)]
pub(super) struct Softmax {
    /// `z`, `[rows, classes]`; none if no one needs it, or once it is taken.
    distances: Option<Tensor<2>>,
    /// `e^z`, `[rows, classes]`, 0 at masked classes.
    pub powers: Tensor<2>,
    /// The sum of the powers, `[rows, 1]`.
    pub sum: Tensor<2>,
    /// Its logarithm, `[rows, 1]`.
    pub ln_sum: Tensor<2>,
    /// The largest logit, `[rows, 1]`.
    pub max: Tensor<2>,
    pub temperature: f32,
    /// Rows with NaN or `+inf`, or only `-inf`, `[rows, 1]`: their largest logit or their sum is not finite.
    pub bad: Tensor<2, Bool>,
}

impl Softmax {
    pub fn of(logits: Tensor<2>, temperature: f32, keep_distances: bool) -> Self {
        let max = logits.clone().max_dim(1);
        Self::below(logits, max, temperature, keep_distances)
    }

    /// The softmax of the same logits at another temperature, without distances.
    pub fn at(&self, logits: Tensor<2>, temperature: f32) -> Self {
        let powers = match self.temperature / temperature {
            // The square of an exponential costs less than another one.
            2.0 => Some(self.powers.clone() * self.powers.clone()),
            _ => None,
        };
        match powers {
            Some(powers) => Self::from_powers(None, powers, self.max.clone(), temperature),
            None => Self::below(logits, self.max.clone(), temperature, false),
        }
    }

    fn below(logits: Tensor<2>, max: Tensor<2>, temperature: f32, keep_distances: bool) -> Self {
        let distances = logits - max.clone();
        let distances = match temperature {
            1.0 => distances,
            _ => distances / temperature,
        };
        let kept = keep_distances.then(|| distances.clone());
        Self::from_powers(kept, distances.exp(), max, temperature)
    }

    fn from_powers(
        distances: Option<Tensor<2>>,
        powers: Tensor<2>,
        max: Tensor<2>,
        temperature: f32,
    ) -> Self {
        let sum = over_classes(powers.clone());
        let ln_sum = sum.clone().log();
        // Fusion has no such predicate, so that it makes one kernel of the operations before, and others of those after.
        let finite = sum.clone().is_finite();
        let finite = finite.bool_and(max.clone().is_finite());
        Self {
            distances,
            powers,
            ln_sum,
            sum,
            max,
            temperature,
            bad: finite.bool_not(),
        }
    }

    /// The log-sum-exp of the logits over the temperature, `[rows, 1]`.
    pub fn log_sum(&self) -> Tensor<2> {
        self.max.clone() / self.temperature + self.ln_sum.clone()
    }

    /// The distances, which are gone afterwards: operations on them need no further matrix.
    pub fn take_distances(&mut self) -> Tensor<2> {
        let distances = self.distances.take();
        distances.expect("kept for the choices that need them, and taken once")
    }

    /// The distances, `[rows, classes]`.
    pub fn distances(&self) -> Tensor<2> {
        let distances = self.distances.clone();
        distances.expect("kept for the choices that need them")
    }

    /// `[rows, classes]`, 0 at masked classes.
    pub fn probabilities(&self) -> Tensor<2> {
        self.powers.clone() / self.sum.clone()
    }

    /// The logarithm of the probabilities, `[rows, classes]`, `-inf` at masked classes.
    pub fn log(&self) -> Tensor<2> {
        self.distances() - self.ln_sum.clone()
    }

    /// The distance of one logit of each row, `[rows, 1]`.
    pub fn distance_of(&self, logit: Tensor<2>) -> Tensor<2> {
        (logit - self.max.clone()) / self.temperature
    }
}

/// The first `classes` columns of the teacher. Columns that it lacks are masked.
pub(super) fn common_prefix(teacher: Tensor<2>, classes: usize) -> Tensor<2> {
    let [rows, teacher_classes] = teacher.dims();
    if teacher_classes == classes {
        return teacher;
    }
    if teacher_classes > classes {
        return teacher.slice([0..rows, 0..classes]);
    }
    let device = teacher.device();
    let masked = Tensor::full(
        [rows, classes - teacher_classes],
        f32::NEG_INFINITY,
        (&device, DType::F32),
    );
    Tensor::cat(vec![teacher, masked], 1)
}

/// Both matrices; a class that either masks is masked in both. NaN and `+inf` stay.
pub(super) fn joined(student: Tensor<2>, teacher: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let masked = |x: &Tensor<2>| x.clone().equal_scalar(f32::NEG_INFINITY);
    let either = masked(&student).bool_or(masked(&teacher));
    let fill = |x: Tensor<2>| {
        let dropped = either.clone().bool_and(x.clone().is_finite());
        x.mask_fill(dropped, f32::NEG_INFINITY)
    };
    (fill(student), fill(teacher))
}

/// `x y`; 0 where `x` is 0, even if `y` is infinite.
pub(super) fn product(x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
    let none = x.clone().equal_scalar(0.0);
    (x * y).mask_fill(none, 0.0)
}

/// `m = share a + (1 - share) b`, above 0 so that quotients and logarithms are finite.
pub(super) fn mixture(share: f32, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    (a * share + b * (1.0 - share)).clamp_min(f32::MIN_POSITIVE)
}
