// valid_rows: the number of labels that are a class and not ignore_index; `Mean` divides by it.
//
// labels: [rows]; valid_rows: one u32, 0 before the first dispatch. One invocation owns each label and reads it once.
// Integers: atomics may add them in any order.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, $INPUT_ACCESS> labels: array<i32>;  // [rows]
@group(0) @binding(7) var<storage, read_write> valid_rows: atomic<u32>;

#import params
#import invocation
#import main

var<workgroup> shared_count: atomic<u32>;

fn kernel(workgroup: u32, invocation: Invocation) {
    if (invocation.index == 0u) {
        atomicStore(&shared_count, 0u);
    }
    workgroupBarrier();
    var count = 0u;
    for (var i = workgroup * WORKGROUP_SIZE + invocation.index; i < params.rows; i += params.workgroups * WORKGROUP_SIZE) {
        let label = labels[params.label_offset + i];
        count += u32(label != params.ignore_index && label >= 0 && u32(label) < params.label_classes);
    }
    atomicAdd(&shared_count, count);
    workgroupBarrier();
    if (invocation.index == 0u) {
        atomicAdd(&valid_rows, atomicLoad(&shared_count));
    }
}
