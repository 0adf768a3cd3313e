// y = x, four numbers for each invocation: how fast an adapter moves memory when it does nothing else. It has no variants.

@group(0) @binding(next) var<storage, read> x: array<vec4<f32>>; // [len / 4]
@group(0) @binding(next) var<storage, read_write> y: array<vec4<f32>>; // [len / 4]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = unit_of(group, local);
    if i < arrayLength(&x) {
        y[i] = x[i];
    }
}
