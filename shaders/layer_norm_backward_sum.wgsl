// The gradients of gain and bias from the sums of layer_norm_backward_chunks.wgsl. A unit a column.
//
// Constants: DIM columns.

@group(0) @binding(0) var<storage, read> sums: array<vec2<f32>>; // of gain and bias, [chunks][DIM]
@group(0) @binding(1) var<storage, read_write> d_gain: array<f32>; // [DIM]
@group(0) @binding(2) var<storage, read_write> d_bias: array<f32>; // [DIM]
@group(0) @binding(3) var<storage, read> params: array<u32>; // chunks

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    let lane = lane_of(local);
    if unit >= DIM {
        return;
    }
    var sum = vec2(0.0);
    for (var chunk = lane; chunk < params[0]; chunk += LANES) {
        sum += sums[chunk * DIM + unit];
    }
    let total = reduce_sum4(vec4(sum, 0.0, 0.0), lane);
    if lane == 0u {
        d_gain[unit] = total.x;
        d_bias[unit] = total.y;
    }
}
