// Decide: TSSR, loss and gradient coefficients of a row from its statistics (docs/METHOD.md, sections 5 and 6).
// `divergence_of` is the rule of the soft part, in shaders/divergences/.

#import log_sum
#import temperatures

// The soft part and the coefficients of its gradient with respect to s: student p - teacher q + first f1 + second f2. A sampled token
// has [i = label] in place of q.
struct SoftPart {
    value: f32,        // in nats; valid only if `infinite` is false
    infinite: bool,
    undefined: bool,   // infinite, without a gradient
    student: f32,
    teacher: f32,
    first: f32,
    second: f32,
    label: f32,        // with LABEL_APART, the gradient at the label; `student` and `teacher` are then those of the other classes
    hard: f32,         // multiplies the hard part
    inverse: f32,      // multiplies the inverses of the normalisers, for the shape
}

fn soft_part(value: f32, infinite: bool, undefined: bool, student: f32, teacher: f32, first: f32, second: f32) -> SoftPart {
    return SoftPart(value, infinite, undefined, student, teacher, first, second, 0.0, 1.0, 1.0);
}

// A value with a gradient of p and q alone.
fn plain_part(value: f32, infinite: bool) -> SoftPart {
    return soft_part(value, infinite, false, 1.0, 1.0, 0.0, 0.0);
}

#if label_apart
// The bound of log-odds, so that products with them are finite.
const MOST_LOG_ODDS: f32 = 1e37;

// ln(p / (1 - p)) of the label's probability p, from its logit and the sum of the other classes.
fn label_log_odds(logit: u32, largest: f32, inverse: f32, rest: f32) -> f32 {
    if (logit == 0xff800000u) {
        return -MOST_LOG_ODDS;
    }
    if (!(rest > 0.0)) {
        return MOST_LOG_ODDS;
    }
    return clamp((bitcast<f32>(logit) - largest) * inverse - log(rest), -MOST_LOG_ODDS, MOST_LOG_ODDS);
}

// ln(1 + e^x)
fn softplus(x: f32) -> f32 {
    return max(x, 0.0) + log_sum(1.0 + exp(-abs(x)));
}

// Below -87 it is 0 in f32, and e^(- x) overflows.
fn sigmoid(x: f32) -> f32 {
    return select(0.0, 1.0 / (1.0 + exp(-max(x, -87.0))), x >= -87.0);
}
#end

#if sampled
// r = ln q_c - ln p_c of the sampled token, within the clamp. `slope` is 1, or 0 beyond the clamp.
struct SampledToken {
    r: f32,
    slope: f32,
}

fn sampled_token(stats: RowStats) -> SampledToken {
    let bound = params.rule_first;
    let student_masked = stats.label_logit == 0xff800000u;
    let teacher_masked = stats.teacher_label_logit == 0xff800000u;
    if (student_masked || teacher_masked) {
        return SampledToken(select(0.0, bound, student_masked) - select(0.0, bound, teacher_masked), 0.0);
    }
    // Bounded, so that no difference overflows.
    let log_q = clamp(bitcast<f32>(stats.teacher_label_logit), -1e37, 1e37);
    let distance = max((bitcast<f32>(stats.label_logit) - stats.student_max) * student_inverse(), -1e37);
    let r = (log_q - distance) + log_sum(stats.student_sum);
    return SampledToken(clamp(r, -bound, bound), select(0.0, 1.0, abs(r) <= bound));
}

// e^r - 1 - r, by its series where the difference would cancel.
fn exp_beyond_line(r: f32) -> f32 {
    let series = 0.16666667 + r * (0.041666668 + r * (0.008333334 + r * (0.0013888889 + r * 0.0001984127)));
    return select(exp(r) - 1.0 - r, r * r * (0.5 + r * series), abs(r) < 0.5);
}

// The gradient is `by_r` (p - [i = label]): the token takes the place of q.
fn sampled_part(value: f32, by_r: f32) -> SoftPart {
    return soft_part(value, false, false, by_r, by_r, 0.0, 0.0);
}
#end

#import $DIVERGENCE

