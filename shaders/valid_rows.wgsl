// valid_rows: the number of labels that are a class and not ignore_index; `Mean` divides by it.
//
// labels: [rows]; partials: [workgroups], each with the count of one workgroup, which `distill` adds up.
// One invocation owns each label and reads it once. Integers: atomics may add them in any order.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, $INPUT_ACCESS> labels: array<i32>;  // [rows] of one or two words
@group(0) @binding(6) var<storage, read_write> partials: array<PartialSummary>;  // [workgroups]

#import params
#import types
#import invocation
#import valid
#import main

// Labels that the workgroup reads at a time, four an invocation, whose loads hide each other's latency.
const BLOCK: u32 = 4u * WORKGROUP_SIZE;

fn four_valid(first: u32) -> u32 {
    let third = first + 2u * WORKGROUP_SIZE;
    return (valid_at(first) + valid_at(first + WORKGROUP_SIZE)) + (valid_at(third) + valid_at(third + WORKGROUP_SIZE));
}

fn kernel(workgroup: u32, invocation: Invocation) {
    start_count(invocation);
    let rows_each = (params.rows + params.workgroups - 1u) / params.workgroups;
    let start = min(workgroup * rows_each, params.rows);
    let end = min(start + rows_each, params.rows);
    let whole = start + (end - start) / BLOCK * BLOCK;
    var count = 0u;
    for (var i = start + invocation.index; i < whole; i += BLOCK) {
        count += four_valid(i);
    }
    for (var i = whole + invocation.index; i < end; i += WORKGROUP_SIZE) {
        count += valid_at(i);
    }
    let counted = sum_of_counts(count);
    if (invocation.index == 0u) {
        partials[params.partial_offset + workgroup].valid_rows = counted;
    }
}
