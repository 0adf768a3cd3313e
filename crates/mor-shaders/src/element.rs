//! What rows are stored as.

use crate::Shader;
use crate::shader::Builder;

/// A shader of `file`, whose rows are of type `Element`: f32, or f16, which asks an adapter for `shader-f16`.
/// Arithmetic is f32 either way.
pub(crate) fn build(builder: Builder, file: &str, half: bool) -> Shader {
    if !half {
        return builder.include("alias Element = f32;\n").build(file);
    }
    let mut shader = builder.include("alias Element = f16;\n").build(file);
    // Before anything else, as the language wants it.
    shader.source.insert_str(0, "enable f16;\n");
    shader.label.push_str(" f16");
    shader
}
