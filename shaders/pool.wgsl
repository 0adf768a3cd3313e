// What routers see of rows: the mean over the positions so far that count. An invocation a column.
//
// Constants: STRIDE elements between rows.

@group(0) @binding(next) var<storage, read> x: array<f32>; // [rows][STRIDE]
#if !ALL
@group(0) @binding(next) var<storage, read> visible: array<u32>; // [context], 0 where a position does not count
#endif
@group(0) @binding(next) var<storage, read_write> sums: array<f32>; // [context][2 STRIDE + 64], as in route.wgsl
@group(0) @binding(next) var<storage, read_write> means: array<f32>; // [rows][STRIDE]
@group(0) @binding(next) var<storage, read> params: array<u32>; // [0] rows, [2] position of the first

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let column = group.x * WORKGROUP + local;
    if column >= STRIDE {
        return;
    }
    let width = 2u * STRIDE + 64u;
    let first = params[2];
    var sum = 0.0;
    var rounding = 0.0;
    var count = 0.0;
    if first > 0u {
        let source = (first - 1u) * width;
        sum = sums[source + column];
        rounding = sums[source + STRIDE + column];
        count = sums[source + 2u * STRIDE];
    }
    for (var row = 0u; row < params[0]; row++) {
#if ALL
        let adds = 1.0;
#else
        let adds = select(0.0, 1.0, visible[first + row] != 0u);
#endif
        let value = x[row * STRIDE + column] * adds;
        let after = sum + value;
        // As in route.wgsl: a token alone and one of many leave the same sums.
        rounding += select((value - after) + sum, (sum - after) + value, abs(sum) >= abs(value));
        sum = after;
        count += adds;
        let to = (first + row) * width;
        sums[to + column] = sum;
        sums[to + STRIDE + column] = rounding;
        if column == 0u {
            sums[to + 2u * STRIDE] = count;
        }
        means[row * STRIDE + column] = (sum + rounding) / max(count, 1.0);
    }
}
