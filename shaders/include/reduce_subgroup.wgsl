// Reductions over the lanes of a row: subgroup operations, then workgroup memory if a row has several subgroups.
// Works for every subgroup size: the lanes of a row lie within one subgroup if they are at most SUBGROUP_MIN, else they are a workgroup.

const WITHIN_SUBGROUP: bool = LANES <= SUBGROUP_MIN;
const MOST_SUBGROUPS: u32 = WORKGROUP_SIZE / SUBGROUP_MIN;

var<workgroup> shared_sums: array<Sums, MOST_SUBGROUPS>;
var<workgroup> shared_f32: array<f32, MOST_SUBGROUPS>;
var<private> subgroup_of_lane: u32;
var<private> subgroups: u32;
var<private> leads_subgroup: bool;
// Rank among the active invocations of the subgroup, and their number.
var<private> rank: u32;
var<private> width: u32;

// Rows are assigned by subgroup, not by the invocation's index, because WGSL guarantees no relation between the two.
fn invocation_in_subgroup(index: u32, id: u32, count: u32, size: u32, invocation: u32) -> Invocation {
    subgroup_of_lane = id;
    subgroups = count;
    leads_subgroup = invocation == 0u;
    rank = subgroupExclusiveAdd(1u);
    width = subgroupAdd(1u);
    if (WITHIN_SUBGROUP) {
        return Invocation(id * (size / LANES) + invocation / LANES, invocation % LANES, index);
    }
    return Invocation(0u, index, index);
}

fn lanes_max(x: f32) -> f32 {
    if (!WITHIN_SUBGROUP) {
        return subgroupMax(x);
    }
    var y = x;
    for (var mask = 1u; mask < LANES; mask *= 2u) {
        y = max(y, subgroupShuffleXor(y, mask));
    }
    return y;
}

fn lanes_add(x: f32) -> f32 {
    if (!WITHIN_SUBGROUP) {
        return subgroupAdd(x);
    }
    var y = x;
    for (var mask = 1u; mask < LANES; mask *= 2u) {
        y += subgroupShuffleXor(y, mask);
    }
    return y;
}

fn lanes_or(x: u32) -> u32 {
    if (!WITHIN_SUBGROUP) {
        return subgroupOr(x);
    }
    var y = x;
    for (var mask = 1u; mask < LANES; mask *= 2u) {
        y |= subgroupShuffleXor(y, mask);
    }
    return y;
}

// The merged sums of a subgroup: first the maxima, then one rescaling per lane, then plain sums.
fn lanes_merge(x: Sums) -> Sums {
#if teacher_known
    var y = rescale_sums(x, lanes_max(x.student_max), lanes_max(x.teacher_max));
#end
#if sampled
    var y = rescale_sums(x, lanes_max(x.student_max), x.teacher_max);
#end
    y.student_sum = lanes_add(y.student_sum);
#if teacher_known
    y.teacher_sum = lanes_add(y.teacher_sum);
    y.masked_mass = lanes_add(y.masked_mass);
#end
    y.flags = lanes_or(y.flags);
#moments
    y.$moment = lanes_add(y.$moment);
#end
    return y;
}

// The merged sums of all subgroups, to every lane. If a subgroup has a lane for each of them, lane i takes subgroup i modulo their number,
// and few exchanges give every lane the result. The bounds of loops are constants, because subgroup operations need uniform control flow.
fn merge_subgroups() -> Sums {
    var part = sums_identity();
    if (MOST_SUBGROUPS > SUBGROUP_MIN) {
        for (var i = rank; i < subgroups; i += width) {
            part = combine_sums(part, shared_sums[i]);
        }
        return lanes_merge(part);
    }
    let at = rank % MOST_SUBGROUPS;
    if (at < subgroups) {
        part = shared_sums[at];
    }
    var student_max = part.student_max;
    var teacher_max = part.teacher_max;
    for (var mask = 1u; mask < MOST_SUBGROUPS; mask *= 2u) {
        student_max = max(student_max, subgroupShuffleXor(student_max, mask));
#if teacher_known
        teacher_max = max(teacher_max, subgroupShuffleXor(teacher_max, mask));
#end
    }
    var y = rescale_sums(part, student_max, teacher_max);
    for (var mask = 1u; mask < MOST_SUBGROUPS; mask *= 2u) {
        y.student_sum += subgroupShuffleXor(y.student_sum, mask);
#if teacher_known
        y.teacher_sum += subgroupShuffleXor(y.teacher_sum, mask);
        y.masked_mass += subgroupShuffleXor(y.masked_mass, mask);
#end
        y.flags |= subgroupShuffleXor(y.flags, mask);
#moments
        y.$moment += subgroupShuffleXor(y.$moment, mask);
#end
    }
    return y;
}

// Returns the merged sums of all lanes to each lane of a row. Must be called in uniform control flow.
fn reduce_sums(x: Sums, invocation: Invocation) -> Sums {
    if (LANES == 1u) {
        return x;
    }
    let y = lanes_merge(x);
    if (WITHIN_SUBGROUP) {
        return y;
    }
    if (leads_subgroup) {
        shared_sums[subgroup_of_lane] = y;
    }
    workgroupBarrier();
    // Every subgroup merges the sums of all subgroups.
    let merged = merge_subgroups();
    // A fast lane must not overwrite what a slow one still reads.
    workgroupBarrier();
    return merged;
}

// Returns the sum over all lanes to each lane of a row. Must be called in uniform control flow.
fn reduce_add(x: f32, invocation: Invocation) -> f32 {
    if (LANES == 1u) {
        return x;
    }
    let y = lanes_add(x);
    if (WITHIN_SUBGROUP) {
        return y;
    }
    if (leads_subgroup) {
        shared_f32[subgroup_of_lane] = y;
    }
    workgroupBarrier();
    var part = 0.0;
    for (var i = rank; i < subgroups; i += width) {
        part += shared_f32[i];
    }
    workgroupBarrier();
    return lanes_add(part);
}

// Returns the maximum over all lanes to each lane of a row. Must be called in uniform control flow.
fn reduce_max(x: f32, invocation: Invocation) -> f32 {
    if (LANES == 1u) {
        return x;
    }
    let y = lanes_max(x);
    if (WITHIN_SUBGROUP) {
        return y;
    }
    if (leads_subgroup) {
        shared_f32[subgroup_of_lane] = y;
    }
    workgroupBarrier();
    var part = LOWEST;
    for (var i = rank; i < subgroups; i += width) {
        part = max(part, shared_f32[i]);
    }
    workgroupBarrier();
    return lanes_max(part);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) id: u32,
    @builtin(num_subgroups) count: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) invocation: u32,
) {
    kernel(workgroup.x, invocation_in_subgroup(index, id, count, size, invocation));
}
