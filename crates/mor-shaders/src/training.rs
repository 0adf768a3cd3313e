//! What training computes row by row, and the gradients of it.

use crate::shader::Builder;
use crate::{Shader, Variant, element};

/// Invocations of a workgroup.
const SIZE: u32 = 64;
/// The fewest rows that are summed apart from the others.
const FEWEST: u32 = 16;

/// Rows of a chunk, and how many chunks these rows are: about as many, so that either sum is short.
pub fn chunks(rows: u32) -> (u32, u32) {
    let of_chunk = rows.isqrt().max(FEWEST);
    (of_chunk, rows.div_ceil(of_chunk))
}

/// Layer norm of `x`, or of `x + residual`. See `shaders/layer_norm_training.wgsl`. A unit a row.
///
/// Bindings: `x: [rows][dim]`; if `residual` a branch shaped as `x`; `gain` and `bias: [dim]` of f32; the results: if
/// `residual` the sums, shaped as `x`; `y`, shaped as `x`; `moments: [2][rows]` of f32, means and then reciprocal
/// deviations; `params` of u32: rows, and the bits of the f32 that is added to variances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LayerNormTraining {
    /// Values of a row.
    pub dim: u32,
    /// Whether a branch is added first. The backward passes are the same either way.
    pub residual: bool,
    /// Whether rows are f16.
    pub half: bool,
}

impl LayerNormTraining {
    /// The forward pass.
    pub fn shader(&self, variant: Variant) -> Shader {
        let builder = self
            .builder("layer_norm training", variant)
            .flag("RESIDUAL", self.residual);
        let file = include_str!("../../../shaders/layer_norm_training.wgsl");
        element::build(builder, file, self.half)
    }

    /// The backward pass to what was normalised. A unit a row. Bindings: `input` that was normalised, `gain`,
    /// `moments`, `d_y`; the result `d_x`; `params` of u32: rows.
    pub fn backward(&self, variant: Variant) -> Shader {
        let builder = self.builder("layer_norm backward", variant);
        let file = include_str!("../../../shaders/layer_norm_backward.wgsl");
        element::build(builder, file, self.half)
    }

    /// The gradients of gain and bias, by chunks: the same in every variant, as nothing is shared. Bindings: `input`, `moments`, `d_y`; the result `sums:
    /// [chunks][dim][2]` of f32; `params` of u32: rows, and rows of a chunk, as of [`chunks`]. Grid: [`Self::workgroups`].
    pub fn backward_chunks(&self) -> Shader {
        let builder = self.builder("layer_norm backward chunks", Variant::Portable);
        let file = include_str!("../../../shaders/layer_norm_backward_chunks.wgsl");
        element::build(builder, file, self.half)
    }

    /// The gradients of gain and bias. A unit a column. Bindings: `sums` of [`Self::backward_chunks`]; the results
    /// `d_gain` and `d_bias: [dim]` of f32; `params` of u32: chunks.
    pub fn backward_sum(&self, variant: Variant) -> Shader {
        self.builder("layer_norm backward sum", variant)
            .build(include_str!(
                "../../../shaders/layer_norm_backward_sum.wgsl"
            ))
    }

    /// The grid over that many chunks.
    pub fn workgroups(&self, chunks: u32) -> [u32; 3] {
        [self.dim.div_ceil(SIZE), chunks, 1]
    }

    fn builder(&self, name: &str, variant: Variant) -> Builder {
        Builder::new(name, variant, SIZE).constant("DIM", self.dim)
    }
}

/// Sums of columns, by [`chunks`] of rows, then in all. See `shaders/column_sums.wgsl`.
///
/// Bindings: `x: [rows][dim]`; the result `sums: [chunks][dim]` of f32; `params` of u32: rows, and rows of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColumnSums {
    /// Values of a row.
    pub dim: u32,
    /// Whether rows are f16.
    pub half: bool,
}

impl ColumnSums {
    /// The shader: the same in every variant, as nothing is shared.
    pub fn shader(&self) -> Shader {
        let builder = Builder::new("column sums", Variant::Portable, SIZE);
        let file = include_str!("../../../shaders/column_sums.wgsl");
        element::build(builder.constant("DIM", self.dim), file, self.half)
    }

    /// The grid over that many chunks.
    pub fn workgroups(&self, chunks: u32) -> [u32; 3] {
        [self.dim.div_ceil(SIZE), chunks, 1]
    }
}

/// Rotary positions of rows whose heads lie side by side, in place. See `shaders/rotary_training.wgsl`. A unit a pair of
/// values.
///
/// Bindings: `x: [batch][seq][dim]`; `angles: [positions][head_dim / 2][2]` of f32, cosine and sine of each; if
/// `indexed` `positions: [batch][seq]` of u32, else they count from 0; `params` of u32: units, seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RotaryTraining {
    /// Numbers of a row.
    pub dim: u32,
    /// Channels of a head, two or more. The last of an odd number stays as it is.
    pub head_dim: u32,
    /// Whether positions come in a buffer.
    pub indexed: bool,
    /// Whether to rotate back, which is what gradients want.
    pub inverse: bool,
    /// Whether rows are f16.
    pub half: bool,
}

impl RotaryTraining {
    /// The shader: the same in every variant, as nothing is shared.
    pub fn shader(&self) -> Shader {
        let builder = Builder::new("rotary training", Variant::Portable, SIZE)
            .constant("DIM", self.dim)
            .constant("PAIRS", self.pairs())
            .constant("HEAD_DIM", self.head_dim)
            .constant("HALF", self.head_dim / 2)
            .float("SIGN", if self.inverse { -1.0 } else { 1.0 })
            .flag("INDEXED", self.indexed);
        let file = include_str!("../../../shaders/rotary_training.wgsl");
        element::build(builder, file, self.half)
    }

    /// Pairs of a row.
    pub fn pairs(&self) -> u32 {
        self.dim / self.head_dim * (self.head_dim / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_all_rows_within_what_grids_and_loops_allow() {
        for rows in [1, 15, 16, 17, 255, 70_000, 1 << 20, 1 << 31] {
            let (of_chunk, chunks) = chunks(rows);
            assert!(u64::from(of_chunk) * u64::from(chunks) >= u64::from(rows));
            assert!(of_chunk * (chunks - 1) < rows, "none is empty");
            assert!(of_chunk.max(chunks) <= 65_535, "{rows}");
        }
    }
}
