// The similarity of a row's two distributions (KDR), in [0, 1] (docs/METHOD.md, section 4):
//   cosine          sum pq / sqrt(sum p^2 sum q^2)                  from the sums
//   bhattacharyya   sum sqrt(pq)                                    from the sums
//   exp-neg-kl      exp(-KL), KL = A/zt - ln zt + ln zs             from the sums
//   jensen-shannon  1 - (sum p log2(2p/(p+q)) + q log2(2q/(p+q)))/2 a second sweep
//   overlap         sum min(p, q)                                   a second sweep

#import log_sum

// KDR from merged sums; `similarity_sum` is the second sweep's, 0 without one.
fn similarity_of(sums: Sums, similarity_sum: f32) -> f32 {
    var kdr = similarity_sum;
#if cosine
    kdr = sums.cross / (sqrt(sums.student_square) * sqrt(sums.teacher_square));
#end
#if bhattacharyya
    kdr = sums.root_cross / (sqrt(sums.student_sum) * sqrt(sums.teacher_sum));
#end
#if exp_neg_kl
    // The logarithm of the quotient is near 0 for nearly equal rows, and so is its error. The logarithms of two large sums have larger errors.
    let kl = sums.difference / sums.teacher_sum + log_sum(sums.student_sum / sums.teacher_sum);
    kdr = select(exp(-max(kl, 0.0)), 0.0, sums.masked_mass > 0.0);
#end
#if jensen_shannon
    kdr = 1.0 - 0.5 * similarity_sum;
#end
    return clamp(kdr, 0.0, 1.0);
}
