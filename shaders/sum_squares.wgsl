// The summed squares of every CHUNK elements of a vector, one unit a chunk, to be added up.

@group(0) @binding(next) var<storage, read> x: array<f32>; // [len]
@group(0) @binding(next) var<storage, read_write> sums: array<f32>; // of several vectors; this one's from params[1] on
@group(0) @binding(next) var<storage, read> params: array<u32>; // [0] len, [1] the place of the first sum

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    let lane = lane_of(local);
    let start = unit * CHUNK;
    if start >= params[0] {
        return;
    }
    let end = min(params[0], start + CHUNK);
    var sum = 0.0;
    for (var i = start + lane; i < end; i += LANES) {
        sum += x[i] * x[i];
    }
    let total = reduce_sum(sum, lane);
    if lane == 0u {
        sums[params[1] + unit] = total;
    }
}
