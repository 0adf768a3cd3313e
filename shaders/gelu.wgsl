// The exact GELU (Hendrycks and Gimpel 2016) of rows: y = gelu(x), or with BIAS gelu(x + bias), which saves the linear
// layer before it a pass. Its backward pass is gelu_backward.wgsl.
//
// Grid: rows, slices of COLUMNS columns, and in the third dimension more rows. Every variant is this one, since
// invocations share nothing. Constants: Element f32 or f16, STRIDE elements of a row.

@group(0) @binding(next) var<storage, read> x: array<Element>; // [rows][STRIDE]
#if BIAS
@group(0) @binding(next) var<storage, read> bias: array<f32>; // [STRIDE]
#endif
@group(0) @binding(next) var<storage, read_write> y: array<Element>; // [rows][STRIDE]
@group(0) @binding(next) var<storage, read> params: array<u32>; // rows

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
        y[row * STRIDE + i] = Element(gelu(value));
    }
}
