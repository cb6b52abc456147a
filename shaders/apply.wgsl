// apply: The gradient of the weighted-target cross-entropy from each row's decision.
//
//   grad_i = student_scale e^(s_i - ms) - teacher_scale e^(t_i - mt) - label_share [i = label] - uniform_share
//
// student_logits, teacher_logits, grad_student_logits: [rows, classes]; decisions: [rows]. LANES invocations own a row, or a segment of one.
// Each logit is read once, each gradient element written once; nothing is summed.

#import params
#import types
#import invocation
#import apply
#import $STUDENT_ROWS THIS=student
#import $TEACHER_ROWS THIS=teacher
#import $GRAD_STORE
#import main

$STUDENT_BINDING
$TEACHER_BINDING
$GRAD_BINDING
@group(0) @binding(8) var<storage, read> decisions: array<Decision>;  // [rows]

fn kernel(workgroup: u32, invocation: Invocation) {
    let segments = params.rows * params.segments;
    for (var block = workgroup; block * ROWS_PER_WORKGROUP < segments; block += params.workgroups) {
        let index = block * ROWS_PER_WORKGROUP + invocation.row;
        if (index < segments) {
            let row = index / params.segments;
            let segment = segment_at(row, index % params.segments, true);
            let decision = decisions[params.decision_offset + row];
            if (is_filled(decision.result.flags)) {
                fill_units(segment, invocation, decision.result.flags);
            } else {
                apply_units(segment, segment.units, invocation, decision);
            }
        }
    }
}
