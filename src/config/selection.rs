//! The rule that selects TSSR.

use super::choice::choice;
use super::range::require;
use crate::Result;

choice! {
    /// The rule that selects the share of the true label in the target (TSSR) from the elapsed share of training time (TSTR) and the
    /// similarity (KDR), or from the teacher's probabilities.
    Selection, "selection";
    /// The larger of TSTR and KDR.
    Max = "max",
    /// The smaller of TSTR and KDR.
    #[default]
    Min = "min",
    /// The arithmetic mean of TSTR and KDR.
    Mean = "mean",
    /// TSTR times KDR.
    Product = "product",
    /// TSTR alone: the teacher annealing of BAM! (Clark et al. 2019).
    Tstr = "tstr",
    /// KDR alone.
    Kdr = "kdr",
    /// A constant in `[0, 1]`: plain distillation with a fixed mix; 1 is training on labels only, 0 on the teacher only.
    Fixed(share = 0.5) = "fixed",
    /// The share that corrects the teacher by this threshold: Minifinetuning (MFT, Belcak et al. 2025). Where the teacher prefers another
    /// class, the target gives the label a margin of the threshold over that class; else the target's probability of the label is the
    /// teacher's plus the threshold, at most 1. The threshold is 0 or lies between 0.01 and 1. TSTR and KDR have no part.
    Margin(threshold = 0.2) = "margin",
}

impl Selection {
    /// Returns true if TSSR depends on training time (TSTR). Otherwise [`Progress::NONE`](crate::Progress::NONE) is accepted.
    pub fn needs_progress(self) -> bool {
        match self {
            Self::Max | Self::Min | Self::Mean | Self::Product | Self::Tstr => true,
            Self::Kdr | Self::Fixed(_) | Self::Margin(_) => false,
        }
    }

    /// Returns true if TSSR depends on KDR.
    pub fn needs_kdr(self) -> bool {
        match self {
            Self::Max | Self::Min | Self::Mean | Self::Product | Self::Kdr => true,
            Self::Tstr | Self::Fixed(_) | Self::Margin(_) => false,
        }
    }

    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::Fixed(share) => {
                let ok = (0.0..=1.0).contains(&share);
                require(ok, "selection: Fixed", share, "a number in [0, 1]")
            }
            Self::Margin(threshold) => {
                let ok = threshold == 0.0 || (0.01..=1.0).contains(&threshold);
                let expected = "0, or a number between 0.01 and 1";
                require(ok, "selection: Margin", threshold, expected)
            }
            _ => Ok(()),
        }
    }
}
