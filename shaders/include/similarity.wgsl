// The similarity of a row's two distributions (KDR), in [0, 1]. METHOD's formulas:
//   cosine          sum pq / sqrt(sum p^2 sum q^2)                  from the sums
//   bhattacharyya   sum sqrt(pq)                                    from the sums
//   exp-neg-kl      exp(-KL), KL = A/zt - ln zt + ln zs             from the sums
//   jensen-shannon  1 - (sum p log2(2p/(p+q)) + q log2(2q/(p+q)))/2 a second sweep
//   overlap         sum min(p, q)                                   a second sweep

#import log_sum

const SECOND_SWEEP: bool = SIMILARITY == JENSEN_SHANNON || SIMILARITY == OVERLAP;

// p log2(2p / (p+q)): the ratio to the mean keeps the error of equal rows at that of log2 near 1. 0 log 0 = 0.
fn divergence_term(p: vec4<f32>, scale: vec4<f32>) -> vec4<f32> {
    let tiny = vec4<f32>(1.2e-38);
    return select(vec4<f32>(), p * log2(max(p * scale, tiny)), p > tiny);
}

fn similarity_terms(p: vec4<f32>, q: vec4<f32>) -> vec4<f32> {
    if (SIMILARITY == OVERLAP) {
        return min(p, q);
    }
    let scale = 2.0 / max(p + q, vec4<f32>(1.2e-38));
    return divergence_term(p, scale) + divergence_term(q, scale);
}

// KDR from merged sums; `swept` is the second sweep's sum where there was one.
fn similarity_of(sums: Sums, swept: f32) -> f32 {
    var kdr = swept;
    if (SIMILARITY == COSINE) {
        kdr = sums.cross / (sqrt(sums.student_square) * sqrt(sums.teacher_square));
    } else if (SIMILARITY == BHATTACHARYYA) {
        kdr = sums.cross / (sqrt(sums.student_sum) * sqrt(sums.teacher_sum));
    } else if (SIMILARITY == EXP_NEG_KL) {
        // One logarithm of the quotient: of rows nearly alike it is near 0, and so is its error; those of two large sums may each err by more.
        let kl = sums.difference / sums.teacher_sum + log_sum(sums.student_sum / sums.teacher_sum);
        kdr = select(exp(-max(kl, 0.0)), 0.0, sums.masked_mass > 0.0);
    } else if (SIMILARITY == JENSEN_SHANNON) {
        kdr = 1.0 - 0.5 * swept;
    }
    return clamp(kdr, 0.0, 1.0);
}
