// Apply: grad_i = student_scale e^(s_i - ms) - teacher_scale e^(t_i - mt) - label_share [i = label] - uniform_share,
// one lane's share of a row, backwards: its start is what the sweep before read last. Each logit is loaded once, each gradient stored once.

fn apply_row(row: Row, place: Place, decision: Decision) {
    let flags = decision.result.flags;
    let whole_row = (flags & (IGNORED | NON_FINITE | INVALID_LABEL)) != 0u;
    let fill = select(params.nan_bits, 0u, (flags & IGNORED) != 0u);
    for (var done = place.lane; done < row.units; done += LANES) {
        let first = (row.units - 1u - done) * 4u - row.head;
        if (whole_row) {
            store_grad(row.grad, first, vec4<u32>(fill));
            continue;
        }
        let columns = vec4<u32>(first, first + 1u, first + 2u, first + 3u);
        let s = load_student(row.student, first);
        let t = load_teacher(row.teacher, first);
        let es = exp2((s - decision.student_max) * params.student_log2);
        var et = exp2((t - decision.teacher_max) * params.teacher_log2);
        et = select(vec4<f32>(), et, columns < vec4<u32>(params.teacher_classes));
        let share = select(
            vec4<f32>(decision.uniform_share),
            vec4<f32>(decision.uniform_share + decision.label_share),
            columns == vec4<u32>(u32(decision.label)),
        );
        let grad = es * decision.student_scale - et * decision.teacher_scale - share;
        store_grad(row.grad, first, bitcast<vec4<u32>>(grad));
    }
}
