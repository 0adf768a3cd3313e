// Sum and maximum over a workgroup: first over subgroups, then over what each of them got. Every invocation must call
// them, and gets the result. Nothing is assumed of the size of subgroups, nor of how invocations map to them: the first
// of each leaves its result in its own slot, every other a neutral value.

var<workgroup> reduce_slots: array<f32, WORKGROUP>;

fn reduce_sum(value: f32, lane: u32) -> f32 {
    let sum = subgroupAdd(value);
    let rank = subgroupExclusiveAdd(1u);
    let size = subgroupAdd(1u);
    reduce_slots[lane] = select(0.0, sum, rank == 0u);
    workgroupBarrier();
    var total = 0.0;
    for (var slot = rank; slot < WORKGROUP; slot += size) {
        total += reduce_slots[slot];
    }
    total = subgroupAdd(total);
    workgroupBarrier();
    return total;
}

fn reduce_max(value: f32, lane: u32) -> f32 {
    let top = subgroupMax(value);
    let rank = subgroupExclusiveAdd(1u);
    let size = subgroupAdd(1u);
    reduce_slots[lane] = select(-3.4e38, top, rank == 0u);
    workgroupBarrier();
    var all = -3.4e38;
    for (var slot = rank; slot < WORKGROUP; slot += size) {
        all = max(all, reduce_slots[slot]);
    }
    all = subgroupMax(all);
    workgroupBarrier();
    return all;
}
