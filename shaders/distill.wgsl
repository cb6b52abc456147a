// distill: logits in, loss, KDR, TSSR and gradient out, in one dispatch. `Row` and `Given` scope.
//
//   p = softmax(student_logits / student_temperature), q = softmax(teacher_logits / teacher_temperature)
//   kdr = similarity(p, q), tssr = selection(tstr, kdr), y = tssr * EK + (1 - tssr) * q
//   loss = - sum y ln p,   grad_student_logits = scale * (p - y) / student_temperature
//
// student_logits, teacher_logits, grad_student_logits: [rows, classes], each with its own row stride and storage type; labels: [rows].
// LANES invocations own a row. A row of up to 4 * VECTORS_PER_LANE * LANES classes is read once: its exponentials stay in registers. Of a longer one
// that much stays, and the rest is read once more to apply (and once more for similarities with a second sweep), in reverse.
// Each gradient element is written once. Sums are kept in f32 relative to the lane's maxima, merged in a fixed order.

#import params
#import invocation
#import statistics
#import decide
#import partial
#import apply
#import apply_kept
#import $STUDENT_ROWS THIS=student
#import $TEACHER_ROWS THIS=teacher
#import $GRAD_STORE
#import count

$STUDENT_BINDING
$TEACHER_BINDING
@group(0) @binding(3) var<storage, $LABELS_ACCESS> labels: array<i32>;  // [rows]
$GRAD_BINDING
@group(0) @binding(5) var<storage, read_write> row_results: array<RowResult>;  // [rows], if asked for
@group(0) @binding(6) var<storage, read_write> partials: array<PartialSummary>;  // [workgroups]
@group(0) @binding(7) var<storage, read> valid_rows: array<u32>;  // [1]

fn kernel(workgroup: u32, invocation: Invocation) {
    let denominator = row_denominator(invocation);
    var tally: SummaryAccumulator;
    for (var block = workgroup; block * ROWS_PER_WORKGROUP < params.rows; block += params.workgroups) {
        let index = block * ROWS_PER_WORKGROUP + invocation.row;
        let exists = index < params.rows;
        // Lanes beyond the last row go along without work: barriers want all of them.
        let at = min(index, params.rows - 1u);
        let label = labels[params.label_offset + at];
        let ignored = label == params.ignore_index;
        let row = row_at(at, exists && !ignored);
        let stats = row_stats_of(row, invocation, label, ignored || !exists);
        let kdr = select(bitcast<f32>(stats.kdr), params.given_kdr, params.scope == SCOPE_GIVEN);
        let decision = decide(stats, kdr, denominator);
        if (exists && invocation.lane == 0u) {
            tally_up(&tally, partial_of(decision.result, denominator));
            if (params.write_results != 0u) {
                row_results[params.result_offset + index] = decision.result;
            }
        }
        if (WRITE_GRAD) {
            apply_row(row_at(at, exists), invocation, decision);
        }
    }
    let sum = reduce_tallies(tally, invocation);
    if (invocation.index == 0u) {
        partials[params.partial_offset + workgroup] = sum;
    }
}
