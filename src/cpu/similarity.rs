//! KDR of a row from its statistics. Scalar, in f64.

use crate::{RowStats, Similarity};

/// KDR of merged statistics.
pub(super) fn kdr(stats: &RowStats, similarity: Similarity) -> f32 {
    let f = f64::from;
    let kdr = match similarity {
        Similarity::Cosine => {
            f(stats.cross) / (f(stats.student_square) * f(stats.teacher_square)).sqrt()
        }
        Similarity::Bhattacharyya => {
            f(stats.root_cross) / (f(stats.student_sum) * f(stats.teacher_sum)).sqrt()
        }
        Similarity::ExpNegKl => {
            if stats.masked_mass > 0.0 {
                return 0.0;
            }
            let (zs, zt) = (f(stats.student_sum), f(stats.teacher_sum));
            (-(f(stats.difference) / zt - zt.ln() + zs.ln()).max(0.0)).exp()
        }
        Similarity::JensenShannon => 1.0 - 0.5 * f(stats.similarity_sum),
        Similarity::Overlap => f(stats.similarity_sum),
    };
    kdr.clamp(0.0, 1.0) as f32
}
