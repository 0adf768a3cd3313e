// From the number of rows that take a step to the sizes of the dispatches that compute it, and to the numbers that they
// read: those of this launch, with that number of rows. One invocation.
//
// Constants: OPERATIONS, and for each of them in GRIDS: rows of a workgroup, workgroups along y and along z.

@group(0) @binding(next) var<storage, read> count: array<u32>; // [0] rows
@group(0) @binding(next) var<storage, read_write> arguments: array<u32>; // [OPERATIONS][3]
@group(0) @binding(next) var<storage, read_write> numbers: array<u32>; // [8]
@group(0) @binding(next) var<storage, read> params: array<u32>; // [8]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if group.x > 0u || local > 0u {
        return;
    }
    for (var i = 1u; i < 8u; i++) {
        numbers[i] = params[i];
    }
    numbers[0] = count[0];
    var grids = GRIDS;
    for (var operation = 0u; operation < OPERATIONS; operation++) {
        let at = operation * 3u;
        arguments[at] = (count[0] + grids[at] - 1u) / grids[at];
        arguments[at + 1u] = grids[at + 1u];
        arguments[at + 2u] = grids[at + 2u];
    }
}
