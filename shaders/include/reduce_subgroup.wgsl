// Sums and maximum over a workgroup: first over subgroups, then over what each of them got. Every invocation must call
// them, and gets the result, which the compiler knows to be the same for all. Nothing is assumed of the size of
// subgroups, nor of how invocations map to them: the first of each leaves its result in its own slot, every other a
// neutral value.

var<workgroup> reduce_slots: array<f32, WORKGROUP>;
var<workgroup> reduce_slots4: array<vec4<f32>, WORKGROUP>;

fn reduce_sum(value: f32, lane: u32) -> f32 {
    let own = subgroupAdd(value);
    let rank = subgroupExclusiveAdd(1u);
    let size = subgroupAdd(1u);
    reduce_slots[lane] = select(0.0, own, rank == 0u);
    workgroupBarrier();
    var total = 0.0;
    for (var slot = rank; slot < WORKGROUP; slot += size) {
        total += reduce_slots[slot];
    }
    total = subgroupAdd(total);
    workgroupBarrier();
    if lane == 0u {
        reduce_slots[0] = total;
    }
    return workgroupUniformLoad(&reduce_slots[0]);
}

fn reduce_sum4(value: vec4<f32>, lane: u32) -> vec4<f32> {
    let own = subgroupAdd(value);
    let rank = subgroupExclusiveAdd(1u);
    let size = subgroupAdd(1u);
    reduce_slots4[lane] = select(vec4(0.0), own, rank == 0u);
    workgroupBarrier();
    var total = vec4(0.0);
    for (var slot = rank; slot < WORKGROUP; slot += size) {
        total += reduce_slots4[slot];
    }
    total = subgroupAdd(total);
    workgroupBarrier();
    if lane == 0u {
        reduce_slots4[0] = total;
    }
    return workgroupUniformLoad(&reduce_slots4[0]);
}

fn reduce_max(value: f32, lane: u32) -> f32 {
    let own = subgroupMax(value);
    let rank = subgroupExclusiveAdd(1u);
    let size = subgroupAdd(1u);
    reduce_slots[lane] = select(-3.4e38, own, rank == 0u);
    workgroupBarrier();
    var total = -3.4e38;
    for (var slot = rank; slot < WORKGROUP; slot += size) {
        total = max(total, reduce_slots[slot]);
    }
    total = subgroupMax(total);
    workgroupBarrier();
    if lane == 0u {
        reduce_slots[0] = total;
    }
    return workgroupUniformLoad(&reduce_slots[0]);
}
