// A teacher that is a list of classes with their log-probabilities (docs/LOSSES.md, section 11). A row of its loss has k + 1 classes: those of
// the list, and the tail, which stands for all others. Here: the tail, and a table in workgroup memory by which a lane finds the classes of
// the list. Observe leaves them out of its sums (observe_list.wgsl adds the list and the tail), and apply gives them coefficients of their
// own (apply_list.wgsl).

// The tail: the student's sum off the list, relative to its maximum, and the teacher's logit.
var<private> tail_student_max: f32;
var<private> tail_student_sum: f32;
var<private> tail_teacher: f32;
var<private> tail_has_teacher: bool;

// The table of a row: entries (class, place) by the vector of the class, in the first free slot from its hash. The content of a slot may
// depend on the order of the insertions, but the places of a class do not.
var<workgroup> list_table: array<atomic<u32>, LIST_TABLE>;
var<private> table_start: u32;

const NO_ENTRY: u32 = 0xffffffffu;
const PLACE_BITS: u32 = 10u;
const NO_PLACE: u32 = 0xffffffffu;

fn slot_of(vector: u32) -> u32 {
    return (vector * 2654435769u) >> LIST_SHIFT;
}

fn place_in(entry: u32) -> u32 {
    return entry & ((1u << PLACE_BITS) - 1u);
}

fn class_in(entry: u32) -> u32 {
    return entry >> PLACE_BITS;
}

// Of a class that is there twice, the first place counts.
fn insert_entry(row: Row, class_id: u32, place: u32) {
    let entry = (class_id << PLACE_BITS) | place;
    var slot = slot_of((class_id + row.misalignment) >> 2u);
    for (var probe = 0u; probe < 2u * LIST_SLOTS; probe++) {
        let swap = atomicCompareExchangeWeak(&list_table[table_start + slot], NO_ENTRY, entry);
        if (swap.exchanged) {
            return;
        }
        // An exchange may fail without a reason.
        if (swap.old_value == NO_ENTRY) {
            continue;
        }
        if (class_in(swap.old_value) == class_id) {
            atomicMin(&list_table[table_start + slot], entry);
            return;
        }
        slot = (slot + 1u) & (LIST_SLOTS - 1u);
    }
}

// The places of a vector's columns in the list; NO_PLACE for those off the list.
fn places_of(row: Row, first: u32) -> vec4<u32> {
    var places = vec4<u32>(NO_PLACE);
    let vector = (first + row.misalignment) >> 2u;
    var slot = slot_of(vector);
    for (var probe = 0u; probe < LIST_SLOTS; probe++) {
        let entry = atomicLoad(&list_table[table_start + slot]);
        if (entry == NO_ENTRY) {
            break;
        }
        let column = class_in(entry) + row.misalignment;
        if ((column >> 2u) == vector) {
            places[column & 3u] = place_in(entry);
        }
        slot = (slot + 1u) & (LIST_SLOTS - 1u);
    }
    return places;
}

fn is_listed(row: Row, first: u32) -> vec4<bool> {
    return places_of(row, first) != vec4<u32>(NO_PLACE);
}

// Fills the table of a row, or of a segment of one with the entries of its classes. Returns false to a lane that finds an entry that is no
// class. Must be called in uniform control flow.
fn read_list(row: Row, invocation: Invocation, wanted: bool) -> bool {
    table_start = invocation.row * LIST_SLOTS;
    var valid = true;
#if many_groups
    // A slow lane may still read the table of the last row.
    workgroupBarrier();
#end
    for (var i = invocation.lane; i < LIST_SLOTS; i += LANES) {
        atomicStore(&list_table[table_start + i], NO_ENTRY);
    }
    workgroupBarrier();
    if (wanted) {
        for (var i = invocation.lane; i < params.teacher_classes; i += LANES) {
            let id = teacher_ids[row.ids + i];
            let log_probability = bitcast<u32>(load_teacher_at(row.teacher, i));
            let empty = id == -1 || log_probability == 0xff800000u;
            if (empty) {
                continue;
            }
            if (id < 0 || u32(id) >= params.classes) {
                valid = false;
                continue;
            }
            let vector = (u32(id) + row.misalignment) >> 2u;
            if (vector - row.start < row.vectors) {
                insert_entry(row, u32(id), i);
            }
        }
    }
    workgroupBarrier();
    return valid;
}
