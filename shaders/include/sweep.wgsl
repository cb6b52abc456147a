// The second sweep of the similarities that need a row's normalisers first.

// Two-level summation bounds the rounding error: vectors that a lane sums before it adds them to the sum of all.
const VECTORS_PER_PARTIAL_SUM: u32 = 64u;

// One lane's share of units 0 .. units - 1 of the row's segment, backwards: their end is what the first sweep read last.
fn sweep_units(row: Row, units: u32, invocation: Invocation, sums: Sums) -> f32 {
    var all = vec4<f32>();
    var recent = vec4<f32>();
    var vectors = 0u;
    let p_scale = 1.0 / sums.student_sum;
    let q_scale = 1.0 / sums.teacher_sum;
    for (var done = invocation.lane; done < units; done += LANES) {
        let first = (row.start + units - 1u - done) * 4u - row.head;
        let s = load_student(row.student, first);
        let t = load_teacher(row.teacher, first);
        let s_ok = columns_of(first) < vec4<u32>(params.classes);
        let t_ok = columns_of(first) < vec4<u32>(params.teacher_classes);
        let p = select(vec4<f32>(), exp2((s - sums.student_max) * params.student_log2) * p_scale, s_ok);
        let q = select(vec4<f32>(), exp2((t - sums.teacher_max) * params.teacher_log2) * q_scale, t_ok);
        recent += similarity_terms(p, q);
        vectors += 1u;
        if (vectors % VECTORS_PER_PARTIAL_SUM == 0u) {
            all += recent;
            recent = vec4<f32>();
        }
    }
    return total(all + recent);
}
