// valid_rows: how many labels are a class and not ignore_index; what a mean divides by.
//
// labels: [rows]; valid_rows: one u32, 0 before the first dispatch. One invocation owns a label at a time and reads it once.
// Integers, so that atomics may add them in any order.

#import params
#import types
#import invocation
#import store_none
#import main

@group(0) @binding(3) var<storage, $LABELS_ACCESS> labels: array<i32>;  // [rows]
@group(0) @binding(7) var<storage, read_write> valid_rows: atomic<u32>;

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
