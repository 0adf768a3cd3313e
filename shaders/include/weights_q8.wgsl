// Eight neighbouring columns of a row of int8 weights, `[rows][8 EIGHTS]`, with an f16 scale for every 32 columns: the
// scales of all rows, two a word, follow the values from word SCALES on.

alias WEIGHT = u32;

// The f16 in the low half of a word. By hand, as the built-in may take the smallest scales for zero, and with them whole
// blocks.
fn widened(word: u32) -> f32 {
    let fraction = word & 0x3ffu;
    let exponent = (word >> 10u) & 0x1fu;
    // What f32 counts exponents from, less what f16 does.
    let shift = select(112u, 224u, exponent == 31u);
    let normal = bitcast<f32>(((word & 0x7fffu) << 13u) + (shift << 23u));
    let magnitude = select(normal, f32(fraction) * 5.9604645e-8, exponent == 0u);
    return select(magnitude, -magnitude, (word & 0x8000u) != 0u);
}

fn weights8(row: u32, eight: u32) -> mat2x4<f32> {
    let at = row * EIGHTS + eight;
    let block = at / 4u;
    let scale = widened(weights[SCALES + block / 2u] >> (block % 2u * 16u));
    return mat2x4<f32>(
        vec4<f32>(unpack4xI8(weights[at * 2u])) * scale,
        vec4<f32>(unpack4xI8(weights[at * 2u + 1u])) * scale,
    );
}
