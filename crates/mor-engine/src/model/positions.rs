//! Where the position of a token enters.

use mor_config::{ModelConfig, Positions};

use super::Source;
use crate::Result;

/// What is added to a token's embedding, or done to queries and keys, for its position.
pub(crate) enum PositionTable {
    /// `[context, dim]`, added.
    Added(Vec<f32>),
    /// Cosines and sines, each `[context, head_dim / 2]`.
    Rotary { cos: Vec<f32>, sin: Vec<f32> },
}

impl PositionTable {
    pub(crate) fn load(config: &ModelConfig, source: &impl Source) -> Result<Self> {
        let context = config.max_position_embeddings;
        let angles = |width: usize, base: f64| {
            let pairs = width.div_ceil(2);
            (0..context * pairs).map(move |i| mor_math::angle(i / pairs, i % pairs, width, base))
        };
        match config.positions {
            Positions::Learned => {
                let name = "embeddings.pos_encoding.pos_embedding.weight";
                Ok(Self::Added(source.values(name)?))
            }
            Positions::Sinusoidal => {
                let dim = config.hidden_size;
                let pairs = dim.div_ceil(2);
                let mut table = Vec::with_capacity(context * dim);
                for (i, angle) in angles(dim, 10_000.0).enumerate() {
                    table.push(angle.sin() as f32);
                    // An odd width ends on a sine.
                    if 2 * (i % pairs) + 1 < dim {
                        table.push(angle.cos() as f32);
                    }
                }
                Ok(Self::Added(table))
            }
            Positions::Rotary => {
                let all = || angles(config.head_dim(), f64::from(config.rope_theta));
                Ok(Self::Rotary {
                    cos: all().map(|angle| angle.cos() as f32).collect(),
                    sin: all().map(|angle| angle.sin() as f32).collect(),
                })
            }
        }
    }
}
