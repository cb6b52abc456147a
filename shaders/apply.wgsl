// apply: the gradient of the weighted-target cross-entropy, from each row's decision.
//
//   grad_i = student_scale e^(s_i - ms) - teacher_scale e^(t_i - mt) - label_share [i = label] - uniform_share
//
// s, t: logits over their temperatures; ms, mt: their maxima. This is scale * (p_i - y_i) / student_temperature of `distill`.
// student_logits, teacher_logits, grad_student_logits: [rows, classes]; decisions: [rows]; class_weights: [classes].
// LANES invocations own a row, or a segment of one. Each logit is read once, each gradient element written once. f32, no sums.

@group(0) @binding(0) var<uniform> params: Params;
#if student_bound
@group(0) @binding(1) var<storage, $INPUT_ACCESS> student_logits: array<StudentWord>;  // [rows, student_stride]
#end
#if teacher_row
@group(0) @binding(2) var<storage, $INPUT_ACCESS> teacher_logits: array<TeacherWord>;  // [rows, teacher_stride]
#end
#if gradient
@group(0) @binding(4) var<storage, read_write> grad_student_logits: array<GradWord>;  // [rows, grad_stride]
#end
#if class_weights
@group(0) @binding(7) var<storage, $INPUT_ACCESS> class_weights: array<u32>;  // [classes], f32
#end
@group(0) @binding(8) var<storage, read> decisions: array<Decision>;  // [rows]
#if soft_labels
@group(0) @binding(9) var<storage, $INPUT_ACCESS> soft_labels: array<SoftLabelWord>;  // [rows, soft_label_stride]
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
#if teacher_row
#import teacher
#import $TEACHER_ROWS THIS=teacher
#end
#import $GRAD_STORE
#import main

fn kernel(workgroup: u32, invocation: Invocation) {
    let segments = params.rows * params.segments;
    for (var group = workgroup; group * ROWS_PER_WORKGROUP < segments; group += params.workgroups) {
        let index = group * ROWS_PER_WORKGROUP + invocation.row;
        if (index < segments) {
            let row = index / params.segments;
            let segment = segment_at(row, index % params.segments, true);
            let decision = decisions[params.decision_offset + row];
#if standardized
            set_deviations(decision.student_deviation, decision.teacher_deviation);
#end
            if (is_filled(decision.result.flags)) {
                fill_vectors(segment, invocation, decision.result.flags);
            } else {
                apply_vectors(segment, segment.vectors, invocation, decision);
            }
        }
    }
}
