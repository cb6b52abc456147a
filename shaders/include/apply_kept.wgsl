// Apply, for a row that the same lanes have just observed: the exponentials of its last tile are in registers.

fn apply_row(row: Row, invocation: Invocation, decision: Decision) {
    if (is_filled(decision.result.flags)) {
        fill_vectors(row, invocation, decision.result.flags);
        return;
    }
    let s_scale = decision.student_scale * exp2((kept_student_max - decision.student_max) * params.student_log2);
    let t_scale = decision.teacher_scale * exp2((kept_teacher_max - decision.teacher_max) * params.teacher_log2);
    let start = row.vectors - TILE_VECTORS + invocation.lane;
#unroll
    if (start + $iu * LANES < row.vectors) {
        let first = (row.start + start + $iu * LANES) * 4u - row.misalignment;
        apply_vector(row, first, kept_student_$i * s_scale, kept_teacher_$i * t_scale, decision);
    }
#end
    apply_vectors(row, max(row.vectors, TILE_VECTORS) - TILE_VECTORS, invocation, decision);
}
