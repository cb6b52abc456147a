//! TSSR from TSTR and KDR, or from the teacher's margin.

use crate::{Config, RowStats, Selection, flags};

pub(super) fn select_tssr(config: &Config, tstr: f32, kdr: f32, stats: &RowStats) -> f32 {
    match config.selection {
        Selection::Max => tstr.max(kdr),
        Selection::Min => tstr.min(kdr),
        Selection::Mean => 0.5 * (tstr + kdr),
        Selection::Product => tstr * kdr,
        Selection::Tstr => tstr,
        Selection::Kdr => kdr,
        Selection::Fixed(w) => w,
        Selection::Margin(_) if stats.flags & flags::INVALID_LABEL != 0 => f32::NAN,
        Selection::Margin(threshold) => margin_share(config, threshold.into(), stats) as f32,
    }
}

/// The share with which the target's label is `threshold` above the teacher's largest class, or above the teacher's label if that is the
/// largest.
fn margin_share(config: &Config, threshold: f64, stats: &RowStats) -> f64 {
    let sum = f64::from(stats.teacher_sum);
    let offset = f64::from(stats.teacher_label_logit) - f64::from(stats.teacher_max);
    if offset < 0.0 {
        let of_label = (offset / stats.teacher_temperature(config)).exp();
        let distance = (1.0 - of_label) / sum;
        return (distance + threshold) / (1.0 + distance);
    }
    // 1 - q of the label is (sum - 1) / sum.
    let rest = sum - 1.0;
    match threshold * sum > rest {
        true => 1.0,
        false if rest == 0.0 => 0.0,
        false => threshold * sum / rest,
    }
}

/// The derivative of TSSR with respect to KDR; 0 where `Max` or `Min` find both equal.
pub(super) fn tssr_by_kdr(selection: Selection, tstr: f32, kdr: f32) -> f64 {
    match selection {
        Selection::Max => f64::from(u8::from(kdr > tstr)),
        Selection::Min => f64::from(u8::from(kdr < tstr)),
        Selection::Mean => 0.5,
        Selection::Product => f64::from(tstr),
        Selection::Kdr => 1.0,
        Selection::Tstr | Selection::Fixed(_) | Selection::Margin(_) => 0.0,
    }
}
