// One step of AdamW (Loshchilov and Hutter 2019), element by element, on a parameter and its moments in place. As
// nothing is shared, every variant is this one.

@group(0) @binding(next) var<storage, read> gradient: array<f32>; // [len]
@group(0) @binding(next) var<storage, read_write> values: array<f32>; // [len]
@group(0) @binding(next) var<storage, read_write> first: array<f32>; // [len]
@group(0) @binding(next) var<storage, read_write> second: array<f32>; // [len]
// [0] len, then as bits of f32: [1] what gradients are multiplied by, [2] and [3] decay of the moments, [4] what the
// parameter keeps of itself, [5] step size and [6] scale of the root, both corrected for the moments' bias, [7] epsilon.
@group(0) @binding(next) var<storage, read> params: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = unit_of(group, local);
    if i >= params[0] {
        return;
    }
    let g = gradient[i] * bitcast<f32>(params[1]);
    let beta1 = bitcast<f32>(params[2]);
    let beta2 = bitcast<f32>(params[3]);
    let m = beta1 * first[i] + (1.0 - beta1) * g;
    let v = beta2 * second[i] + (1.0 - beta2) * g * g;
    first[i] = m;
    second[i] = v;
    let root = sqrt(v) * bitcast<f32>(params[6]) + bitcast<f32>(params[7]);
    values[i] = values[i] * bitcast<f32>(params[4]) - bitcast<f32>(params[5]) * m / root;
}
