// Between two layers of a decoded token, in one launch: settles the row that the layer before left, pools, asks the
// router of the layer, and writes down what it decided: the position's depth and the sizes of the dispatches that obey
// it. A single unit, since every part needs all of the one before.
//
// With FOLLOW the router is not asked: the position takes the depth that was decided last, whose dispatches stand.
//
// Constants: DIM, STRIDE elements of a row, EPS; POOLED and HIDDEN widths of the router's layers, CLASSES; where in
// `router` its parts begin (…_AT), each weights and then biases; CONTEXT, HEADER, MAX_STEPS, OPERATIONS, and the arrays
// CLASS_STEPS and GRIDS.

@group(0) @binding(next) var<storage, read_write> x: array<f32>; // [STRIDE], the layer's input
#if POST_NORM
@group(0) @binding(next) var<storage, read> update: array<f32>; // [STRIDE], what the layer before made of its input
#endif
@group(0) @binding(next) var<storage, read> router: array<f32>; // [0] the layer, then the parts
@group(0) @binding(next) var<storage, read_write> routing: array<u32>; // see include/decision.wgsl
#if !FOLLOW
@group(0) @binding(next) var<storage, read_write> sums: array<f32>; // [context][2 STRIDE + 64]: sum, its rounding, count
@group(0) @binding(next) var<storage, read_write> arguments: array<u32>; // see include/decision.wgsl
@group(0) @binding(next) var<storage, read_write> scratch: array<f32>; // [3 STRIDE + 64]
#endif
@group(0) @binding(next) var<storage, read> params: array<u32>; // [2] position, [4] whether it is pooled, [5] visible

// One output of a dense layer over `scratch`, before its activation.
#if !FOLLOW
fn dense(at: u32, inputs: u32, outputs: u32, input: u32, output: u32) -> f32 {
    var sum = router[at + inputs * outputs + output];
    for (var i = 0u; i < inputs; i++) {
        sum += scratch[input + i] * router[at + i * outputs + output];
    }
    return sum;
}
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    let lane = lane_of(local);
    if unit > 0u {
        return;
    }
    let layer = u32(router[0]);
    let position = params[2];
#if POST_NORM
    var sum = 0.0;
    for (var i = lane; i < DIM; i += LANES) {
        sum += update[i];
    }
    let mean = reduce_sum(sum, lane) / f32(DIM);
    var squares = 0.0;
    for (var i = lane; i < DIM; i += LANES) {
        let d = update[i] - mean;
        squares += d * d;
    }
    let scale = inverseSqrt(reduce_sum(squares, lane) / f32(DIM) + EPS);
    if layer > 0u && routing[0] != 0u {
        for (var i = lane; i < DIM; i += LANES) {
            x[i] = (update[i] - mean) * scale * router[NORM_AT + i] + router[NORM_AT + STRIDE + i];
        }
    }
    // Everyone has read `routing[0]` before it is written below.
    sync();
#endif
#if FOLLOW
    if lane == 0u {
        let depth = routing[1u + layer];
        leave_depth(layer, position, depth, params[5] != 0u);
        routing[0] = u32(depth > 0u);
    }
#else
    // A sum for every prefix: a context that is cut short needs no other.
    let to = position * (2u * STRIDE + 64u);
    let source = to - (2u * STRIDE + 64u);
    let adds = f32(params[4]);
    var count = adds;
    if position > 0u {
        count += sums[source + 2u * STRIDE];
    }
    for (var i = lane; i < DIM; i += LANES) {
        var before = 0.0;
        var rounding = 0.0;
        if position > 0u {
            before = sums[source + i];
            rounding = sums[source + STRIDE + i];
        }
        // Compensated (Neumaier 1974), so that thousands of positions add up as one would by hand.
        let value = x[i] * adds;
        let after = before + value;
        rounding += select((value - after) + before, (before - after) + value, abs(before) >= abs(value));
        sums[to + i] = after;
        sums[to + STRIDE + i] = rounding;
        scratch[i] = (after + rounding) / max(count, 1.0);
    }
    if lane == 0u {
        sums[to + 2u * STRIDE] = count;
    }
    sync();
    var input = 0u;
#if POOLER
    for (var i = lane; i < POOLED; i += LANES) {
        scratch[STRIDE + i] = tanh(clamp(dense(POOLER_AT, DIM, POOLED, 0u, i), -15.0, 15.0));
    }
    sync();
    input = STRIDE;
#endif
    for (var i = lane; i < HIDDEN; i += LANES) {
        scratch[2u * STRIDE + i] = gelu(dense(HIDDEN_AT, POOLED, HIDDEN, input, i));
    }
    sync();
    for (var i = lane; i < CLASSES; i += LANES) {
        scratch[3u * STRIDE + i] = dense(CLASSES_AT, HIDDEN, CLASSES, 2u * STRIDE, i);
    }
    sync();
    if lane == 0u {
        var best = 0u;
        for (var i = 1u; i < CLASSES; i++) {
            // The first of equals.
            if scratch[3u * STRIDE + i] > scratch[3u * STRIDE + best] {
                best = i;
            }
        }
        var class_steps = CLASS_STEPS;
        let depth = class_steps[best];
        leave_depth(layer, position, depth, params[5] != 0u);
        leave_arguments(layer, depth);
        routing[0] = u32(depth > 0u);
        routing[1u + layer] = depth;
    }
#endif
}
