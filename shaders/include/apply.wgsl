// Apply: grad_i = student_scale e^(s_i - ms) - teacher_scale e^(t_i - mt) - label_share [i = label] - uniform_share.
// Each logit is loaded once, each gradient element stored once.

// Rows without a gradient of their own get the same everywhere: 0 where they are ignored, else NaN. Their logits are not read.
fn is_filled(flags: u32) -> bool {
    return (flags & (IGNORED | NON_FINITE | INVALID_LABEL)) != 0u;
}

fn fill_units(row: Row, invocation: Invocation, flags: u32) {
    let fill = vec4<u32>(select(params.nan_bits, 0u, (flags & IGNORED) != 0u));
    for (var unit = invocation.lane; unit < row.units; unit += LANES) {
        store_grad(row.grad, (row.start + unit) * 4u - row.head, fill);
    }
}

// The gradient of 4 classes from their exponentials, already scaled.
fn apply_unit(row: Row, first: u32, es: vec4<f32>, et: vec4<f32>, decision: Decision) {
    let share = select(
        vec4<f32>(decision.uniform_share),
        vec4<f32>(decision.uniform_share + decision.label_share),
        columns_of(first) == vec4<u32>(u32(decision.label)),
    );
    store_grad(row.grad, first, bitcast<vec4<u32>>(es - et - share));
}

// Units 0 .. units - 1 of the row's segment, backwards: their end is what the sweep before read last.
fn apply_units(row: Row, units: u32, invocation: Invocation, decision: Decision) {
    let blocks = (units + TILE_VECTORS - 1u) / TILE_VECTORS;
    for (var block = 1u; block <= blocks; block++) {
        let start = units - block * TILE_VECTORS + invocation.lane;
        // All loads of a block before its first store: no compiler may move a load across a store that could meet it.
#unroll
        let unit_$i = start + $iu * LANES;
        let first_$i = (row.start + min(unit_$i, units - 1u)) * 4u - row.head;
        let s_$i = load_student(row.student, first_$i);
        let t_$i = load_teacher(row.teacher, first_$i);
#end
#unroll
        if (unit_$i < units) {
            let es = exp2((s_$i - decision.student_max) * params.student_log2) * decision.student_scale;
            let et = exp2((t_$i - decision.teacher_max) * params.teacher_log2) * decision.teacher_scale;
            let seen = columns_of(first_$i) < vec4<u32>(params.teacher_classes);
            apply_unit(row, first_$i, es, select(vec4<f32>(), et, seen), decision);
        }
#end
    }
}
