// Sum and maximum over a workgroup, by halving in shared memory. Every invocation must call them, and gets the result.

var<workgroup> reduce_slots: array<f32, WORKGROUP>;

fn reduce_sum(value: f32, lane: u32) -> f32 {
    reduce_slots[lane] = value;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if lane < half {
            reduce_slots[lane] += reduce_slots[lane + half];
        }
        workgroupBarrier();
    }
    let total = reduce_slots[0];
    workgroupBarrier();
    return total;
}

fn reduce_max(value: f32, lane: u32) -> f32 {
    reduce_slots[lane] = value;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if lane < half {
            reduce_slots[lane] = max(reduce_slots[lane], reduce_slots[lane + half]);
        }
        workgroupBarrier();
    }
    let top = reduce_slots[0];
    workgroupBarrier();
    return top;
}
