// Apply, for a row that the same lanes have just observed: its last tile is in registers, unless it took the checked path.

fn apply_row(row: Row, invocation: Invocation, decision: Decision) {
    if (is_filled(decision.result.flags)) {
        fill_vectors(row, invocation, decision.result.flags);
        return;
    }
#if listed
    set_tail_scale(decision);
#end
    let start = row.vectors - TILE_VECTORS + invocation.lane;
    if (tile_is_kept) {
        apply_kept(row, start, decision);
    } else {
        for (var i = 0u; i < VECTORS_PER_LANE; i++) {
            let vector = start + i * LANES;
            if (vector < row.vectors) {
                let first = (row.start + vector) * 4u - row.misalignment;
                var s = load_student(row.student, first);
                let y = load_soft_label(row.soft_label, first);
#if teacher_row
                var t = load_teacher(row.teacher, first);
#end
#if masks_joined
                join_masks(&s, &t, first);
#end
#if teacher_row
                apply_logits(row, first, s, t, y, decision);
#end
#if student_alone
                apply_logits(row, first, s, vec4<f32>(), y, decision);
#end
            }
        }
    }
#if many_tiles
    apply_vectors(row, max(row.vectors, TILE_VECTORS) - TILE_VECTORS, invocation, decision);
#end
}

// The vectors start, start + LANES, ... of the last tile, from registers.
fn apply_kept(row: Row, start: u32, decision: Decision) {
#unroll
    var label_$i = vec4<f32>(decision.uniform_share);
#end
#unroll soft_labels
    label_$i = label_terms(label_$i, kept_soft_label_$i, decision);
#end
#if plain
    let s_scale = decision.student_scale * exp2((kept_student_max - decision.student_max) * student_log2());
    let t_scale = decision.teacher_scale * exp2((kept_teacher_max - decision.teacher_max) * teacher_log2());
#end
#unroll plain
    if (start + $iu * LANES < row.vectors) {
        let first = (row.start + start + $iu * LANES) * 4u - row.misalignment;
        apply_vector(row, first, kept_student_$i * s_scale, kept_teacher_$i * t_scale, label_$i, decision);
    }
#end
#if shaped
    let s_scale = exp2((kept_student_max - decision.student_max) * student_log2());
    let t_scale = exp2((kept_teacher_max - decision.teacher_max) * teacher_log2());
#end
#unroll shaped
    if (start + $iu * LANES < row.vectors) {
        let first = (row.start + start + $iu * LANES) * 4u - row.misalignment;
        let ds = (kept_student_$i - decision.student_max) * student_log2();
        let dt = (kept_teacher_$i - decision.teacher_max) * teacher_log2();
        let es = kept_exponentials(kept_student_$i, decision.student_max, student_log2(), s_scale);
        let et = kept_exponentials(kept_teacher_$i, decision.teacher_max, teacher_log2(), t_scale);
        apply_shaped(row, first, ds, dt, es, et, label_$i, decision);
    }
#end
#if sampled
    let s_scale = decision.student_scale * exp2((kept_student_max - decision.student_max) * student_log2());
#end
#if listed
    let s_scale = tail_scale * exp2((kept_student_max - tail_student_max) * student_log2());
#end
#unroll student_alone
    if (start + $iu * LANES < row.vectors) {
        let first = (row.start + start + $iu * LANES) * 4u - row.misalignment;
        var terms = kept_student_$i * s_scale;
        if (KEEP_LOGITS) {
            terms = student_terms(kept_student_$i, decision);
        }
        apply_vector(row, first, terms, vec4<f32>(), label_$i, decision);
    }
#end
}
