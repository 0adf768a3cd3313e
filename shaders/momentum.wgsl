// Nesterov momentum, element by element, in place: the moving average of the gradients, and in the gradient's place a
// look ahead to where the average goes with it. As nothing is shared, every variant is this one.

@group(0) @binding(next) var<storage, read_write> gradient: array<f32>; // [len]
@group(0) @binding(next) var<storage, read_write> momentum: array<f32>; // [len]
// [0] len, then as bits of f32: [1] decay, [2] the share of a gradient, which holds what gradients are multiplied by.
@group(0) @binding(next) var<storage, read> params: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = unit_of(group, local);
    if i >= params[0] {
        return;
    }
    let decay = bitcast<f32>(params[1]);
    let added = bitcast<f32>(params[2]) * gradient[i];
    let m = decay * momentum[i] + added;
    momentum[i] = m;
    gradient[i] = decay * m + added;
}
