//! Decide for sixteen rows at a time, in lanes of f64: the rule of `decide.rs` for plain rows of the method.
//!
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use std::f64::consts::{LN_2, SQRT_2};

use super::decide::Rule;
use super::lanes::{LANES, Lanes};
use super::setup::Setup;
use crate::moments::{Moment, Moments};
use crate::rule::Shape;
use crate::{Divergence, Scope, Selection, Similarity, Standardization, TssrGradient};

type Wide = [f64; LANES];

/// The moments that the rule reads, in the order of [`LaneSums`](super::lane_sums::LaneSums).
pub(super) const READ: [Moment; 7] = [
    Moment::Difference,
    Moment::SoftMoment,
    Moment::Cross,
    Moment::StudentSquare,
    Moment::TeacherSquare,
    Moment::RootCross,
    Moment::HardSum,
];

/// The statistics of sixteen rows. Lanes without a row have any values.
#[derive(Default)]
pub(super) struct RowLanes {
    pub student_max: Lanes,
    pub student_sum: Lanes,
    pub teacher_sum: Lanes,
    /// By [`READ`]. Their linear factors are in binary logarithms.
    pub moments: [Lanes; READ.len()],
    pub label_logit: Lanes,
    pub weight: Lanes,
}

/// The results of sixteen rows and the coefficients of their gradients, as in `RowResult` and `Decision`.
#[derive(Default)]
pub(super) struct DecisionLanes {
    pub loss: Lanes,
    pub kdr: Lanes,
    pub tssr: Lanes,
    pub student_scale: Lanes,
    pub teacher_scale: Lanes,
    pub hard_scale: Lanes,
    pub label_share: Lanes,
    /// Rows whose loss is a bound, as bits. They have no gradient, whatever their coefficients.
    pub clamped: u32,
}

/// The rule of a call whose rows are plain.
#[derive(Clone, Copy)]
pub(super) struct LaneRule<'a> {
    rule: &'a Rule,
    is_kl: bool,
    own_hard: bool,
    inverse_label_temperature: f64,
}

impl<'a> LaneRule<'a> {
    /// `None` if rows need more than the method with soft cross-entropy or forward KL, a similarity of one sweep, labels, temperatures and
    /// weights of rows.
    pub fn of(rule: &'a Rule, setup: &Setup<'_>) -> Option<Self> {
        let config = setup.config;
        let is_kl = match config.divergence {
            Divergence::SoftCrossEntropy => false,
            Divergence::ForwardKl => true,
            _ => return None,
        };
        let in_one_sweep = matches!(
            config.similarity,
            Similarity::Cosine | Similarity::Bhattacharyya | Similarity::ExpNegKl
        );
        let is_plain = setup.shape == Shape::Plain
            && setup.class_weights.is_none()
            && setup.moments.without(Moments::of(&READ)).bits() == 0
            && config.label_smoothing == 0.0
            && config.z_loss == 0.0
            && config.standardization == Standardization::None
            && config.tssr_gradient == TssrGradient::Detached
            && config.scope != Scope::Batch
            && !matches!(config.selection, Selection::Margin(_));
        let own_hard = setup.own_hard;
        let label_temperature = match own_hard {
            true => config.label_temperature(),
            false => setup.student_temperature,
        };
        (in_one_sweep && is_plain).then_some(Self {
            rule,
            is_kl,
            own_hard,
            inverse_label_temperature: 1.0 / label_temperature,
        })
    }

    /// Decide: the results and coefficients of rows whose logits are plain numbers and whose labels are classes.
    #[inline(always)]
    pub fn decide(&self, rows: &RowLanes) -> DecisionLanes {
        let rule = self.rule;
        let (zs, zt) = (wide(&rows.student_sum), wide(&rows.teacher_sum));
        let log_zs = ln(&zs);
        let mut out = DecisionLanes {
            kdr: self.kdr(rows, &zs, &zt, &log_zs),
            ..DecisionLanes::default()
        };
        out.tssr = self.tssr(&out.kdr);
        let zh = match self.own_hard {
            true => wide(rows.moment(Moment::HardSum)),
            false => zs,
        };
        let log_zh = if self.own_hard { ln(&zh) } else { log_zs };
        let soft_value = match self.is_kl {
            true => kl(rows, &zt, &log_zs),
            false => cross_entropy(rows, &zt, &log_zs),
        };
        let mut unweighted = [0.0; LANES];
        for i in 0..LANES {
            let (tssr, weight) = (f64::from(out.tssr[i]), f64::from(rows.weight[i]));
            let offset = f64::from(rows.label_logit[i]) - f64::from(rows.student_max[i]);
            let hard_value = log_zh[i] - offset * self.inverse_label_temperature;
            let hard_loss = tssr * rule.hard_loss * hard_value;
            let loss = hard_loss + (1.0 - tssr) * rule.soft_loss * soft_value[i];
            let soft = rule.soft * (1.0 - tssr);
            let label = rule.hard * tssr;
            // If hard and soft part have the same weight, this is exactly that weight.
            let both = rule.hard + (1.0 - tssr) * (rule.soft - rule.hard);
            let student = if self.own_hard { soft } else { both };
            unweighted[i] = loss;
            out.loss[i] = (weight * loss) as f32;
            out.student_scale[i] = (weight * student / zs[i]) as f32;
            out.teacher_scale[i] = (weight * soft / zt[i]) as f32;
            out.hard_scale[i] = (weight * label / zh[i]) as f32;
            out.label_share[i] = (weight * label) as f32;
        }
        if rule.config().loss_clamp.is_some() {
            for (i, loss) in unweighted.into_iter().enumerate() {
                if let Some(bound) = rule.bound_of(loss) {
                    out.clamped |= 1 << i;
                    out.loss[i] = bound * rows.weight[i];
                }
            }
        }
        out
    }

