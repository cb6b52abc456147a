// One lane's sum of the second sweep over a row that it has just observed: the exponentials of the last tile are in registers.
fn second_sweep(row: Row, invocation: Invocation, sums: Sums) -> f32 {
    let p_scale = exp2((kept_student_max - sums.student_max) * params.student_log2) / sums.student_sum;
    let q_scale = exp2((kept_teacher_max - sums.teacher_max) * params.teacher_log2) / sums.teacher_sum;
    let start = row.vectors - TILE_VECTORS + invocation.lane;
    var kept = 0.0;
#unroll
    if (start + $iu * LANES < row.vectors) {
        kept += similarity_term(kept_student_$i * p_scale, kept_teacher_$i * q_scale);
    }
#end
    return kept + sweep_vectors(row, max(row.vectors, TILE_VECTORS) - TILE_VECTORS, invocation, sums);
}
