// softmax: probabilities of a temperature softmax.
//
//   p_i = e^((x_i - max x) / temperature) / sum_j e^((x_j - max x) / temperature)
//
// student_logits: the logits [rows, classes]; grad_student_logits: the probabilities [rows, classes]. No gradient.
// LANES invocations own a row. Each logit is read twice (online maximum and sum, then the quotient), each probability written once.
// Sums are f32, four a lane. A logit of -inf gives exactly 0; a row with NaN or +inf, or with only -inf, gives NaN.

@group(0) @binding(0) var<uniform> params: Params;
#if student_bound
@group(0) @binding(1) var<storage, $INPUT_ACCESS> student_logits: array<StudentWord>;  // [rows, student_stride]
#end
#if gradient
@group(0) @binding(4) var<storage, read_write> grad_student_logits: array<GradWord>;  // [rows, grad_stride]
#end

#import params
#import sums
#import invocation
#import row
#import student
#import $STUDENT_ROWS THIS=student
#import $GRAD_STORE
#import $REDUCE

fn kernel(workgroup: u32, invocation: Invocation) {
    for (var group = workgroup; group * ROWS_PER_WORKGROUP < params.rows; group += params.workgroups) {
        let index = group * ROWS_PER_WORKGROUP + invocation.row;
        let row = row_at(min(index, params.rows - 1u), index < params.rows);
        softmax_row(row, invocation);
    }
}

// Must be called in uniform control flow.
fn softmax_row(row: Row, invocation: Invocation) {
    var largest = LOWEST;
    var sum = vec4<f32>();
    var live = 0.0;
    var broken = 0.0;
    for (var vector = invocation.lane; vector < row.vectors; vector += LANES) {
        let first = vector * 4u - row.misalignment;
        let x = load_student(row.student, first);
        let bits = bitcast<vec4<u32>>(x);
        let inside = columns_of(first) < vec4<u32>(params.classes);
        let finite = (bits & vec4<u32>(0x7fffffffu)) < vec4<u32>(0x7f800000u);
        let ok = inside & finite;
        let y = select(vec4<f32>(LOWEST), x, ok);
        let new_largest = max(largest, max(max(y.x, y.y), max(y.z, y.w)));
        // Clamped: the distance from LOWEST overflows, and 0 * inf is NaN.
        sum *= exp2(max((largest - new_largest) * params.student_log2, -1e4));
        sum += select(vec4<f32>(), exp2((y - new_largest) * params.student_log2), ok);
        largest = new_largest;
        live = select(live, 1.0, any(ok));
        broken = select(broken, 1.0, any(inside & !finite & (bits != vec4<u32>(0xff800000u))));
    }
    let row_largest = reduce_max(largest, invocation);
    let own = ((sum.x + sum.z) + (sum.y + sum.w)) * exp2(max((largest - row_largest) * params.student_log2, -1e4));
    let scale = 1.0 / reduce_add(own, invocation);
    let is_broken = reduce_max(broken, invocation) > 0.0;
    let is_live = reduce_max(live, invocation) > 0.0;
    for (var done = invocation.lane; done < row.vectors; done += LANES) {
        let first = (row.vectors - 1u - done) * 4u - row.misalignment;
        let p = exp2((load_student(row.student, first) - row_largest) * params.student_log2) * scale;
        store_grad(row.grad, first, select(bitcast<vec4<u32>>(p), vec4<u32>(params.nan_bits), is_broken || !is_live));
    }
}
