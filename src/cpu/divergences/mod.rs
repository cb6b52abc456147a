//! The divergences: a file has the value and the coefficients of one.

mod alpha_beta;
mod dkd;
mod forward_kl;
mod jsd;
mod k1;
mod k2;
mod k3;
mod kl_sum;
mod kl_tv;
mod neg_log_overlap;
mod nkd;
mod reverse_kl;
mod skew_kl;
mod skew_reverse_kl;
mod soft_cross_entropy;
mod taid;
mod total_variation;
mod wsld;

use super::part::{LabelOdds, Part, SampledToken};
use crate::config::divergences;
use crate::{Config, Divergence, RowStats};

/// The soft part of a row with finite logits, with weights of classes; `validate.rs` refuses them in other divergences.
pub(super) fn weighted_part(stats: &RowStats) -> Part {
    soft_cross_entropy::weighted_part(stats)
}

macro_rules! parts {
    ($(
        $(#[$doc:meta])*
        $variant:ident $({ $( $(#[$number_doc:meta])* $number:ident = $example:literal ),+ $(,)? })? = $name:literal,
        $stem:ident, $shape:ident($($shape_number:expr),*), [$($moment:ident),*], [$($sum:ident),*] $(, $kind:ident)?;
    )*) => {
        /// The soft part of a row with finite logits.
        #[inline(always)]
        pub(super) fn part(config: &Config, stats: &RowStats) -> Part {
            match config.divergence {
                $( Divergence::$variant $({ $($number),+ })? =>
                    parts!(@part [$($kind)?] $stem, config, stats $( $(, f64::from($number))+ )?) ),*
            }
        }
    };
    (@part [] $stem:ident, $config:ident, $stats:ident $(, $number:expr)*) => {
        $stem::part($stats $(, $number)*)
    };
    (@part [sampled] $stem:ident, $config:ident, $stats:ident, $clamp:expr) => {
        $stem::part(SampledToken::of($config, $stats, $clamp))
    };
    (@part [label_apart] $stem:ident, $config:ident, $stats:ident $(, $number:expr)*) => {
        $stem::part($stats, &LabelOdds::of($config, $stats) $(, $number)*)
    };
}

divergences!(parts);
