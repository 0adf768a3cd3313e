// Rows to their numbers: y[list[i]] = x[i] for each i below count[0]; the other rows of y stay. No row may be listed
// twice. Its backward pass is gather.wgsl for x, and scatter_clear.wgsl for what y held before.
//
// Grid, flag and constants as in gather.wgsl.

@group(0) @binding(next) var<storage, read> x: array<Element>; // [rows][STRIDE]
@group(0) @binding(next) var<storage, read> list: array<u32>; // [rows]
#if !COUNT_LAST
@group(0) @binding(next) var<storage, read> count: array<u32>; // [0] rows
#endif
@group(0) @binding(next) var<storage, read_write> y: array<Element>; // [more rows][STRIDE]
#if COUNT_LAST
@group(0) @binding(next) var<storage, read> count: array<u32>; // [0] rows
#endif

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.z * groups.x + group.x;
    if row >= count[0] {
        return;
    }
    let to = list[row] * STRIDE;
    let end = min(STRIDE, (group.y + 1u) * COLUMNS);
    for (var i = group.y * COLUMNS + lane; i < end; i += WORKGROUP) {
        y[to + i] = x[row * STRIDE + i];
    }
}