// The share of `Margin`: with it, the target's label is `threshold` above the teacher's largest class, or above the teacher's label if that
// is the largest.
fn margin_share(stats: RowStats, threshold: f32) -> f32 {
    let sum = stats.teacher_sum;
    let masked = stats.teacher_label_logit == 0xff800000u;
    let offset = bitcast<f32>(stats.teacher_label_logit) - stats.teacher_max;
    if (masked || offset < 0.0) {
        let distance = (1.0 - select(exp2(offset * teacher_log2()), 0.0, masked)) / sum;
        return (distance + threshold) / (1.0 + distance);
    }
    // The label is the largest class. 1 - q of it is (sum - 1) / sum.
    let rest = max(sum - 1.0, 1e-37);
    return select(1.0, threshold * sum / rest, threshold * sum <= rest);
}

// TSSR from TSTR and KDR, or from the teacher's margin.
fn select_tssr(stats: RowStats, kdr: f32) -> f32 {
    switch params.selection {
        case SELECTION_MAX: { return max(params.tstr, kdr); }
        case SELECTION_MIN: { return min(params.tstr, kdr); }
        case SELECTION_MEAN: { return 0.5 * (params.tstr + kdr); }
        case SELECTION_PRODUCT: { return params.tstr * kdr; }
        case SELECTION_TSTR: { return params.tstr; }
        case SELECTION_KDR: { return kdr; }
        case SELECTION_MARGIN: { return margin_share(stats, params.selection_number); }
        default: { return params.selection_number; }
    }
}

// The derivative of TSSR with respect to KDR.
fn select_slope(kdr: f32) -> f32 {
    switch params.selection {
        case SELECTION_MAX: { return select(0.0, 1.0, kdr > params.tstr); }
        case SELECTION_MIN: { return select(0.0, 1.0, kdr < params.tstr); }
        case SELECTION_MEAN: { return 0.5; }
        case SELECTION_PRODUCT: { return params.tstr; }
        case SELECTION_KDR: { return 1.0; }
        default: { return 0.0; }
    }
}

// share * term, and 0 if the share is 0: 0 * inf is NaN.
fn weigh(share: f32, term: f32) -> f32 {
    return select(share * term, 0.0, share == 0.0);
}

// share * hard + (1 - share) * soft, without rounding if both are equal.
fn mixed(share: f32, hard: f32, soft: f32) -> f32 {
    return select(share * hard + (1.0 - share) * soft, hard, hard == soft);
}

// The number of classes that share the smoothed part of the label's distribution.
fn smoothed_classes(stats: RowStats) -> f32 {
    if (SMOOTHING_UNMASKED) {
        return stats.student_count;
    }
    return f32(params.classes);
}

// The cross-entropy with the label, in nats; `value` is valid only if `infinite` is false.
struct HardPart {
    value: f32,
    infinite: bool,
    normaliser: f32,  // of the student at the temperature of the hard part
}

#if label_weighted
// With the weights of classes: - sum v_i EK_i ln h_i.
fn hard_part(stats: RowStats) -> HardPart {
    var normaliser = stats.student_sum;
    var offset = stats.weighted_offset;
    if (HARD_OWN) {
        normaliser = stats.hard_sum;
        offset *= hard_ratio();
    }
    let log_sum_exp = log_sum(normaliser);
    let label = (1.0 - params.smoothing) * stats.class_weight;
    var value = weigh(label, log_sum_exp - (bitcast<f32>(stats.label_logit) - stats.student_max) * hard_inverse());
    var infinite = label > 0.0 && stats.label_logit == 0xff800000u;
    if (SMOOTHING) {
        infinite = infinite || stats.masked_weight > 0.0;
        value += params.smoothing / f32(params.classes) * (stats.weight_sum * log_sum_exp - offset);
    }
    return HardPart(select(value, 0.0, infinite), infinite, normaliser);
}

// sum v_i EK_i
fn hard_mass(stats: RowStats) -> f32 {
    var mass = (1.0 - params.smoothing) * stats.class_weight;
    if (SMOOTHING) {
        mass += params.smoothing / f32(params.classes) * (stats.weight_sum + stats.masked_weight);
    }
    return mass;
}
#end