    #[inline(always)]
    fn kdr(&self, rows: &RowLanes, zs: &Wide, zt: &Wide, log_zs: &Wide) -> Lanes {
        let mut kdr = [0.0; LANES];
        match self.rule.config().similarity {
            Similarity::Cosine => {
                let cross = rows.moment(Moment::Cross);
                let ss = rows.moment(Moment::StudentSquare);
                let tt = rows.moment(Moment::TeacherSquare);
                for i in 0..LANES {
                    let squares = f64::from(ss[i]) * f64::from(tt[i]);
                    kdr[i] = f64::from(cross[i]) / squares.sqrt();
                }
            }
            Similarity::Bhattacharyya => {
                let root_cross = rows.moment(Moment::RootCross);
                for i in 0..LANES {
                    kdr[i] = f64::from(root_cross[i]) / (zs[i] * zt[i]).sqrt();
                }
            }
            _ => kdr = kl(rows, zt, log_zs).map(|kl| (-kl).exp()),
        }
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = kdr[i].clamp(0.0, 1.0) as f32;
        }
        out
    }

    #[inline(always)]
    fn tssr(&self, own_kdr: &Lanes) -> Lanes {
        let tstr = self.rule.tstr;
        let kdr = self.rule.shared_kdr.map_or(*own_kdr, |kdr| [kdr; LANES]);
        match self.rule.config().selection {
            Selection::Max => kdr.map(|kdr| tstr.max(kdr)),
            Selection::Min => kdr.map(|kdr| tstr.min(kdr)),
            Selection::Mean => kdr.map(|kdr| 0.5 * (tstr + kdr)),
            Selection::Product => kdr.map(|kdr| tstr * kdr),
            Selection::Kdr => kdr,
            Selection::Fixed(share) => [share; LANES],
            // `of` takes no rows with a margin.
            Selection::Tstr | Selection::Margin(_) => [tstr; LANES],
        }
    }
}

impl RowLanes {
    #[inline(always)]
    fn moment(&self, moment: Moment) -> &Lanes {
        let at = READ.iter().position(|read| *read == moment);
        &self.moments[at.expect("the rule reads the moment")]
    }
}

/// `- sum q ln p`
#[inline(always)]
fn cross_entropy(rows: &RowLanes, zt: &Wide, log_zs: &Wide) -> Wide {
    let soft_moment = rows.moment(Moment::SoftMoment);
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        out[i] = log_zs[i] - LN_2 * f64::from(soft_moment[i]) / zt[i];
    }
    out
}

/// `KL(q, p)`
#[inline(always)]
fn kl(rows: &RowLanes, zt: &Wide, log_zs: &Wide) -> Wide {
    let difference = rows.moment(Moment::Difference);
    let log_zt = ln(zt);
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        let kl = LN_2 * f64::from(difference[i]) / zt[i] - log_zt[i] + log_zs[i];
        out[i] = kl.max(0.0);
    }
    out
}

#[inline(always)]
fn wide(lanes: &Lanes) -> Wide {
    let mut wide = [0.0; LANES];
    for i in 0..LANES {
        wide[i] = f64::from(lanes[i]);
    }
    wide
}

/// Natural logarithms of numbers from 1 on, to 15 digits.
///
/// `x = 2^n m` with `m` in `[sqrt(1/2), sqrt(2))`, and `ln m = 2 artanh s` with `s = (m - 1) / (m + 1)`, of which `s^2 < 0.0295`.
#[inline(always)]
fn ln(x: &Wide) -> Wide {
    const FROM: u64 = (SQRT_2 / 2.0).to_bits();
    // An integer in the low bits of this number's mantissa is added to it.
    const INTEGERS: f64 = (1u64 << 52) as f64;
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        let n = x[i].to_bits().wrapping_sub(FROM) >> 52;
        let m = f64::from_bits(x[i].to_bits().wrapping_sub(n << 52));
        let n = f64::from_bits(INTEGERS.to_bits() | n) - INTEGERS;
        let s = (m - 1.0) / (m + 1.0);
        let square = s * s;
        let mut series = 1.0 / 19.0;
        for k in [17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
            series = series * square + 1.0 / k;
        }
        out[i] = 2.0 * s * series + n * LN_2;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_have_fifteen_digits() {
        let mut x = 1.0f64;
        while x < 1e6 {
            for (got, x) in ln(&[x; LANES]).iter().zip([x; LANES]) {
                let want = x.ln();
                assert!(
                    (got - want).abs() <= 1e-15 * want + 1e-18,
                    "ln {x}: {got}, want {want}"
                );
            }
            x = (x * 1.000_37).max(x + 1e-7);
        }
    }
}
