// Mean and reciprocal deviation of what the last step made of a decoded token's row, for the layer norm that it is owed.
// Every lane must call it.

fn moments_of_update(lane: u32) -> vec2<f32> {
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
    return vec2(mean, inverseSqrt(reduce_sum(squares, lane) / f32(DIM) + EPS));
}
