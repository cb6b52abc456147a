//! Allowed differences from the f64 reference.

use wgpu_distill::{Config, Divergence, HardTemperature};

/// Allowed differences of f32 results. Every comparison uses these numbers and states its exceptions.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// For a loss, relative to it.
    pub loss_relative: f64,
    /// For a loss near 0, in units of the loss factor if that is above 1.
    pub loss_absolute: f64,
    /// For KDR and TSSR.
    pub unit: f64,
    /// For a gradient element, relative to the largest magnitude of its row.
    pub gradient_relative: f64,
    /// For a gradient element, relative to the factor of `p - y`. The rounding of `p` and `y` remains if they cancel.
    pub gradient_rounding: f64,
    /// For a log-sum-exp, a divergence or an entropy near 0, whose terms are as large as the range of the logits.
    pub statistic_absolute: f64,
}

impl Tolerance {
    pub const F32: Self = Self {
        loss_relative: 1e-5,
        loss_absolute: 1e-6,
        unit: 2e-6,
        gradient_relative: 1e-5,
        gradient_rounding: 3e-7,
        statistic_absolute: 4e-6,
    };

    /// For rows with high peaks. Their cosine near 0 or 1 comes from sums that differ by orders of magnitude.
    pub const PEAKED: Self = Self {
        unit: 1e-5,
        ..Self::F32
    };

    /// For the difference of two results that are each within a tolerance of the reference: twice the tolerance.
    pub const fn of_two(self) -> Self {
        Self {
            loss_relative: 2.0 * self.loss_relative,
            loss_absolute: 2.0 * self.loss_absolute,
            unit: 2.0 * self.unit,
            gradient_relative: 2.0 * self.gradient_relative,
            gradient_rounding: 2.0 * self.gradient_rounding,
            statistic_absolute: 2.0 * self.statistic_absolute,
        }
    }

    /// The tolerance of a row's loss. `factor` is the loss factor.
    pub fn loss(&self, want: f64, factor: f64) -> f64 {
        (self.loss_relative * want.abs()).max(self.loss_absolute * factor.max(1.0))
    }

    /// The tolerance of a sum over rows: the sum of the rows' tolerances. `magnitude` is the sum of the rows' magnitudes.
    pub fn loss_of_sum(&self, magnitude: f64, factor: f64, rows: f64) -> f64 {
        self.loss_relative * magnitude.abs() + self.loss_absolute * factor.max(1.0) * rows
    }

    /// The tolerance of a gradient element. `largest` is the largest magnitude of its row, `weight` the factor of `p - y`.
    pub fn gradient(&self, largest: f64, weight: f64) -> f64 {
        self.gradient_relative * largest + self.gradient_rounding * weight
    }

    /// The tolerance of a log-sum-exp, a divergence or an entropy.
    pub fn statistic(&self, want: f64) -> f64 {
        self.loss_relative * want.abs() + self.statistic_absolute
    }

    /// The tolerance of a probability. The distance of its logit from the maximum has a relative rounding error.
    pub fn probability(&self, want: f64) -> f64 {
        self.gradient_rounding * want.abs() * (10.0 + want.max(1e-300).ln().abs()) + 1e-37
    }
}

/// The larger of the factors of the two parts of the loss, without their shares and before reduction. The terms of a divergence whose
/// derivative has a factor of its own are that much larger than those of the method, and so is their rounding.
pub fn loss_factor(config: &Config) -> f64 {
    let factor = config.temperature_factor();
    let hard = match config.hard_temperature {
        HardTemperature::Student => factor,
        _ => 1.0,
    };
    let soft = f64::from(config.soft_weight) * factor * terms(config.divergence)[0];
    soft.max(f64::from(config.hard_weight) * hard)
}

/// Factors of the terms of a divergence in its value and in its gradient, if they are above 1.
fn terms(divergence: Divergence) -> [f64; 2] {
    let f = f64::from;
    let [value, gradient] = match divergence {
        Divergence::KlSum { forward, reverse } => [f(forward) + f(reverse); 2],
        // The powers of probabilities in the value sum to up to 1 each and cancel; their factor is 1 / (alpha beta).
        Divergence::AlphaBeta { alpha, beta } => [1.0 / (f(alpha) * f(beta)), 1.0 / f(alpha)],
        // A difference of log-sum-exps: `statistic_absolute` is four times `loss_absolute`.
        Divergence::Taid { .. } => [4.0, 1.0],
        // `p ln(p / m)` is up to `- ln alpha` times `p`, and cancels.
        Divergence::SkewReverseKl { alpha } => [1.0, 1.0 - f(alpha).ln()],
        Divergence::Dkd { alpha, beta } => [f(alpha) + f(beta); 2],
        Divergence::Nkd { gamma } => [f(gamma); 2],
        // A difference of logarithms, each as large as the range of the logits.
        Divergence::K1 { .. } | Divergence::K2 { .. } | Divergence::K3 { .. } => [8.0, 1.0],
        _ => [1.0; 2],
    };
    [value.max(1.0), gradient.max(1.0)]
}

/// The factor of the terms of the gradient of a batch: of `p - y` for the method.
pub fn gradient_weight(config: &Config, valid_rows: u32) -> f64 {
    let factor = config.gradient_factor().abs();
    let hard = match config.hard_temperature {
        HardTemperature::Own(temperature) => f64::from(config.grad_loss.abs() / temperature),
        _ => factor,
    };
    let soft = f64::from(config.soft_weight) * factor * terms(config.divergence)[1];
    soft.max(f64::from(config.hard_weight) * hard) / config.reduction.denominator(valid_rows)
}

/// Returns true if the values are equal, both NaN, or within the tolerance. An infinity equals only itself.
pub fn is_close(got: f64, want: f64, tolerance: f64) -> bool {
    if want.is_nan() || got.is_nan() {
        return want.is_nan() && got.is_nan();
    }
    let finite = got.is_finite() && want.is_finite();
    got == want || (finite && (got - want).abs() <= tolerance)
}

/// Returns an error that names the value unless it is within the tolerance.
pub fn close(about: &str, got: f64, want: f64, tolerance: f64) -> Result<(), String> {
    if is_close(got, want, tolerance) {
        return Ok(());
    }
    let off = (got - want).abs();
    Err(format!(
        "{about}: {got:e}, want {want:e}, off by {off:e}, allowed {tolerance:e}"
    ))
}

/// Fails unless the value is within the tolerance.
#[track_caller]
pub fn assert_close(about: &str, got: f64, want: f64, tolerance: f64) {
    if let Err(why) = close(about, got, want, tolerance) {
        panic!("{why}");
    }
}
