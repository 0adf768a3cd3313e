// Eight neighbouring columns of a row of int8 weights, `[rows][8 EIGHTS]`, with an f16 scale for every 32 columns: the
// scales of all rows, two a word, follow the values from word SCALES on.

alias WEIGHT = u32;

fn weights8(row: u32, eight: u32) -> mat2x4<f32> {
    let at = row * EIGHTS + eight;
    let block = at / 4u;
    let scale = unpack2x16float(weights[SCALES + block / 2u])[block % 2u];
    return mat2x4<f32>(
        vec4<f32>(unpack4xI8(weights[at * 2u])) * scale,
        vec4<f32>(unpack4xI8(weights[at * 2u + 1u])) * scale,
    );
}
