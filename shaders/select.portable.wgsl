// The rows that take a step, by one invocation. Bindings as in select.wgsl.

@group(0) @binding(0) var<storage, read> depths: array<u32>; // [first + rows]
@group(0) @binding(1) var<storage, read_write> list: array<u32>; // [rows]
@group(0) @binding(2) var<storage, read_write> chosen: array<u32>; // [1], how many
@group(0) @binding(3) var<storage, read> params: array<u32>; // rows, first, step

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) lane: u32) {
    var count = 0u;
    for (var row = 0u; row < params[0]; row++) {
        if depths[params[1] + row] > params[2] {
            list[count] = row;
            count += 1u;
        }
    }
    chosen[0] = count;
}
