//! What memory alone costs.

use crate::shader::Builder;
use crate::{Shader, Variant};

/// `y = x`, four numbers for each invocation: what other kernels' bytes a second are compared with. See `shaders/copy.wgsl`.
///
/// Bindings: `x` and `y: [len]` of f32, `len` a multiple of four.
pub fn copy() -> Shader {
    Builder::new("copy", Variant::Portable, 256).build(include_str!("../../../shaders/copy.wgsl"))
}
