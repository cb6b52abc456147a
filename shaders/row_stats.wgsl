// row_stats: observe. Each row's mergeable statistics and the similarity of its two distributions (KDR).
//
//   s = student_logits / student_temperature, t = teacher_logits / teacher_temperature, ms = max s, mt = max t
//   sum e^(s-ms), sum e^(t-mt), A = sum e^(t-mt) ((t-mt) - (s-ms)), B = sum e^(t-mt) (t-mt), and what the similarity needs
//
// student_logits, teacher_logits: [rows, classes]; labels: [rows]. LANES invocations own a row, or a piece of one: pieces are merged by
// `merge_row_stats`. Each logit is read once, twice for similarities with a second sweep. Sums are f32. No gradient: nothing is
// differentiated through KDR.

#import params
#import place
#import statistics
#import partial
#import $STUDENT_ROWS THIS=student
#import $TEACHER_ROWS THIS=teacher
#import store_none

$STUDENT_BINDING
$TEACHER_BINDING
@group(0) @binding(3) var<storage, $LABELS_ACCESS> labels: array<i32>;  // [rows]
@group(0) @binding(5) var<storage, read_write> row_stats: array<RowStats>;  // [rows, pieces]
@group(0) @binding(6) var<storage, read_write> partials: array<Partial>;  // [workgroups], KDR alone is summed

fn kernel(workgroup: u32, place: Place) {
    var tally: Tally;
    let pieces = params.rows * params.pieces;
    for (var block = workgroup; block * ROWS_PER_WORKGROUP < pieces; block += params.workgroups) {
        let index = block * ROWS_PER_WORKGROUP + place.row;
        let exists = index < pieces;
        let at = min(index, pieces - 1u);
        let label = labels[params.label_offset + at / params.pieces];
        let ignored = label == params.ignore_index;
        let piece = piece_at(at / params.pieces, at % params.pieces, exists && !ignored);
        let stats = row_stats_of(piece, place, label, ignored || !exists);
        if (exists && place.lane == 0u) {
            row_stats[params.stats_offset + index] = stats;
            if (params.pieces == 1u) {
                tally_up(&tally, partial_of(RowResult(0u, stats.kdr, 0u, stats.flags), 1.0));
            }
        }
    }
    let sum = reduce_tallies(tally, place);
    if (place.index == 0u) {
        partials[params.partial_offset + workgroup] = sum;
    }
}
