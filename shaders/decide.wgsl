// Writes down what a router decided for many rows. An invocation a position.
//
// With WHOLE there is one row of scores, which decides for all positions from the context's first on. Constants: CLASSES,
// SCORES_STRIDE elements between rows of scores, and those of include/decision.wgsl.

@group(0) @binding(next) var<storage, read> scores: array<f32>; // [rows][SCORES_STRIDE]
@group(0) @binding(next) var<storage, read> visible: array<u32>; // [context], 0 at hidden positions
@group(0) @binding(next) var<storage, read_write> routing: array<u32>; // see include/decision.wgsl
@group(0) @binding(next) var<storage, read_write> arguments: array<u32>; // see include/decision.wgsl
@group(0) @binding(next) var<storage, read> params: array<u32>; // [0] rows, [2] first, [6] layer, [7] 0 to follow

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = group.x * WORKGROUP + local;
    let layer = params[6];
#if WHOLE
    let position = index;
    let row = 0u;
#else
    let position = params[2] + index;
    let row = index;
#endif
    let end = params[2] + params[0];
    if position >= end {
        return;
    }
    var depth = 0u;
    if params[7] == 0u {
        depth = routing[1u + layer];
    } else {
        var best = 0u;
        for (var i = 1u; i < CLASSES; i++) {
            // The first of equals.
            if scores[row * SCORES_STRIDE + i] > scores[row * SCORES_STRIDE + best] {
                best = i;
            }
        }
        var class_steps = CLASS_STEPS;
        depth = class_steps[best];
    }
    leave_depth(layer, position, depth, visible[position] != 0u);
    if position + 1u == end && params[7] != 0u {
        leave_arguments(layer, depth);
        // Only where nobody reads it in this launch.
        routing[1u + layer] = depth;
    }
}
