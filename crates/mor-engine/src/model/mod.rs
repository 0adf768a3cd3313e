//! What a model is made of, wherever it runs: its layers by family, and its tensors as they are stored.

use mor_config::{Architecture, ModelConfig};

use crate::Result;

mod conversational;
mod layer;
mod positions;
pub(crate) mod random;
mod recursive;
mod source;
mod technical;
mod tensor;

pub(crate) use layer::{Block, Gate, Layer, NormOrder, Router, groups, most_steps};
pub(crate) use positions::PositionTable;
pub use source::WeightPrecision;
pub(crate) use source::{Source, TensorSource};
pub(crate) use tensor::{Stored, Tensor};

/// What biases are filled up to: rows of a panel of the CPU's products.
pub(crate) const PANEL: usize = 16;

/// A linear layer whose matrix is packed for some device; the bias is filled up to whole panels, or empty.
pub(crate) struct Linear<M> {
    pub(crate) matrix: M,
    pub(crate) bias: Vec<f32>,
}

/// Gain and bias of a layer norm.
pub(crate) struct Norm {
    pub(crate) gain: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// Name of the output head's weights, given that of the token embedding.
pub(crate) fn head_name(config: &ModelConfig, table: &str) -> String {
    match config.tie_word_embeddings {
        true => format!("{table}.weight"),
        false => "lm_head.weight".to_owned(),
    }
}

/// What families name differently.
pub(crate) struct Parts<M> {
    /// Name of the token embedding.
    pub(crate) table: &'static str,
    pub(crate) embedding_norm: Option<&'static str>,
    pub(crate) layers: Vec<Layer<M>>,
    /// After each loop of a recursive model's core but the last possible one.
    pub(crate) gates: Vec<Gate>,
    pub(crate) norm_order: NormOrder,
    pub(crate) final_norm: &'static str,
}

impl<M> Parts<M> {
    pub(crate) fn load<S: Source<Matrix = M>>(config: &ModelConfig, source: &S) -> Result<Self> {
        match config.architecture {
            Architecture::Technical => technical::load(config, source),
            Architecture::Conversational => conversational::load(config, source),
            Architecture::Recursive => recursive::load(config, source),
        }
    }
}
