// y = a · x + b · y, element by element. As nothing is shared, every variant is this one.

@group(0) @binding(next) var<storage, read> x: array<f32>; // [len]
@group(0) @binding(next) var<storage, read_write> y: array<f32>; // [len]
@group(0) @binding(next) var<storage, read> params: array<u32>; // [0] len, [1] a and [2] b as bits of f32

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = unit_of(group, local);
    if i < params[0] {
        y[i] = bitcast<f32>(params[1]) * x[i] + bitcast<f32>(params[2]) * y[i];
    }
}
