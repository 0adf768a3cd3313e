// The backward pass of gelu.wgsl: d = d · gelu'(x), or with BIAS d · gelu'(x + bias), where d holds the gradient of the
// output first and that of x after. The bias's is the sum of its rows.
//
// Grid and constants as in gelu.wgsl.

@group(0) @binding(next) var<storage, read> x: array<Element>; // [rows][STRIDE]
#if BIAS
@group(0) @binding(next) var<storage, read> bias: array<f32>; // [STRIDE]
#endif
@group(0) @binding(next) var<storage, read_write> d: array<Element>; // [rows][STRIDE]
@group(0) @binding(next) var<storage, read> params: array<u32>; // rows

// The normal distribution's function at x, and x times its density.
fn gelu_derivative(x: f32) -> f32 {
    return 0.5 * (1.0 + erf(x * 0.70710678)) + x * 0.39894228 * exp(-0.5 * x * x);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.z * groups.x + group.x;
    if row >= params[0] {
        return;
    }
    let end = min(STRIDE, (group.y + 1u) * COLUMNS);
    for (var i = group.y * COLUMNS + lane; i < end; i += WORKGROUP) {
        var value = f32(x[row * STRIDE + i]);
#if BIAS
        value += bias[i];
#endif
        d[row * STRIDE + i] = Element(f32(d[row * STRIDE + i]) * gelu_derivative(value));
    }
}