#if label_equal
fn hard_part(stats: RowStats) -> HardPart {
    var normaliser = stats.student_sum;
    if (HARD_OWN) {
        normaliser = stats.hard_sum;
    }
    let log_sum_exp = log_sum(normaliser);
    let label_masked = stats.label_logit == 0xff800000u;
    var value = log_sum_exp - (bitcast<f32>(stats.label_logit) - stats.student_max) * hard_inverse();
    var infinite = label_masked;
    if (SOFT_LABELS && (stats.flags & SOFT_LABEL) != 0u) {
        var moment = stats.soft_label_moment;
        if (HARD_OWN) {
            moment *= hard_ratio();
        }
        value = stats.soft_label_sum * log_sum_exp - moment;
        infinite = (stats.flags & SOFT_LABEL_MASKED) != 0u;
    }
    if (SMOOTHING) {
        infinite |= !SMOOTHING_UNMASKED && (stats.flags & STUDENT_MASKED) != 0u;
        var offset = stats.student_offset / smoothed_classes(stats);
        if (HARD_OWN) {
            offset *= hard_ratio();
        }
        value = (1.0 - params.smoothing) * value + params.smoothing * (log_sum_exp - offset);
    }
    return HardPart(select(value, 0.0, infinite), infinite, normaliser);
}
#end

// The sum of the label's distribution, without weights of classes.
fn label_mass(stats: RowStats) -> f32 {
    if ((stats.flags & SOFT_LABEL) == 0u) {
        return 1.0;
    }
    if (SMOOTHING) {
        return (1.0 - params.smoothing) * stats.soft_label_sum + params.smoothing;
    }
    return stats.soft_label_sum;
}

