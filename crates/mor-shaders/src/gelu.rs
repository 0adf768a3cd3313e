//! The activation of a feed-forward network in training.

use crate::routing::{COLUMNS, grid};
use crate::shader::Builder;
use crate::{Shader, Variant, element};

/// `y = gelu(x)` of rows, or `gelu(x + bias)`, with the exact GELU. See `shaders/gelu.wgsl`.
///
/// Bindings: `x: [rows][stride]`; if `biased` `bias: [stride]` of f32; `y`, shaped as `x`; `params` of u32: rows.
///
/// ```
/// use mor_shaders::Gelu;
///
/// let op = Gelu { stride: 1536, biased: true, half: false };
/// let shader = op.shader();
/// let names: Vec<_> = shader.bindings.iter().map(|binding| binding.name.as_str()).collect();
/// assert_eq!(names, ["x", "bias", "y", "params"]);
/// assert!(shader.source.contains("const STRIDE: u32 = 1536u;"));
/// // One row of workgroups for each of seven rows.
/// assert_eq!(op.workgroups(7)[0], 7);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gelu {
    /// Elements of a row.
    pub stride: u32,
    /// Whether a bias is added first.
    pub biased: bool,
    /// Whether `x` and `y` are f16.
    pub half: bool,
}

impl Gelu {
    /// The forward pass: as the backward one the same in every variant, as nothing is shared.
    pub fn shader(&self) -> Shader {
        let file = include_str!("../../../shaders/gelu.wgsl");
        self.build("gelu", file)
    }

    /// The backward pass. Bindings as of the forward pass, with `d` in place of `y`: the gradient of the output, which
    /// that of `x` takes the place of. Grid: [`Self::workgroups`].
    pub fn backward(&self) -> Shader {
        let file = include_str!("../../../shaders/gelu_backward.wgsl");
        self.build("gelu backward", file)
    }

    /// The grid over `rows`.
    pub fn workgroups(&self, rows: u32) -> [u32; 3] {
        grid(self.stride, rows)
    }

    fn build(&self, name: &str, file: &str) -> Shader {
        let builder = Builder::new(name, Variant::Portable, 64)
            .constant("STRIDE", self.stride)
            .constant("COLUMNS", COLUMNS)
            .flag("BIAS", self.biased)
            .include(include_str!("../../../shaders/include/activation.wgsl"));
        element::build(builder, file, self.half)
    }
}
