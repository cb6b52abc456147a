//! Adds a tile of the soft label to the sums of a row.

use super::lanes::{LANES, sum};
use super::scalar::mul_add;
use super::setup::Setup;
use super::sums::Sums;
use super::vector::Vector;
use crate::flags;
use crate::moments::Moment;

impl Sums {
    /// Adds a tile of the soft label `y`, given its logits `s`.
    #[inline(always)]
    pub fn add_soft_label<V: Vector>(&mut self, s: &[f32], y: &[f32], setup: &Setup<'_>) {
        let ms = self.student_max;
        let [mut mass, mut moment] = [[0.0f32; LANES]; 2];
        let mut masked = false;
        let mut add = |i: usize, s: f32, y: f32| {
            let visible = s > f32::NEG_INFINITY;
            masked |= !visible && y > 0.0;
            // Bounded, because 0 * inf is NaN.
            let distance = if visible { (s - ms).max(f32::MIN) } else { 0.0 };
            mass[i] += y;
            moment[i] = mul_add::<V>(y, distance, moment[i]);
        };
        let (whole, rest) = y.as_chunks::<LANES>();
        for (s, y) in s.as_chunks::<LANES>().0.iter().zip(whole) {
            for i in 0..LANES {
                add(i, s[i], y[i]);
            }
        }
        for (i, (s, y)) in s[LANES * whole.len()..].iter().zip(rest).enumerate() {
            add(i, *s, *y);
        }
        self.flags |= if masked { flags::SOFT_LABEL_MASKED } else { 0 };
        let temperature = f64::from(setup.config.student_temperature);
        self.add_to(Moment::SoftLabelSum, sum(mass));
        self.add_to(Moment::SoftLabelMoment, sum(moment) / temperature);
    }
}
