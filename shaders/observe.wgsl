// observe: Each row's mergeable statistics and the similarity of its two distributions (KDR).
//
//   s = student_logits / student_temperature, t = teacher_logits / teacher_temperature, ms = max s, mt = max t
//   sum e^(s-ms), sum e^(t-mt), A = sum e^(t-mt) ((t-mt) - (s-ms)), B = sum e^(t-mt) (t-mt), and what the similarity needs
//
// student_logits, teacher_logits: [rows, classes]; labels: [rows]. LANES invocations own a row, or a segment of one: segments are merged by
// `merge_row_stats`. Each logit is read once, twice for similarities with a second sweep. Sums are f32. No gradient: nothing is
// differentiated through KDR.

#import params
#import invocation
#import statistics
#import partial
#import $STUDENT_ROWS THIS=student
#import $TEACHER_ROWS THIS=teacher
#import store_none

$STUDENT_BINDING
$TEACHER_BINDING
@group(0) @binding(3) var<storage, $LABELS_ACCESS> labels: array<i32>;  // [rows]
@group(0) @binding(5) var<storage, read_write> row_stats: array<RowStats>;  // [rows, segments]
@group(0) @binding(6) var<storage, read_write> partials: array<PartialSummary>;  // [workgroups], KDR alone is summed

fn kernel(workgroup: u32, invocation: Invocation) {
    var tally: SummaryAccumulator;
    let segments = params.rows * params.segments;
    for (var block = workgroup; block * ROWS_PER_WORKGROUP < segments; block += params.workgroups) {
        let index = block * ROWS_PER_WORKGROUP + invocation.row;
        let exists = index < segments;
        let at = min(index, segments - 1u);
        let label = labels[params.label_offset + at / params.segments];
        let ignored = label == params.ignore_index;
        let segment = segment_at(at / params.segments, at % params.segments, exists && !ignored);
        let stats = row_stats_of(segment, invocation, label, ignored || !exists);
        if (exists && invocation.lane == 0u) {
            row_stats[params.stats_offset + index] = stats;
            if (params.segments == 1u) {
                tally_up(&tally, partial_of(RowResult(0u, stats.kdr, 0u, stats.flags), 1.0));
            }
        }
    }
    let sum = reduce_tallies(tally, invocation);
    if (invocation.index == 0u) {
        partials[params.partial_offset + workgroup] = sum;
    }
}
