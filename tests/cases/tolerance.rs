//! Allowed differences from the f64 reference.

use wgpu_distill::Config;

/// Allowed differences of f32 results. Every comparison uses these numbers and states its exceptions.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// For a loss, relative to it.
    pub loss_relative: f64,
    /// For a loss near 0, in units of the temperature factor if that is above 1.
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

    /// The tolerance of a row's loss. `factor` is the temperature factor.
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

/// The factor of `p - y` in the gradient of a batch.
pub fn gradient_weight(config: &Config, valid_rows: u32) -> f64 {
    config.gradient_factor().abs() / config.reduction.denominator(valid_rows)
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
