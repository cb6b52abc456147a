//! Allowed differences from the f64 reference.

use wgpu_distill::Config;

/// What a result in f32 may be off. Every comparison takes its numbers from here and names its exceptions.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Of a loss, relative to it.
    pub loss_relative: f64,
    /// Of a loss near 0, in units of the temperature factor where that is above 1.
    pub loss_absolute: f64,
    /// Of KDR and TSSR.
    pub unit: f64,
    /// Of an element of the gradient, relative to the largest magnitude of its row.
    pub gradient_relative: f64,
    /// Of an element of the gradient, relative to what multiplies `p - y`: the rounding of `p` and `y` remains where they cancel.
    pub gradient_rounding: f64,
    /// Of a log-sum-exp, a divergence or an entropy near 0: sums of terms of the size of the logits' spread.
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

    /// Of very peaked rows: their cosine near 0 or 1 comes from sums that differ by orders of magnitude.
    pub const PEAKED: Self = Self {
        unit: 1e-5,
        ..Self::F32
    };

    /// Of gradients of independent rows with cancelling terms: `p`, the temperature ratio and the label's part of a target near 1 are
    /// rounded about eight times between them, each time by at most half of 1.2e-7.
    pub const CANCELLING: Self = Self {
        gradient_rounding: 5e-7,
        ..Self::F32
    };

    /// Of two results that are each within a tolerance of the reference: twice as much.
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

    /// Of the loss of a row. `factor` is the temperature factor.
    pub fn loss(&self, want: f64, factor: f64) -> f64 {
        (self.loss_relative * want.abs()).max(self.loss_absolute * factor.max(1.0))
    }

    /// Of a sum over rows, which may be off by what each of them may be. `magnitude` is the sum of the rows' magnitudes.
    pub fn loss_of_sum(&self, magnitude: f64, factor: f64, rows: f64) -> f64 {
        self.loss_relative * magnitude.abs() + self.loss_absolute * factor.max(1.0) * rows
    }

    /// Of an element of the gradient in a row whose largest magnitude is given. `weight` is what multiplies `p - y`.
    pub fn gradient(&self, largest: f64, weight: f64) -> f64 {
        self.gradient_relative * largest + self.gradient_rounding * weight
    }

    /// Of a log-sum-exp, a divergence or an entropy.
    pub fn statistic(&self, want: f64) -> f64 {
        self.loss_relative * want.abs() + self.statistic_absolute
    }

    /// Of a probability: its logit's distance from the maximum is rounded, in units of its own size.
    pub fn probability(&self, want: f64) -> f64 {
        self.gradient_rounding * want.abs() * (10.0 + want.max(1e-300).ln().abs()) + 1e-37
    }
}

/// What multiplies `p - y` in the gradient of a batch.
pub fn gradient_weight(config: &Config, valid_rows: u32) -> f64 {
    config.gradient_factor().abs() / config.reduction.denominator(valid_rows)
}

/// Equal, both NaN, or within the tolerance. An infinity is close to itself alone.
pub fn is_close(got: f64, want: f64, tolerance: f64) -> bool {
    if want.is_nan() || got.is_nan() {
        return want.is_nan() && got.is_nan();
    }
    let finite = got.is_finite() && want.is_finite();
    got == want || (finite && (got - want).abs() <= tolerance)
}

/// An error that names the value, unless it is close.
pub fn close(about: &str, got: f64, want: f64, tolerance: f64) -> Result<(), String> {
    if is_close(got, want, tolerance) {
        return Ok(());
    }
    let off = (got - want).abs();
    Err(format!(
        "{about}: {got:e}, want {want:e}, off by {off:e}, allowed {tolerance:e}"
    ))
}

/// Fails unless the value is close.
#[track_caller]
pub fn assert_close(about: &str, got: f64, want: f64, tolerance: f64) {
    if let Err(why) = close(about, got, want, tolerance) {
        panic!("{why}");
    }
}
