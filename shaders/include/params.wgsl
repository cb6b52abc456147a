// The parameters of a dispatch. Shared with the host (src/params.rs). A test compares the layouts.

struct Params {
    rows: u32,              // in this chunk
    classes: u32,           // the student's
    teacher_classes: u32,   // at most `classes`
    workgroups: u32,        // dispatched; the stride of the loop over rows

    student_offset: u32,    // offsets: elements from the start of the binding to the chunk's row 0
    student_stride: u32,    // strides: elements from row to row
    teacher_offset: u32,
    teacher_stride: u32,

    grad_offset: u32,
    grad_stride: u32,
    label_offset: u32,
    result_offset: u32,

    weight_offset: u32,
    decision_offset: u32,
    partial_offset: u32,
    partials: u32,          // number of partials that `summary` adds; counts of labels follow them

    student_log2: f32,      // log2(e) / student_temperature
    teacher_log2: f32,      // log2(e) / teacher_temperature
    student_inverse: f32,   // 1 / student_temperature
    tstr: f32,

    selection: u32,
    selection_number: f32,  // the share of `Fixed`, the threshold of `Margin`
    given_kdr: f32,         // the KDR of `Given`
    smoothing: f32,

    soft_loss_factor: f32,  // soft_weight * temperature scaling
    soft_grad_factor: f32,  // soft_weight * temperature scaling * grad_loss / student_temperature
    denominator: f32,       // of the reduction, unless it counts rows
    scope: u32,

    counts_rows: u32,       // 1: the denominator is the number of valid rows
    count_labels: u32,      // labels that each workgroup counts itself
    ignore_index: i32,
    checked_from_bits: u32, // bits of the magnitude from which logits take the checked path

    write_results: u32,
    infinity_bits: u32,     // parameters, so that no compiler folds them
    nan_bits: u32,
    segments: u32,          // of a row

    segment_vectors: u32,   // vectors of a segment
    label_classes: u32,     // labels below this number are classes: `classes`, or 0 if the denominator is 0
    hard_loss_factor: f32,  // the hard part's, without its share
    hard_grad_factor: f32,

    hard_log2: f32,         // log2(e) / temperature of the hard part
    hard_inverse: f32,      // 1 / temperature of the hard part
    hard_ratio: f32,        // student_temperature / temperature of the hard part
    z_loss: f32,

    z_grad_factor: f32,     // 2 z_loss grad_loss / temperature of the hard part
    rule_first: f32,        // the numbers of the divergence
    rule_second: f32,
    shape_first: f32,       // the numbers of the gradient's shape

    shape_second: f32,
    grad_loss: f32,         // the upstream gradient
    teacher_hard_ratio: f32,  // teacher_temperature / temperature of the hard part
    skip_non_finite: u32,   // 1: rows without a finite result are left out

    counts: u32,            // counts of `valid_rows`, if workgroups do not count labels themselves
    loss_least: f32,        // bounds of a row's loss before its weight
    loss_greatest: f32,
    clamps_loss: u32,       // 1: there are bounds
    class_weight_offset: u32,
    soft_label_offset: u32,
    soft_label_stride: u32,
    id_offset: u32,         // of the teacher's list, whose rows have no gaps

    label_words: u32,       // of a label: 1, or 2 of 64 bits
    first_class: u32,       // of a shard: the number of its first column among all classes
    all_classes: u32,       // of all shards
    record_offset: u32,     // rows before the first in lists of statistics of shards

    record_stride: u32,     // rows of such a list, which has one record of each for every shard
}

const SCOPE_ROW: u32 = 0u;
const SCOPE_BATCH: u32 = 1u;
const SCOPE_GIVEN: u32 = 2u;
