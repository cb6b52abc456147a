// Structs shared with the host (src/results.rs). A test compares the layouts.

const IGNORED: u32 = 1u;
const INVALID_LABEL: u32 = 2u;
const NON_FINITE: u32 = 4u;
const STUDENT_MASKED: u32 = 8u;
const STUDENT_LIVE: u32 = 16u;
const TEACHER_LIVE: u32 = 32u;
const NO_GRADIENT: u32 = 64u;
const SKIPPED: u32 = 128u;
const CLAMPED: u32 = 256u;
const SOFT_LABEL: u32 = 512u;
const SOFT_LABEL_MASKED: u32 = 1024u;
const SHARD: u32 = 2048u;
const LABEL_ELSEWHERE: u32 = 4096u;

// The result of a row. Floats that may be NaN or infinite are stored as bits: a compiler may assume that arithmetic is finite.
struct RowResult {
    loss: u32,
    kdr: u32,
    tssr: u32,
    flags: u32,
}

#if metrics
// A row's result and its metrics as bits, in the order of `RowMetrics` of src/metrics.rs.
struct RowReport {
    result: RowResult,
    first: vec4<u32>,   // forward_kl, teacher_entropy, student_entropy, hard
    second: vec4<u32>,  // soft, student_lse, teacher_lse, agreement
    third: vec4<u32>,   // student_accuracy, teacher_accuracy
}
#end

struct RowStats {
    student_max: f32,
    student_sum: f32,
    teacher_max: f32,
    teacher_sum: f32,
    difference: f32,
    soft_moment: f32,
    cross: f32,
    student_square: f32,
    teacher_square: f32,
    student_offset: f32,
    masked_mass: f32,
    label_logit: u32,
    kdr: u32,
    label: i32,
    flags: u32,
    student_count: f32,
    root_cross: f32,
    reverse_difference: f32,
    unseen_mass: f32,
    student_moment: f32,
    hard_sum: f32,
    power_cross: f32,
    student_power: f32,
    teacher_power: f32,
    power_difference: f32,
    agreement: f32,
    similarity_sum: f32,
    sweep_first: f32,
    sweep_second: f32,
    teacher_label_logit: u32,
    teacher_hard_sum: f32,
    rest_student_max: f32,
    rest_student_sum: f32,
    rest_teacher_max: f32,
    rest_teacher_sum: f32,
    rest_difference: f32,
    rest_soft_moment: f32,
    rest_hard_sum: f32,
    rest_teacher_hard_sum: f32,
    rest_masked_mass: f32,
    teacher_moment: f32,
    weight: f32,
    class_weight: f32,
    weighted_teacher: f32,
    weighted_masked: f32,
    weighted_soft: f32,
    weight_sum: f32,
    masked_weight: f32,
    weighted_offset: f32,
    student_deviation: f32,
    teacher_deviation: f32,
    soft_label_sum: f32,
    soft_label_moment: f32,
    first_class: u32,  // of a shard, as the two that follow; 0 of whole rows
    shard_classes: u32,
    all_classes: u32,
}

// Sums of the second sweep over a segment or a shard.
struct SweepSums {
    similarity: f32,
    first: f32,
    second: f32,
    classes: u32,  // that a shard's sums cover
}

struct Decision {
    result: RowResult,
    student_max: f32,
    teacher_max: f32,
    student_scale: f32,
    teacher_scale: f32,
    label_share: f32,
    uniform_share: f32,
    label: i32,
    hard_scale: f32,
    first_scale: f32,
    second_scale: f32,
    student_inverse: f32,
    teacher_inverse: f32,
    label_gradient: u32,
    owns_label: u32,
    student_deviation: f32,
    teacher_deviation: f32,
}

// The summary of one workgroup's rows. Rows without a finite loss are counted, not added.
struct PartialSummary {
    loss: f32,
    kdr: f32,
    tssr: f32,
    averaged_rows: u32,
    valid_rows: u32,
    ignored_rows: u32,
    invalid_labels: u32,
    non_finite_rows: u32,
    infinite_losses: u32,  // +inf
    negative_infinities: u32,  // -inf, of rows with a negative weight
    unbounded: u32,        // bits of the metrics that are not finite in some row
    reserved: u32,
#if metrics
    first: vec4<f32>,
    second: vec4<f32>,
    third: vec4<f32>,
#end
}

struct Summary {
    loss: u32,
    kdr: f32,
    tssr: f32,
    valid_rows: u32,
    ignored_rows: u32,
    invalid_labels: u32,
    non_finite_rows: u32,
    reserved: u32,
    first: vec4<u32>,  // the means of the metrics, as in RowReport
    second: vec4<u32>,
    third: vec4<u32>,
}
