// apply: the gradient of the weighted-target cross-entropy, from each row's decision.
//
//   grad_i = student_scale e^(s_i - ms) - teacher_scale e^(t_i - mt) - label_share [i = label] - uniform_share
//
// s, t: logits over their temperatures; ms, mt: their maxima. This is scale * (p_i - y_i) / student_temperature of `distill`.
// student_logits, teacher_logits, grad_student_logits: [rows, classes]; decisions: [rows]; class_weights: [classes].
// Beside a list, `row_stats`, [rows], has the tail. LANES invocations own a row, or a segment of one. Each logit is read once, each gradient
// element written once. f32, no sums.

@group(0) @binding(0) var<uniform> params: Params;
#if student_bound
@group(0) @binding(1) var<storage, $INPUT_ACCESS> student_logits: array<StudentWord>;  // [rows, student_stride]
#end
#if teacher_known
@group(0) @binding(2) var<storage, $INPUT_ACCESS> teacher_logits: array<TeacherWord>;  // [rows, teacher_stride]
#end
#if gradient
@group(0) @binding(4) var<storage, read_write> grad_student_logits: array<GradWord>;  // [rows, grad_stride]
#end
#if listed
@group(0) @binding(5) var<storage, read> row_stats: array<RowStats>;  // [rows]
#end
#if class_weights
@group(0) @binding(7) var<storage, $INPUT_ACCESS> class_weights: array<u32>;  // [classes], f32
#end
@group(0) @binding(8) var<storage, read> decisions: array<Decision>;  // [rows]
#if soft_labels
@group(0) @binding(9) var<storage, $INPUT_ACCESS> soft_labels: array<SoftLabelWord>;  // [rows, soft_label_stride]
#end
#if listed
@group(0) @binding(10) var<storage, $INPUT_ACCESS> teacher_ids: array<i32>;  // [rows, teacher_classes]
#end

#import params
#import types
#import invocation
#import row
#if class_weights
#import class_weights
#end
#import apply
#import student
#import $STUDENT_ROWS THIS=student
#if teacher_known
#import teacher
#import $TEACHER_ROWS THIS=teacher
#end
#import $GRAD_STORE
#import main
#if sharded
#import shard
#end

fn decision_of(row: u32) -> Decision {
    var decision = decisions[params.decision_offset + row];
#if sharded
    decision.label = column_of(decision.label);
#end
    return decision;
}

// The gradient of a segment. With a list, its classes are in the table.
fn apply_segment(segment: Row, invocation: Invocation, decision: Decision) {
    if (is_filled(decision.result.flags)) {
        fill_vectors(segment, invocation, decision.result.flags);
    } else {
        apply_vectors(segment, segment.vectors, invocation, decision);
    }
}

fn kernel(workgroup: u32, invocation: Invocation) {
    let segments = params.rows * params.segments;
    for (var group = workgroup; group * ROWS_PER_WORKGROUP < segments; group += params.workgroups) {
        let index = group * ROWS_PER_WORKGROUP + invocation.row;
#if listed
        // Lanes beyond the last segment take part, because barriers need all invocations.
        let exists = index < segments;
        let at = min(index, segments - 1u);
        let row = at / params.segments;
        let segment = segment_at(row, at % params.segments, exists);
        let decision = decision_of(row);
        read_list(segment, invocation, exists && !is_filled(decision.result.flags));
        set_kept_tail(row_stats[row]);
        set_tail_scale(decision);
        apply_segment(segment, invocation, decision);
#end
#if not_listed
        if (index < segments) {
            let row = index / params.segments;
            let segment = segment_at(row, index % params.segments, true);
            let decision = decision_of(row);
#end
#if standardized
            set_deviations(decision.student_deviation, decision.teacher_deviation);
#end
#if not_listed
            apply_segment(segment, invocation, decision);
        }
#end
    }
}
