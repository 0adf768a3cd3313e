// Rows by their numbers: y[i] = x[list[i]] for each i below count[0]. Its backward pass is scatter.wgsl into zeros, as
// no row is listed twice.
//
// Grid: rows, slices of COLUMNS columns, and in the third dimension more rows. Every variant is this one, since
// invocations share nothing. With COUNT_LAST count is the last binding. Constants: Element f32 or f16, STRIDE elements
// of a row.

@group(0) @binding(next) var<storage, read> x: array<Element>; // [more rows][STRIDE]
@group(0) @binding(next) var<storage, read> list: array<u32>; // [rows]
#if !COUNT_LAST
@group(0) @binding(next) var<storage, read> count: array<u32>; // [0] rows
#endif
@group(0) @binding(next) var<storage, read_write> y: array<Element>; // [rows][STRIDE]
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
    let source = list[row] * STRIDE;
    let end = min(STRIDE, (group.y + 1u) * COLUMNS);
    for (var i = group.y * COLUMNS + lane; i < end; i += WORKGROUP) {
        y[row * STRIDE + i] = x[source + i];
    }
}
