// alpha-beta: (alpha PT + beta PS) / ((alpha + beta) alpha beta) - X / (alpha beta), each sum over its normalisers

fn divergence_of(stats: RowStats) -> SoftPart {
    let u = params.rule_first;
    let v = params.rule_second;
    let log_zs = log2(stats.student_sum);
    let log_zt = log2(stats.teacher_sum);
    let cross = stats.power_cross * exp2(-u * log_zt - v * log_zs);
    let student = stats.student_power * exp2(-(u + v) * log_zs);
    let teacher = stats.teacher_power * exp2(-(u + v) * log_zt);
    let value = (u / (u + v) * teacher + v / (u + v) * student - cross) / (u * v);
    return soft_part(max(value, 0.0), false, false, (cross - student) / u, 0.0, -1.0 / u, 1.0 / u);
}
