//! The divergences by their textbook formulas, one file each. A file has `value`, and `terms`: `p_i F'_i` with `F'_i` the derivative of
//! the value with respect to `p_i`. A term that is not finite means that the divergence has no derivative there. A divergence that treats
//! the label apart, and one of a sampled token, has `gradient` instead of `terms`.

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

use super::distributions::Pair;
use crate::Divergence;
use crate::config::divergences;

macro_rules! dispatch {
    ($(
        $(#[$doc:meta])*
        $variant:ident $({ $( $(#[$number_doc:meta])* $number:ident = $example:literal ),+ $(,)? })? = $name:literal,
        $stem:ident, $shape:ident($($shape_number:expr),*), [$($moment:ident),*], [$($sum:ident),*] $(, $kind:ident)?;
    )*) => {
        /// The divergence of `p` from `q`.
        pub(super) fn value(divergence: Divergence, pair: Pair<'_>) -> f64 {
            match divergence {
                $( Divergence::$variant $({ $($number),+ })? => $stem::value(pair $($(, f64::from($number))+)?) ),*
            }
        }

        /// The derivative of the divergence with respect to the student's logits over their temperature; NaN where there is none.
        pub(super) fn gradient(divergence: Divergence, pair: Pair<'_>) -> Vec<f64> {
            match divergence {
                $( Divergence::$variant $({ $($number),+ })? =>
                    dispatch!(@gradient [$($kind)?] $stem, pair $($(, f64::from($number))+)?) ),*
            }
        }
    };
    (@gradient [] $stem:ident, $pair:ident $(, $number:expr)*) => {
        through_softmax($pair, &$stem::terms($pair $(, $number)*))
    };
    (@gradient [$kind:ident] $stem:ident, $pair:ident $(, $number:expr)*) => {
        $stem::gradient($pair $(, $number)*)
    };
}

divergences!(dispatch);

fn through_softmax(pair: Pair<'_>, terms: &[f64]) -> Vec<f64> {
    if terms.iter().any(|term| !term.is_finite()) {
        return vec![f64::NAN; terms.len()];
    }
    pair.through_softmax(terms)
}