// Returns true if a row without a finite result is left out. A label out of range stays visible.
fn is_skipped(flags: u32) -> bool {
    return params.skip_non_finite != 0u && (flags & INVALID_LABEL) == 0u;
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
#if standardized
    decision.student_deviation = stats.student_deviation;
    decision.teacher_deviation = stats.teacher_deviation;
    set_deviations(stats.student_deviation, stats.teacher_deviation);
#end
    let nan = params.nan_bits;
    if ((stats.flags & NON_FINITE) != 0u) {
        if (is_skipped(stats.flags)) {
            decision.result.flags |= SKIPPED;
            return decision;
        }
        decision.result = RowResult(nan, nan, nan, stats.flags);
        return decision;
    }
    decision.result.kdr = stats.kdr;
    let tssr = select_tssr(stats, tssr_kdr);
    decision.result.tssr = bitcast<u32>(tssr);
    if ((stats.flags & INVALID_LABEL) != 0u) {
        decision.result.loss = nan;
        if (params.selection == SELECTION_MARGIN) {
            decision.result.tssr = nan;
        }
        return decision;
    }
    var hard = hard_part(stats);
    var soft = divergence_of(stats);
    hard.value *= soft.hard;
    soft.value = select(soft.value, 0.0, soft.infinite);
    let hard_share = tssr * params.hard_loss_factor;
    let soft_share = (1.0 - tssr) * params.soft_loss_factor;
    var loss = weigh(hard_share, hard.value) + weigh(soft_share, soft.value);
    var log_sum_exp = 0.0;
    if (params.z_loss > 0.0) {
        log_sum_exp = stats.student_max * hard_inverse() + log_sum(hard.normaliser);
        loss += params.z_loss * log_sum_exp * log_sum_exp;
    }
    let infinite = (hard.infinite && hard_share > 0.0) || (soft.infinite && soft_share > 0.0);
    if (params.clamps_loss != 0u && (infinite || loss < params.loss_least || loss > params.loss_greatest)) {
        let bound = select(clamp(loss, params.loss_least, params.loss_greatest), params.loss_greatest, infinite);
        decision.result.loss = bitcast<u32>(bound * stats.weight);
        decision.result.flags |= CLAMPED;
        return decision;
    }
    if (soft.undefined && soft_share > 0.0 && stats.weight != 0.0) {
        decision.result.flags |= NO_GRADIENT;
        if (is_skipped(stats.flags)) {
            decision.result = RowResult(0u, 0u, 0u, decision.result.flags | SKIPPED);
            return decision;
        }
    }

    // The scale of the reduction divides every factor of the gradient.
    var hard_scale = params.hard_grad_factor * soft.hard / denominator;
    var soft_weight = params.soft_grad_factor / denominator;
#if standardized
    soft_weight *= student_unit;
    if (!HARD_OWN) {
        hard_scale *= student_unit;
    }
#end
#if label_equal
    let hard_weight = hard_scale;
#end
#if label_weighted
    let hard_weight = hard_scale * hard_mass(stats);
#end
    let soft_rest = soft_weight * (1.0 - tssr);
    var weight_of_h = hard_weight;
    if (SOFT_LABELS) {
        weight_of_h *= label_mass(stats);
    }
    var student = mixed(tssr, weight_of_h, soft_weight * soft.student);
    var teacher = soft_rest * soft.teacher;
    var hard_student = 0.0;
    if (HARD_OWN) {
        student = soft_rest * soft.student;
        hard_student = weight_of_h * tssr;
    }
    decision.first_scale = soft_rest * soft.first;
    decision.second_scale = soft_rest * soft.second;
    if (TSSR_ATTACHED) {
        let difference = weigh(params.hard_loss_factor, hard.value) - weigh(params.soft_loss_factor, soft.value);
        let by_kdr = params.grad_loss * params.student_inverse / denominator * difference * select_slope(tssr_kdr);
        attach_tssr(stats, by_kdr, &student, &teacher, &decision);
    }
    var z_weight = 0.0;
    if (params.z_loss > 0.0) {
        z_weight = params.z_grad_factor * log_sum_exp / denominator;
        if (HARD_OWN) {
            hard_student += z_weight;
        } else {
            student += z_weight;
        }
    }
    decision.result.loss = weighted_loss(loss, infinite, stats.weight);
    decision.student_inverse = 1.0 / stats.student_sum;
    decision.student_scale = student * decision.student_inverse;
    decision.student_inverse *= soft.inverse;
#if teacher_known
    decision.teacher_inverse = 1.0 / stats.teacher_sum;
    decision.teacher_scale = teacher * decision.teacher_inverse;
    decision.teacher_inverse *= soft.inverse;
#end
    if (HARD_OWN) {
        decision.hard_scale = hard_student / hard.normaliser;
    }
    decision.label_share = hard_weight * tssr;
    if (SMOOTHING) {
        decision.label_share *= 1.0 - params.smoothing;
        decision.uniform_share = hard_scale * tssr * params.smoothing / smoothed_classes(stats);
    }
#if smoothing_weighted
    decision.label_share = hard_scale * tssr * (1.0 - params.smoothing) * stats.class_weight;
#end
#if sampled
    decision.label_share += teacher;
#end
#if standardized
    through_deviation(stats, student, teacher, &decision);
#end
#if label_apart
    leave_label_out(stats, hard_weight * tssr, z_weight, soft_rest, soft, &decision);
#end
    return weigh_gradient(decision, stats.weight);
}

// The bits of the row's loss times its weight; a weight of 0 gives 0 even if the loss is infinite.
fn weighted_loss(loss: f32, infinite: bool, weight: f32) -> u32 {
    let signed = params.infinity_bits | (bitcast<u32>(weight) & 0x80000000u);
    return select(bitcast<u32>(loss * weight), signed, infinite && weight != 0.0);
}

fn weigh_gradient(decision: Decision, weight: f32) -> Decision {
    var y = decision;
    y.student_scale *= weight;
    y.teacher_scale *= weight;
    y.hard_scale *= weight;
    y.first_scale *= weight;
    y.second_scale *= weight;
    y.label_share *= weight;
    y.uniform_share *= weight;
    y.label_gradient = bitcast<u32>(bitcast<f32>(y.label_gradient) * weight);
    return y;
}

