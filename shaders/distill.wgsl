// distill: loss, KDR, TSSR and gradient from logits in one dispatch: observe, decide and apply. `Row` and `Given` scope.
//
//   p = softmax(student_logits / student_temperature), q = softmax(teacher_logits / teacher_temperature)
//   kdr = similarity(p, q), tssr = selection(tstr, kdr), y = tssr * EK + (1 - tssr) * q, EK: the label, smoothed
//   loss = - sum y ln p,   grad_student_logits = scale * (p - y) / student_temperature,   both times the row's weight
//
// student_logits, teacher_logits, grad_student_logits: [rows, classes], each with its own row stride and storage type;
// labels, row_weights: [rows]; class_weights: [classes].
// LANES invocations own a row. The last 4 * VECTORS_PER_LANE * LANES classes of a row are read once: their exponentials stay in registers.
// The classes before them are read once more to apply, in reverse, and once more for similarities with a second sweep.
// Each gradient element is written once. Sums are f32, relative to the lane's maxima, merged in a fixed order.

@group(0) @binding(0) var<uniform> params: Params;
#if student_bound
@group(0) @binding(1) var<storage, $INPUT_ACCESS> student_logits: array<StudentWord>;  // [rows, student_stride]
#end
@group(0) @binding(2) var<storage, $INPUT_ACCESS> teacher_logits: array<TeacherWord>;  // [rows, teacher_stride]
@group(0) @binding(3) var<storage, $INPUT_ACCESS> labels: array<i32>;  // [rows] of one or two words
#if gradient
@group(0) @binding(4) var<storage, read_write> grad_student_logits: array<GradWord>;  // [rows, grad_stride]
#end
#if results_alone
@group(0) @binding(5) var<storage, read_write> row_results: array<RowResult>;  // [rows], if requested
#end
#if metrics
@group(0) @binding(5) var<storage, read_write> row_metrics: array<RowReport>;  // [rows]
#end
@group(0) @binding(6) var<storage, read_write> partials: array<PartialSummary>;  // [workgroups], then the counts of `valid_rows`
#if class_weights
@group(0) @binding(7) var<storage, $INPUT_ACCESS> class_weights: array<u32>;  // [classes], f32
#end
#if weighted_rows
@group(0) @binding(8) var<storage, $INPUT_ACCESS> row_weights: array<u32>;  // [rows], f32
#end
#if soft_labels
@group(0) @binding(9) var<storage, $INPUT_ACCESS> soft_labels: array<SoftLabelWord>;  // [rows, soft_label_stride]
#end
#if listed
@group(0) @binding(10) var<storage, $INPUT_ACCESS> teacher_ids: array<i32>;  // [rows, teacher_classes]
#end

#import params
#import invocation
#import labels
#import row
#if class_weights
#import class_weights
#end
#import statistics
#import decide
#if metrics
#import report
#end
#import partial
#import accumulator
#import apply
#import apply_kept
#import student
#import teacher
#import $STUDENT_ROWS THIS=student
#import $TEACHER_ROWS THIS=teacher
#import $GRAD_STORE
#import count

// The rows of a group. Returns the summary of the invocation's row, to its lane 0. Must be called in uniform control flow.
fn distill_group(group: u32, invocation: Invocation, denominator: f32) -> PartialSummary {
    let index = group * ROWS_PER_WORKGROUP + invocation.row;
    let exists = index < params.rows;
    // Lanes beyond the last row do no work but take part, because barriers need all invocations.
    let at = min(index, params.rows - 1u);
    let label = label_at(at);
    let ignored = label == params.ignore_index;
    let row = row_at(at, exists && !ignored);
    let stats = row_stats_of(row, invocation, label, weight_of(at), ignored || !exists);
    let kdr = select(bitcast<f32>(stats.kdr), params.given_kdr, params.scope == SCOPE_GIVEN);
    let decision = decide(stats, kdr, denominator);
    var summary: PartialSummary;
    if (exists && invocation.lane == 0u) {
#if results_alone
        summary = partial_of(decision.result, denominator);
        if (params.write_results != 0u) {
            row_results[params.result_offset + index] = decision.result;
        }
#end
#if metrics
        let metrics = metrics_of(stats, decision.result);
        summary = with_metrics(partial_of(decision.result, denominator), metrics);
        row_metrics[params.result_offset + index] = report_of(decision.result, metrics);
#end
    }
    if (WRITE_GRAD) {
        apply_row(row_at(at, exists), invocation, decision);
    }
    return summary;
}

fn kernel(workgroup: u32, invocation: Invocation) {
    let denominator = row_denominator(invocation);
#if one_group
    let sum = reduce_partials(distill_group(workgroup, invocation, denominator), invocation);
#end
#if many_groups
    var accumulator: SummaryAccumulator;
    for (var group = workgroup; group * ROWS_PER_WORKGROUP < params.rows; group += params.workgroups) {
        add_row(&accumulator, distill_group(group, invocation, denominator));
    }
    let sum = reduce_accumulators(accumulator, invocation);
#end
    if (invocation.row == 0u && invocation.lane == 0u) {
        partials[params.partial_offset + workgroup] = sum;
    }
}
