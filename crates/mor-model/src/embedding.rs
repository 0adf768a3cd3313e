//! From token ids to the residual stream: token and position embeddings, then a layer norm.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use mor_config::Positions;

use crate::ops;
use crate::{LayerNorm, Table};

/// Learned positions.
#[derive(Module, Debug)]
pub struct PositionTable {
    /// One row a position, `[max_positions, dim]`.
    pub pos_embedding: Table,
}

/// `LN(token[ids] + position)`; rotary models add no position here.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// One row a token id, `[vocab, dim]`.
    pub token_embedding: Table,
    /// The position table of a model with learned positions.
    pub pos_encoding: Option<PositionTable>,
    /// Applied to the sum.
    pub layer_norm: LayerNorm,
    /// How positions enter.
    #[module(skip)]
    pub positions: Positions,
    /// Dropout probability.
    pub dropout: f32,
}

impl Embeddings {
    /// `ids: [batch, seq]` to `[batch, seq, dim]`.
    pub fn forward(&self, ids: Tensor<2, Int>, training: bool) -> Tensor<3> {
        let tokens = self.token_embedding.forward(ids);
        let [batch, seq, dim] = tokens.dims();
        let positions: Option<Tensor<2>> = match (self.positions, &self.pos_encoding) {
            (Positions::Learned, Some(table)) => {
                Some(table.pos_embedding.weight.val().slice([0..seq, 0..dim]))
            }
            (Positions::Sinusoidal, _) => Some(sinusoids(seq, dim, &tokens.device())),
            _ => None,
        };
        let x = match positions {
            Some(table) => self
                .layer_norm
                .forward_residual(tokens, table.unsqueeze::<3>().expand([batch, seq, dim])),
            None => self.layer_norm.forward(tokens),
        };
        ops::dropout(x, self.dropout, training)
    }
}

/// The fixed table of "Attention is all you need", section 3.5, `[seq, dim]`: at position `p`,
/// column `2i` is `sin(p / 10000^(2i/dim))` and column `2i + 1` the cosine of the same angle.
pub(crate) fn sinusoids(seq: usize, dim: usize, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..seq * dim)
        .map(|at| {
            let (position, column) = (at / dim, at % dim);
            let exponent = (column - column % 2) as f64 / dim as f64;
            let angle = position as f64 / 10_000_f64.powf(exponent);
            (if column.is_multiple_of(2) {
                angle.sin()
            } else {
                angle.cos()
            }) as f32
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [seq, dim]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, entry by entry.
    #[test]
    fn sinusoids_follow_the_paper() {
        let (seq, dim) = (9, 7);
        let table = sinusoids(seq, dim, &Device::flex());
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
