// Decide: TSSR, loss and gradient coefficients of a row from its statistics (docs/METHOD.md, sections 5 and 6).

#import log_sum

// TSSR from TSTR and KDR.
fn select_tssr(kdr: f32) -> f32 {
    switch params.selection {
        case 0u: { return max(params.tstr, kdr); }
        case 1u: { return min(params.tstr, kdr); }
        case 2u: { return 0.5 * (params.tstr + kdr); }
        case 3u: { return params.tstr * kdr; }
        case 4u: { return params.tstr; }
        case 5u: { return kdr; }
        default: { return params.fixed; }
    }
}

// share * term, and 0 if the share is 0: 0 * inf is NaN.
fn weigh(share: f32, term: f32) -> f32 {
    return select(share * term, 0.0, share == 0.0);
}

// loss = tssr * hard + (1 - tssr) * soft, in nats; `value` is valid only if `infinite` is false.
struct Loss {
    value: f32,
    infinite: bool,
}

fn row_loss(stats: RowStats, tssr: f32) -> Loss {
    let log_zs = log_sum(stats.student_sum);
    let label_masked = stats.label_logit == 0xff800000u;
    var hard = log_zs - (bitcast<f32>(stats.label_logit) - stats.student_max) * params.student_inverse;
    var hard_infinite = label_masked;
    if (SMOOTHING) {
        hard_infinite = label_masked || (stats.flags & STUDENT_MASKED) != 0u;
        let uniform_part = log_zs - stats.student_offset / f32(params.classes);
        hard = (1.0 - params.smoothing) * hard + params.smoothing * uniform_part;
    }
    let soft = log_zs + (stats.difference - stats.moment) / stats.teacher_sum;
    let soft_infinite = stats.masked_mass > 0.0;
    let infinite = (hard_infinite && tssr > 0.0) || (soft_infinite && tssr < 1.0);
    let loss = weigh(tssr, select(hard, 0.0, hard_infinite)) + weigh(1.0 - tssr, select(soft, 0.0, soft_infinite));
    return Loss(loss * params.loss_factor, infinite);
}

fn decide(stats: RowStats, tssr_kdr: f32, denominator: f32) -> Decision {
    var decision: Decision;
    decision.label = stats.label;
    decision.student_max = stats.student_max;
    decision.teacher_max = stats.teacher_max;
    decision.result.flags = stats.flags;
    if ((stats.flags & IGNORED) != 0u) {
        return decision;
    }
    decision.result.kdr = stats.kdr;
    let nan = params.nan_bits;
    if ((stats.flags & NON_FINITE) != 0u) {
        decision.result = RowResult(nan, nan, nan, stats.flags);
        return decision;
    }
    let tssr = select_tssr(tssr_kdr);
    decision.result.tssr = bitcast<u32>(tssr);
    if ((stats.flags & INVALID_LABEL) != 0u) {
        decision.result.loss = nan;
        return decision;
    }
    let loss = row_loss(stats, tssr);
    decision.result.loss = select(bitcast<u32>(loss.value), params.infinity_bits, loss.infinite);
    let w = params.grad_factor / denominator;
    decision.student_scale = w / stats.student_sum;
    decision.teacher_scale = w * (1.0 - tssr) / stats.teacher_sum;
    decision.label_share = w * tssr * (1.0 - params.smoothing);
    decision.uniform_share = w * tssr * params.smoothing / f32(params.classes);
    return decision;
}
