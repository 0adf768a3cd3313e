// Between two layers of a decoded token that take steps, in one launch: settles the row that the layer before left, pools,
// asks the router of the layer, and writes down what it decided: the position's depth and the sizes of the dispatches that
// obey it. Where a layer is to take no step, its row is the next layer's, whose router is asked in the same launch. So there
// is a launch before the first layer, and one after each layer that takes a step: its dispatch is sized by the step's
// attention, and empty elsewhere. A single unit, since every part needs all of the one before.
//
// With FOLLOW routers are not asked: the position takes the depths that were decided last, whose dispatches stand.
//
// Constants: FIRST and END of the layers that have a router, ROUTER_STRIDE elements of each, and where in it its parts
// begin (…_AT), each weights and then biases; DIM, STRIDE elements of a row, EPS; POOLED and HIDDEN widths of the router's
// layers, CLASSES; CONTEXT, HEADER, MAX_STEPS, OPERATIONS, and the arrays CLASS_STEPS and GRIDS.

@group(0) @binding(next) var<storage, read_write> x: array<f32>; // [STRIDE], the layer's input
#if POST_NORM
@group(0) @binding(next) var<storage, read> update: array<f32>; // [STRIDE], what the layer before made of its input
#endif
@group(0) @binding(next) var<storage, read> routers: array<f32>; // [END - FIRST][ROUTER_STRIDE]
@group(0) @binding(next) var<storage, read_write> routing: array<u32>; // see include/decision.wgsl
#if !FOLLOW
@group(0) @binding(next) var<storage, read_write> sums: array<f32>; // [END - FIRST][context][2 STRIDE + 64]: sum, its rounding, count
@group(0) @binding(next) var<storage, read_write> arguments: array<u32>; // see include/decision.wgsl
@group(0) @binding(next) var<storage, read_write> scratch: array<f32>; // [3 STRIDE + 64]
#endif
@group(0) @binding(next) var<storage, read> params: array<u32>; // [2] position, [4] whether it is pooled, [5] visible, [6] layer

#if !FOLLOW
// Elements of the sums of one position.
const SUMS: u32 = 2u * STRIDE + 64u;

var<workgroup> decided: u32;

// One output of a dense layer over `scratch`, before its activation; `at` is where its weights begin.
fn dense(at: u32, inputs: u32, outputs: u32, input: u32, output: u32) -> f32 {
    var sum = routers[at + inputs * outputs + output];
    for (var i = 0u; i < inputs; i++) {
        sum += scratch[input + i] * routers[at + i * outputs + output];
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
    var layer = params[6];
    let position = params[2];
#if POST_NORM
    // The layer before took a step, or this launch would be empty.
    if layer > FIRST {
        let moments = moments_of_update(lane);
        let norm = (layer - FIRST) * ROUTER_STRIDE + NORM_AT;
        for (var i = lane; i < DIM; i += LANES) {
            x[i] = (update[i] - moments.x) * moments.y * routers[norm + i] + routers[norm + STRIDE + i];
        }
    }
#endif
#if FOLLOW
    if lane == 0u {
        var depth = 0u;
        for (; layer < END && depth == 0u; layer++) {
            depth = routing[1u + layer];
            leave_depth(layer, position, depth, params[5] != 0u);
        }
        routing[0] = u32(depth > 0u);
    }
#else
    loop {
        let router = (layer - FIRST) * ROUTER_STRIDE;
        // A sum for every prefix: a context that is cut short needs no other.
        let to = ((layer - FIRST) * CONTEXT + position) * SUMS;
        let source = to - SUMS;
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
            scratch[STRIDE + i] = tanh(clamp(dense(router + POOLER_AT, DIM, POOLED, 0u, i), -15.0, 15.0));
        }
        sync();
        input = STRIDE;
#endif
        for (var i = lane; i < HIDDEN; i += LANES) {
            scratch[2u * STRIDE + i] = gelu(dense(router + HIDDEN_AT, POOLED, HIDDEN, input, i));
        }
        sync();
        for (var i = lane; i < CLASSES; i += LANES) {
            scratch[3u * STRIDE + i] = dense(router + CLASSES_AT, HIDDEN, CLASSES, 2u * STRIDE, i);
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
            decided = depth;
        }
        layer++;
        // All invocations wait here, and go on with the same number.
        if workgroupUniformLoad(&decided) > 0u || layer == END {
            break;
        }
    }
#endif
}