#if label_apart
// The coefficients of the classes beside the label, relative to their own maxima, and the gradient at the label.
fn leave_label_out(stats: RowStats, hard_weight: f32, z_weight: f32, soft_weight: f32, soft: SoftPart, decision: ptr<function, Decision>) {
    let student = label_log_odds(stats.label_logit, stats.rest_student_max, params.student_inverse, stats.rest_student_sum);
    var hard = student;
    var student_rest = soft_weight * soft.student;
    if (HARD_OWN) {
        hard = label_log_odds(stats.label_logit, stats.rest_student_max, params.hard_inverse, stats.rest_hard_sum);
        let hard_rest = (hard_weight + z_weight) * sigmoid(-hard);
        (*decision).hard_scale = select(0.0, hard_rest / stats.rest_hard_sum, stats.rest_hard_sum > 0.0);
    } else {
        student_rest += (hard_weight + z_weight) * sigmoid(-student);
    }
    let e = params.smoothing;
    var smoothed = 1.0 / smoothed_classes(stats);
    if (SMOOTHING_UNMASKED && stats.label_logit == 0xff800000u) {
        smoothed = 0.0;
    }
    let at_label = hard_weight * (e * (1.0 - smoothed) - sigmoid(-hard)) + z_weight * sigmoid(hard) + soft_weight * soft.label;
    (*decision).student_max = stats.rest_student_max;
    (*decision).teacher_max = stats.rest_teacher_max;
    (*decision).student_scale = select(0.0, student_rest / stats.rest_student_sum, stats.rest_student_sum > 0.0);
    (*decision).teacher_scale = select(0.0, soft_weight * soft.teacher / stats.rest_teacher_sum, stats.rest_teacher_sum > 0.0);
    (*decision).label_gradient = bitcast<u32>(at_label);
    (*decision).owns_label = 1u;
}
#end

#if standardized
// Adds the gradient through the student's standard deviation, the terms of the shape `Linear`. `student` and `teacher` are the factors of
// p and q. The class of a masked logit takes no part.
fn through_deviation(stats: RowStats, student: f32, teacher: f32, decision: ptr<function, Decision>) {
    let deviation = stats.student_deviation;
    if (!(deviation > 0.0)) {
        return;
    }
    // Of s - ms.
    let mean = stats.student_offset / stats.student_count;
    // The sum of the gradient so far times s - mean s. Terms without p, q and the label sum to 0.
    var slope = student * (stats.student_moment / stats.student_sum - mean);
    slope -= teacher * (stats.soft_moment - mean * (stats.teacher_sum - stats.masked_mass)) / stats.teacher_sum;
    if (!HARD_OWN && stats.label_logit != 0xff800000u) {
        let label = (bitcast<f32>(stats.label_logit) - stats.student_max) * student_inverse();
        slope -= (*decision).label_share * (label - mean);
    }
    let squared = params.student_inverse * params.student_inverse;
    let factor = slope * ((deviation + DEVIATION_FLOOR) / deviation) / ((stats.student_count - 1.0) * squared);
    (*decision).first_scale = -factor;
    (*decision).second_scale = factor * mean;
}
#end

// Adds the gradient through KDR; `by_kdr` is the derivative of the loss with respect to it, in the unit of the gradient.
fn attach_tssr(stats: RowStats, by_kdr: f32, student: ptr<function, f32>, teacher: ptr<function, f32>, decision: ptr<function, Decision>) {
    let kdr = bitcast<f32>(stats.kdr);
#if cosine
    let student_norm = sqrt(stats.student_square) / stats.student_sum;
    let teacher_norm = sqrt(stats.teacher_square) / stats.teacher_sum;
    (*decision).first_scale += by_kdr / (student_norm * teacher_norm);
    (*decision).second_scale -= by_kdr * kdr / (student_norm * student_norm);
#end
#if bhattacharyya
    (*decision).first_scale += 0.5 * by_kdr;
    *student -= 0.5 * by_kdr * kdr;
#end
#if exp_neg_kl
    *student -= by_kdr * kdr;
    *teacher -= by_kdr * kdr;
#end
}
