// observe: mergeable statistics of each row, and the similarity of its two distributions (KDR).
//
//   s = student_logits / student_temperature, t = teacher_logits / teacher_temperature, ms = max s, mt = max t
//   zs = sum e^(s-ms), zt = sum e^(t-mt), and the moments that similarity and divergence need (src/moments.rs)
//
// No gradient passes through KDR. student_logits, teacher_logits: [rows, classes]; labels, row_weights: [rows]; class_weights: [classes]; row_stats: [rows, segments].
// LANES invocations own a row, or a segment of one: `merge_row_stats` merges segments, and slices of the classes on several devices. Each logit is read once; a row of one segment is read
// once more for similarities with a second sweep, but for the classes that stay in registers. Sums are f32, merged in a fixed order.

@group(0) @binding(0) var<uniform> params: Params;
#if student_bound
@group(0) @binding(1) var<storage, $INPUT_ACCESS> student_logits: array<StudentWord>;  // [rows, student_stride]
#end
@group(0) @binding(2) var<storage, $INPUT_ACCESS> teacher_logits: array<TeacherWord>;  // [rows, teacher_stride]
@group(0) @binding(3) var<storage, $INPUT_ACCESS> labels: array<i32>;  // [rows] of one or two words
@group(0) @binding(5) var<storage, read_write> row_stats: array<RowStats>;  // [rows, segments]
@group(0) @binding(6) var<storage, read_write> partials: array<PartialSummary>;  // [workgroups], KDR and counts
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
#import partial
#import accumulator
#import student
#import teacher
#import $STUDENT_ROWS THIS=student
#import $TEACHER_ROWS THIS=teacher
#import aligned

fn kernel(workgroup: u32, invocation: Invocation) {
    var accumulator: SummaryAccumulator;
    let segments = params.rows * params.segments;
    for (var group = workgroup; group * ROWS_PER_WORKGROUP < segments; group += params.workgroups) {
        let index = group * ROWS_PER_WORKGROUP + invocation.row;
        let exists = index < segments;
        let at = min(index, segments - 1u);
        let label = label_at(at / params.segments);
        let ignored = label == params.ignore_index;
        let segment = segment_at(at / params.segments, at % params.segments, exists && !ignored);
        let weight = weight_of(at / params.segments);
#if whole_classes
        let stats = row_stats_of(segment, invocation, label, weight, ignored || !exists);
#end
#if sharded
        let stats = shard_stats(row_stats_of(segment, invocation, column_of(label), weight, ignored || !exists), label);
#end
        if (exists && invocation.lane == 0u) {
            row_stats[params.record_offset + index] = stats;
            if (params.segments == 1u) {
                add_row(&accumulator, partial_of(RowResult(0u, stats.kdr, 0u, stats.flags), 1.0));
            }
        }
    }
    let sum = reduce_accumulators(accumulator, invocation);
    if (invocation.row == 0u && invocation.lane == 0u) {
        partials[params.partial_offset + workgroup] = sum;
    }
}
