//! What an optimizer does to a parameter.

use crate::shader::Builder;
use crate::{Shader, Variant};

/// One step of AdamW, a unit an element. See `shaders/adamw.wgsl`.
///
/// Bindings: gradient, parameter, both moments, sizes and factors.
pub fn adamw() -> Shader {
    Builder::new("adamw", Variant::Portable, 64).build(include_str!("../../../shaders/adamw.wgsl"))
}

/// Nesterov momentum, a unit an element. See `shaders/momentum.wgsl`.
///
/// Bindings: gradient, momentum, length and factors.
pub fn momentum() -> Shader {
    Builder::new("momentum", Variant::Portable, 64)
        .build(include_str!("../../../shaders/momentum.wgsl"))
}

/// `y = a · x + b · y`, a unit an element. See `shaders/scaled_sum.wgsl`.
///
/// Bindings: `x`, `y`, length and factors.
pub fn scaled_sum() -> Shader {
    Builder::new("scaled sum", Variant::Portable, 64)
        .build(include_str!("../../../shaders/scaled_sum.wgsl"))
}

/// The summed squares of every [`SUM_SQUARES_CHUNK`] elements, a unit each. See `shaders/sum_squares.wgsl`.
///
/// Bindings: the vector, the sums, length and the place of the first sum.
pub fn sum_squares(variant: Variant) -> Shader {
    Builder::new("sum of squares", variant, 64)
        .constant("CHUNK", SUM_SQUARES_CHUNK)
        .build(include_str!("../../../shaders/sum_squares.wgsl"))
}

/// Elements that become one sum of [`sum_squares`].
pub const SUM_SQUARES_CHUNK: u32 = 1024;
