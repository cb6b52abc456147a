// One lane's sums of the second sweep over a row that it has just observed: the last tile is in registers.
fn second_sweep(row: Row, invocation: Invocation, sums: Sums) -> vec3<f32> {
    let p_scale = exp2((kept_student_max - sums.student_max) * params.student_log2) / sums.student_sum;
    let q_scale = exp2((kept_teacher_max - sums.teacher_max) * params.teacher_log2) / sums.teacher_sum;
    let start = row.vectors - TILE_VECTORS + invocation.lane;
    var kept = vec3<f32>();
#unroll
    if (start + $iu * LANES < row.vectors) {
        var p = kept_exponentials(kept_student_$i, sums.student_max, params.student_log2, p_scale);
        var q = kept_exponentials(kept_teacher_$i, sums.teacher_max, params.teacher_log2, q_scale);
        if (KEEP_LOGITS) {
            p /= sums.student_sum;
            q /= sums.teacher_sum;
        }
        kept += sweep_terms(p, q);
    }
#end
    if (LABEL_APART && has_label(row, start)) {
        // The label's class is left out of the kept tile.
        let s = load_student_at(row.student, row.label);
        let t = load_teacher_at(row.teacher, row.label);
        let p = exp2((s - sums.student_max) * params.student_log2) / sums.student_sum;
        let q = exp2((t - sums.teacher_max) * params.teacher_log2) / sums.teacher_sum;
        kept += sweep_terms(vec4<f32>(p, 0.0, 0.0, 0.0), vec4<f32>(select(0.0, q, row.label < params.teacher_classes), 0.0, 0.0, 0.0));
    }
#if one_tile
    return kept;
#end
#if many_tiles
    return kept + sweep_vectors(row, max(row.vectors, TILE_VECTORS) - TILE_VECTORS, invocation, sums);
#end
}
