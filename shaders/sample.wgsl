// Chooses the next token: greedily, or at random among the top-k (Fan et al. 2018) and of those the nucleus (Holtzman et
// al. 2020), in the order of ids. A single unit.
//
// Nothing is sorted: the least weight that is kept is found by the digits of its bits, which for positive floats are in
// the order of their values. Tokens as likely as the last one kept are kept too. All loops around a barrier have constant
// bounds, as some compilers want them.
//
// Lanes read four numbers a round, for fewer rounds: the largest vocabulary, 2^20, takes 34,000 of the 65,535 that some
// drivers allow an invocation in all.
//
// Constants: VOCAB.

@group(0) @binding(next) var<storage, read> logits: array<f32>; // [VOCAB]
@group(0) @binding(next) var<storage, read_write> weights: array<f32>; // [PADDED + LANES] scratch, see Sample::SCRATCH
@group(0) @binding(next) var<storage, read> ids: array<u32>; // the context
@group(0) @binding(next) var<storage, read_write> choice: array<u32>; // [0] id, [1] bits of its probability
@group(0) @binding(next) var<storage, read> options: array<f32>; // temperature, top k, top p, penalty, uniform
@group(0) @binding(next) var<storage, read> params: array<u32>; // [2] position of the last token

const ROUND: u32 = 4u * LANES;
// Weights beyond the vocabulary are zero.
const PADDED: u32 = (VOCAB + ROUND - 1u) / ROUND * ROUND;
// Below every logit.
const LOWEST: f32 = -3.4e38;
// Digits of 3 bits in the bits of 1, the highest weight.
const DIGITS: u32 = 10u;

// What a lane reads in the round that starts at `first`.
fn columns(first: u32) -> vec4<u32> {
    return first + vec4(0u, LANES, 2u * LANES, 3u * LANES);
}

fn weights4(first: u32) -> vec4<f32> {
    let at = columns(first);
    return vec4(weights[at.x], weights[at.y], weights[at.z], weights[at.w]);
}

fn set_weights4(first: u32, four: vec4<f32>) {
    let at = columns(first);
    weights[at.x] = four.x;
    weights[at.y] = four.y;
    weights[at.z] = four.z;
    weights[at.w] = four.w;
}

// The highest bits at which the weights with at least these come to `enough`: their number if `counted`, else their sum.
fn least_kept(enough: f32, counted: bool, lane: u32) -> u32 {
    var least = 0u;
    for (var digit = 0u; digit < DIGITS; digit++) {
        // All values of the digit at once.
        let unit = 1u << (3u * (DIGITS - 1u - digit));
        let low = least + unit * vec4(1u, 2u, 3u, 4u);
        let high = low + 4u * unit;
        var low_sums = vec4(0.0);
        var high_sums = vec4(0.0);
        for (var first = lane; first < PADDED; first += ROUND) {
            let four = weights4(first);
            let bits = bitcast<vec4<u32>>(four);
            let adds = select(four, vec4(1.0), counted);
#repeat 4
            low_sums += select(vec4(0.0), vec4(adds[$i]), vec4(bits[$i]) >= low);
            high_sums += select(vec4(0.0), vec4(adds[$i]), vec4(bits[$i]) >= high);
#end
        }
        let reached = select(vec4(0u), vec4(1u), reduce_sum4(low_sums, lane) >= vec4(enough))
            + select(vec4(0u), vec4(1u), reduce_sum4(high_sums, lane) >= vec4(enough));
        least += unit * (reached.x + reached.y + reached.z + reached.w);
    }
    return least;
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
    for (var first = lane; first < PADDED; first += ROUND) {
        let column = columns(first);
        let at = min(column, vec4(VOCAB - 1u));
        let four = vec4(logits[at.x], logits[at.y], logits[at.z], logits[at.w]);
        set_weights4(first, select(vec4(LOWEST), four, column < vec4(VOCAB)));
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
    var top = LOWEST;
    for (var first = lane; first < PADDED; first += ROUND) {
        let four = weights4(first);
        // The first of equals.
#repeat 4
        if four[$i] > top {
            top = four[$i];
            best = first + $i * LANES;
        }
#end
    }
    let highest = reduce_max(top, lane);
    // Ids are below 2^24, so floats count them exactly.
    let likeliest = u32(-reduce_max(select(-1.0e9, -f32(best), top == highest), lane));
    let sharpness = select(1.0 / max(temperature, 1.0e-6), 1.0, temperature == 0.0);
    var sum = 0.0;
    for (var first = lane; first < PADDED; first += ROUND) {
        let four = exp((weights4(first) - highest) * sharpness);
        let kept = select(vec4(0.0), four, columns(first) < vec4(VOCAB));
        set_weights4(first, kept);
        sum += dot(kept, vec4(1.0));
    }
    let total = reduce_sum(sum, lane);
    if lane == 0u {
        choice[0] = likeliest;
        choice[1] = bitcast<u32>(1.0 / total);
    }
    sync();
    if temperature == 0.0 {
        return;
    }

    var least = 0u;
    var enough = options[2] * total;
    if options[1] > 0.0 {
        least = least_kept(options[1], true, lane);
        var kept = 0.0;
        for (var first = lane; first < PADDED; first += ROUND) {
            let four = weights4(first);
            kept += dot(select(vec4(0.0), four, bitcast<vec4<u32>>(four) >= vec4(least)), vec4(1.0));
        }
        enough = options[2] * reduce_sum(kept, lane);
    }
    if options[2] < 1.0 {
        least = max(least, least_kept(enough, false, lane));
    }

    // Every lane adds up a run of ids of its own; the one whose run the draw falls into looks closer.
    let run = (VOCAB + LANES - 1u) / LANES;
    let end = min(VOCAB, (lane + 1u) * run);
    var own = 0.0;
    for (var i = lane * run; i < end; i++) {
        let weight = weights[i];
        own += select(0.0, weight, bitcast<u32>(weight) >= least);
    }
    weights[PADDED + lane] = own;
    sync();
    var before = 0.0;
    var all = 0.0;
    for (var i = 0u; i < LANES; i++) {
        before += select(0.0, weights[PADDED + i], i < lane);
        all += weights[PADDED + i];
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
}
