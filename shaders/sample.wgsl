// Chooses the next token: greedily, or at random among the top-k (Fan et al. 2018) and of those the nucleus (Holtzman et
// al. 2020), in the order of ids. A single unit.
//
// Nothing is sorted: the least weight that is kept is found by halving the range of its bits, which for positive floats
// are in the order of their values. Tokens as likely as the last one kept are kept too.
//
// Constants: VOCAB, CONTEXT.

@group(0) @binding(next) var<storage, read> logits: array<f32>; // [VOCAB]
@group(0) @binding(next) var<storage, read_write> weights: array<f32>; // [VOCAB + WORKGROUP] scratch
@group(0) @binding(next) var<storage, read_write> ids: array<u32>; // [CONTEXT]; the choice goes after the last
@group(0) @binding(next) var<storage, read_write> choice: array<u32>; // [0] id, [1] bits of its probability
@group(0) @binding(next) var<storage, read> options: array<f32>; // temperature, top k, top p, penalty, uniform
@group(0) @binding(next) var<storage, read> params: array<u32>; // [2] position of the last token

// The sum of the weights whose bits are at least `least`, and their number.
fn above(least: u32, lane: u32) -> vec2<f32> {
    var sums = vec4(0.0);
    for (var i = lane; i < VOCAB; i += LANES) {
        let weight = weights[i];
        if bitcast<u32>(weight) >= least {
            sums += vec4(weight, 1.0, 0.0, 0.0);
        }
    }
    return reduce_sum4(sums, lane).xy;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let unit = unit_of(group, local);
    let lane = lane_of(local);
    if unit > 0u {
        return;
    }
    let position = params[2];
    let temperature = options[0];
    let penalty = options[3];
    for (var i = lane; i < VOCAB; i += LANES) {
        weights[i] = logits[i];
    }
    sync();
    if penalty != 1.0 {
        // From the untouched logits: a token that occurs twice is penalised once.
        for (var i = lane; i <= position; i += LANES) {
            let id = ids[i];
            let x = logits[id];
            weights[id] = select(x * penalty, x / penalty, x > 0.0);
        }
    }
    sync();

    var best = lane;
    var top = -3.4e38;
    for (var i = lane; i < VOCAB; i += LANES) {
        // The first of equals.
        if weights[i] > top {
            top = weights[i];
            best = i;
        }
    }
    let highest = reduce_max(top, lane);
    // Ids are below 2^24, so floats count them exactly.
    let likeliest = u32(-reduce_max(select(-1.0e9, -f32(best), top == highest), lane));
    let sharpness = select(1.0 / max(temperature, 1.0e-6), 1.0, temperature == 0.0);
    var sum = 0.0;
    for (var i = lane; i < VOCAB; i += LANES) {
        let weight = exp((weights[i] - highest) * sharpness);
        weights[i] = weight;
        sum += weight;
    }
    let total = reduce_sum(sum, lane);
    if lane == 0u {
        choice[0] = likeliest;
        choice[1] = bitcast<u32>(1.0 / total);
    }
    sync();
    if temperature == 0.0 {
        if lane == 0u && position + 1u < CONTEXT {
            ids[position + 1u] = likeliest;
        }
        return;
    }

    var least = 0u;
    var kept = total;
    let top_k = options[1];
    if top_k > 0.0 {
        var beyond = 0x3f800001u;
        while least + 1u < beyond {
            let middle = (least + beyond) / 2u;
            if above(middle, lane).y >= top_k {
                least = middle;
            } else {
                beyond = middle;
            }
        }
        kept = above(least, lane).x;
    }
    if options[2] < 1.0 {
        let enough = options[2] * kept;
        var beyond = 0x3f800001u;
        while least + 1u < beyond {
            let middle = (least + beyond) / 2u;
            if above(middle, lane).x >= enough {
                least = middle;
            } else {
                beyond = middle;
            }
        }
    }

    // Every lane adds up a run of ids of its own; the one whose run the draw falls into looks closer.
    let run = (VOCAB + LANES - 1u) / LANES;
    let end = min(VOCAB, (lane + 1u) * run);
    var own = 0.0;
    for (var i = lane * run; i < end; i++) {
        let weight = weights[i];
        own += select(0.0, weight, bitcast<u32>(weight) >= least);
    }
    weights[VOCAB + lane] = own;
    sync();
    var before = 0.0;
    var all = 0.0;
    for (var i = 0u; i < LANES; i++) {
        before += select(0.0, weights[VOCAB + i], i < lane);
        all += weights[VOCAB + i];
    }
    let drawn = options[4] * all;
    // Exactly one lane, or none where rounding leaves a sliver after the last run: that belongs to the likeliest.
    if drawn >= before && drawn < before + own {
        var id = likeliest;
        var remaining = drawn - before;
        for (var i = lane * run; i < end; i++) {
            let weight = weights[i];
            if bitcast<u32>(weight) >= least {
                if remaining < weight {
                    id = i;
                    break;
                }
                remaining -= weight;
            }
        }
        choice[0] = id;
        choice[1] = bitcast<u32>(weights[id] / all);
    }
    sync();
    if lane == 0u && position + 1u < CONTEXT {
        ids[position + 1u] = choice[0];
    }
}
