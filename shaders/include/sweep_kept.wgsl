// One lane's sums of the second sweep over a row that it has just observed: the last tile is in registers, unless it took the checked path.
fn second_sweep(row: Row, invocation: Invocation, sums: Sums) -> vec3<f32> {
    let start = row.vectors - TILE_VECTORS + invocation.lane;
    var last = vec3<f32>();
    if (tile_is_kept) {
        last = sweep_kept(row, start, sums);
    } else {
        let scales = 1.0 / vec2<f32>(sums.student_sum, sums.teacher_sum);
        for (var i = 0u; i < VECTORS_PER_LANE; i++) {
            let vector = start + i * LANES;
            if (vector < row.vectors) {
                last += sweep_vector(row, (row.start + vector) * 4u - row.misalignment, sums, scales);
            }
        }
    }
#if one_tile
    return last;
#end
#if many_tiles
    return last + sweep_vectors(row, max(row.vectors, TILE_VECTORS) - TILE_VECTORS, invocation, sums);
#end
}

// The sums of the vectors start, start + LANES, ... of the last tile, from registers.
fn sweep_kept(row: Row, start: u32, sums: Sums) -> vec3<f32> {
    let p_scale = exp2((kept_student_max - sums.student_max) * student_log2()) / sums.student_sum;
#if teacher_row
    let q_scale = exp2((kept_teacher_max - sums.teacher_max) * teacher_log2()) / sums.teacher_sum;
#end
    var kept = vec3<f32>();
#unroll teacher_row
    if (start + $iu * LANES < row.vectors) {
        var p = kept_exponentials(kept_student_$i, sums.student_max, student_log2(), p_scale);
        var q = kept_exponentials(kept_teacher_$i, sums.teacher_max, teacher_log2(), q_scale);
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
        let p = exp2((s - sums.student_max) * student_log2()) / sums.student_sum;
        let q = exp2((t - sums.teacher_max) * teacher_log2()) / sums.teacher_sum;
        kept += sweep_terms(vec4<f32>(p, 0.0, 0.0, 0.0), vec4<f32>(select(0.0, q, row.label < params.teacher_classes), 0.0, 0.0, 0.0));
    }
    return kept;
}
