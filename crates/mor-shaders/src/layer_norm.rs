//! Layer norm of rows.

use crate::shader::Builder;
use crate::{Shader, Variant};

/// `y = (x - mean) / sqrt(var + eps) * gain + bias` over each row (Ba, Kiros and Hinton 2016), one workgroup a row, or
/// one invocation a row in the portable variant. See `shaders/layer_norm.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNorm {
    /// Values of a row.
    pub dim: u32,
    /// Elements between rows.
    pub stride: u32,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// The shader.
    pub fn shader(&self, variant: Variant) -> Shader {
        let file = match variant {
            Variant::Portable => include_str!("../../../shaders/layer_norm.portable.wgsl"),
            Variant::Workgroup | Variant::Subgroup => {
                include_str!("../../../shaders/layer_norm.wgsl")
            }
        };
        Builder::new("layer_norm", variant, 64)
            .constant("DIM", self.dim)
            .constant("STRIDE", self.stride)
            .float("EPS", self.eps)
            .build(file)
    }
}
