//! From token ids to the residual stream.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use mor_config::Positions;
use mor_kernels::MatmulPrecision;

use crate::mode::Mode;
use crate::ops;
use crate::{LayerNorm, Linear, Table};

/// Learned positions.
#[derive(Module, Debug)]
pub struct PositionTable {
    /// One row a position, `[max_positions, dim]`.
    pub pos_embedding: Table,
}

/// Token ids that follow each other and share a width.
#[derive(Module, Debug)]
pub struct EmbeddingBand {
    /// One row a token id, `[ids, width]`.
    pub table: Table,
    /// To the model's width, `[dim, width]`; absent where the embedding is not adaptive.
    pub projection: Option<Linear>,
    /// The first id.
    pub start: usize,
}

/// The vectors of tokens: one table, or several of falling widths, each projected to the model's.
#[derive(Module, Debug)]
pub struct TokenEmbedding {
    /// The most frequent ids, or all of them.
    pub first: EmbeddingBand,
    /// The others of an adaptive embedding.
    pub rest: Vec<EmbeddingBand>,
}

impl TokenEmbedding {
    /// `ids: [batch, seq]` to `[batch, seq, dim]`; `matmul` as in [`ops::linear()`].
    pub fn forward(&self, ids: Tensor<2, Int>, matmul: MatmulPrecision) -> Tensor<3> {
        if self.rest.is_empty() {
            return self.first.lookup(ids, matmul);
        }
        // Every band looks up every id, and those outside of it count for nothing.
        let first = self.first.masked(ids.clone(), matmul);
        self.rest
            .iter()
            .fold(first, |sum, band| sum + band.masked(ids.clone(), matmul))
    }
}

impl EmbeddingBand {
    /// Vectors of `ids: [batch, seq]`, counted from the start of the band, `[batch, seq, dim]`.
    fn lookup(&self, ids: Tensor<2, Int>, matmul: MatmulPrecision) -> Tensor<3> {
        let vectors = self.table.forward(ids);
        match &self.projection {
            Some(projection) => projection.forward(vectors, matmul),
            None => vectors,
        }
    }

    /// Vectors of those of `ids: [batch, seq]` that are in the band, and zeros for the others, `[batch, seq, dim]`.
    fn masked(&self, ids: Tensor<2, Int>, matmul: MatmulPrecision) -> Tensor<3> {
        let [entries, _] = self.table.weight.dims();
        let local = ids - self.start as i64;
        let outside = local.clone().lower_elem(0);
        let outside = outside.bool_or(local.clone().greater_equal_elem(entries as i64));
        let vectors = self.lookup(local.clamp(0, entries as i64 - 1), matmul);
        let shape = vectors.dims();
        vectors.mask_fill(outside.unsqueeze_dim::<3>(2).expand(shape), 0.0)
    }
}

/// The input of the first layer: `token[ids]`, plus the positions that are not rotary, and in the technical model a
/// layer norm of the sum.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// The vectors of tokens.
    pub token_embedding: TokenEmbedding,
    /// The position table of a model with learned positions.
    pub pos_encoding: Option<PositionTable>,
    /// Applied to the sum, in the technical model.
    pub layer_norm: Option<LayerNorm>,
    /// How positions enter.
    #[module(skip)]
    pub positions: Positions,
    /// Dropout probability.
    pub dropout: f32,
}

impl Embeddings {
    /// `ids: [batch, seq]` to `[batch, seq, dim]`.
    pub fn forward(&self, ids: Tensor<2, Int>, mode: Mode) -> Tensor<3> {
        let tokens = self.token_embedding.forward(ids, mode.matmul);
        let [batch, seq, dim] = tokens.dims();
        let positions: Option<Tensor<2>> = match (self.positions, &self.pos_encoding) {
            (Positions::Learned, Some(table)) => {
                Some(table.pos_embedding.weight.val().slice([0..seq, 0..dim]))
            }
            (Positions::Sinusoidal, _) => {
                Some(sinusoids(seq, dim, &tokens.device(), tokens.dtype()))
            }
            _ => None,
        };
        let positions = positions.map(|table| table.unsqueeze::<3>().expand([batch, seq, dim]));
        let x = match (&self.layer_norm, positions) {
            (Some(norm), Some(positions)) => norm.forward_residual(tokens, positions),
            (Some(norm), None) => norm.forward(tokens),
            (None, Some(positions)) => tokens + positions,
            (None, None) => tokens,
        };
        ops::dropout(x, self.dropout, mode.training)
    }
}

/// The fixed table of "Attention is all you need", section 3.5, `[seq, dim]`: at position `p`,
/// column `2i` is `sin(p / 10000^(2i/dim))` and column `2i + 1` the cosine of the same angle.
pub(crate) fn sinusoids(seq: usize, dim: usize, device: &Device, dtype: DType) -> Tensor<2> {
    let values: Vec<f32> = (0..seq * dim)
        .map(|at| {
            let (position, column) = (at / dim, at % dim);
            let angle = mor_math::angle(position, column / 2, dim, 10_000.0);
            (if column.is_multiple_of(2) {
                angle.sin()
            } else {
                angle.cos()
            }) as f32
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [seq, dim]), (device, dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, entry by entry.
    #[test]
    fn sinusoids_follow_the_paper() {
        let (seq, dim) = (9, 7);
        let table = sinusoids(seq, dim, &Device::flex(), DType::F32);
        let table = table.into_data().try_into_vec::<f32>().expect("f32");
        for position in 0..seq {
            for i in 0..dim.div_ceil(2) {
                let angle = position as f32 / 10_000_f32.powf(2.0 * i as f32 / dim as f32);
                assert!((table[position * dim + 2 * i] - angle.sin()).abs() < 1e-5);
                if 2 * i + 1 < dim {
                    assert!((table[position * dim + 2 * i + 1] - angle.cos()).abs() < 1e-5);
                }
            }
        }
    }
}
