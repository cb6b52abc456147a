//! The divergences: a file has the value and the coefficients of one.

mod alpha_beta;
mod forward_kl;
mod jsd;
mod kl_sum;
mod kl_tv;
mod neg_log_overlap;
mod reverse_kl;
mod skew_kl;
mod skew_reverse_kl;
mod soft_cross_entropy;
mod taid;
mod total_variation;

use super::part::Part;
use crate::config::divergences;
use crate::{Divergence, RowStats};

macro_rules! parts {
    ($(
        $(#[$doc:meta])*
        $variant:ident $({ $( $(#[$number_doc:meta])* $number:ident = $example:literal ),+ $(,)? })? = $name:literal,
        $stem:ident, $shape:ident($($shape_number:expr),*), [$($moment:ident),*], [$($sum:ident),*];
    )*) => {
        /// The soft part of a row with finite logits.
        pub(super) fn part(divergence: Divergence, stats: &RowStats) -> Part {
            match divergence {
                $( Divergence::$variant $({ $($number),+ })? => $stem::part(stats $( $(, f64::from($number))+ )?) ),*
            }
        }
    };
}

divergences!(parts);
