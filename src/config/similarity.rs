//! The similarity of teacher and student.

use super::choice::choice;
use crate::Result;

choice! {
    /// The measure of similarity of teacher and student (KDR): per row, in `[0, 1]`, 1 for equal distributions.
    ///
    /// `q` are the teacher's probabilities (STK), `p` the student's. Formulas and sources: docs/METHOD.md, section 4.
    #[derive(Eq, Hash)]
    Similarity, "similarity";
    /// `sum(p q) / sqrt(sum(p^2) sum(q^2))`, the cosine of the angle between the two.
    #[default]
    Cosine = "cosine",
    /// `sum(sqrt(p q))`, the Bhattacharyya coefficient.
    Bhattacharyya = "bhattacharyya",
    /// `exp(-KL(q, p))` with `KL = sum(q ln(q / p))`.
    ExpNegKl = "exp-neg-kl",
    /// `1 - JSD(q, p) / ln 2`, one minus the Jensen-Shannon divergence in bits.
    JensenShannon = "jensen-shannon",
    /// `sum(min(p, q))`, one minus the total variation distance.
    Overlap = "overlap",
}

impl Similarity {
    /// Returns true if KDR needs a second sweep over the row, because its sum needs the normalisers of both distributions first.
    pub fn needs_second_sweep(self) -> bool {
        matches!(self, Self::JensenShannon | Self::Overlap)
    }

    /// A similarity has no numbers.
    fn check(self) -> Result<()> {
        Ok(())
    }
}
