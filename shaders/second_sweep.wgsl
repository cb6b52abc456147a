// second_sweep: the second sweep over the segments of a row, for similarities that need the row's normalisers first.
//
//   jensen-shannon  sum p log2(2p/(p+q)) + q log2(2q/(p+q))      overlap  sum min(p, q)      over the classes of a segment
//
// student_logits, teacher_logits: [rows, classes]; segment_stats, swept: [rows, segments]. LANES invocations own a segment.
// Each merges the statistics of all segments of its row for itself, which is less than a dispatch, then reads each logit once. f32.

#import params
#import types
#import sums
#import invocation
#import similarity
#import sweep
#import merge
#import store_none
#import $STUDENT_ROWS THIS=student
#import $TEACHER_ROWS THIS=teacher
#import $REDUCE

$STUDENT_BINDING
$TEACHER_BINDING
@group(0) @binding(5) var<storage, read> segment_stats: array<RowStats>;  // [rows, segments]
@group(0) @binding(8) var<storage, read_write> similarity_sums: array<f32>;  // [rows, segments]

fn kernel(workgroup: u32, invocation: Invocation) {
    let segments = params.rows * params.segments;
    for (var block = workgroup; block * ROWS_PER_WORKGROUP < segments; block += params.workgroups) {
        let index = block * ROWS_PER_WORKGROUP + invocation.row;
        let at = min(index, segments - 1u);
        let row = at / params.segments;
        let sums = merge_segments(row, invocation);
        let ignored = (sums.flags & IGNORED) != 0u;
        let segment = segment_at(row, at % params.segments, index < segments && !ignored);
        let sum = reduce_add(sweep_units(segment, segment.units, invocation, sums), invocation);
        if (index < segments && invocation.lane == 0u) {
            similarity_sums[index] = sum;
        }
    }
}
