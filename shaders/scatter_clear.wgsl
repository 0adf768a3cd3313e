// Zeros in listed rows: y[list[i]] = 0 for each i below count[0]; the other rows of y stay. The backward pass of
// scatter.wgsl: rows that were replaced have no part in the result.
//
// Grid and constants as in gather.wgsl.

@group(0) @binding(0) var<storage, read> list: array<u32>; // [rows]
@group(0) @binding(1) var<storage, read_write> y: array<Element>; // [more rows][STRIDE]
@group(0) @binding(2) var<storage, read> count: array<u32>; // [0] rows

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
        y[to + i] = Element(0.0);
    }
}
