// Sums and maximum over a workgroup, by halving in shared memory. Every invocation must call them, and gets the result,
// which the compiler knows to be the same for all.

var<workgroup> reduce_slots: array<f32, WORKGROUP>;
var<workgroup> reduce_slots4: array<vec4<f32>, WORKGROUP>;

fn reduce_sum(value: f32, lane: u32) -> f32 {
    reduce_slots[lane] = value;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if lane < half {
            reduce_slots[lane] += reduce_slots[lane + half];
        }
        workgroupBarrier();
    }
    return workgroupUniformLoad(&reduce_slots[0]);
}

fn reduce_sum4(value: vec4<f32>, lane: u32) -> vec4<f32> {
    reduce_slots4[lane] = value;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if lane < half {
            reduce_slots4[lane] += reduce_slots4[lane + half];
        }
        workgroupBarrier();
    }
    return workgroupUniformLoad(&reduce_slots4[0]);
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
    return workgroupUniformLoad(&reduce_slots[0]);
}
