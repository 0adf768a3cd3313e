//! The technical model: a router and step projections in every layer.

use mor_config::{
    Architecture, HaltedRows, ModelConfig, Pooling, Positions, RouterKind, RoutingConfig,
};

use super::{checked, count, is_tied, matrix};
use crate::{Checkpoint, ImportError};

/// What a technical checkpoint does not say.
#[derive(Debug, Clone)]
pub struct TechnicalOptions {
    /// Attention heads per layer.
    pub heads: usize,
    /// Id of the padding token.
    pub pad_id: u32,
}

/// The configuration of a technical model, with the original's behaviour: pads count in a router's mean, and rows that
/// have halted still pass the layer norms.
///
/// # Errors
/// [`ImportError`] when tensors are missing, unknown or of other shapes than the rest asks for, listing them by name.
pub fn technical(
    checkpoint: &Checkpoint,
    options: &TechnicalOptions,
) -> Result<ModelConfig, ImportError> {
    const EMBEDDING: &str = "embeddings.token_embedding.weight";
    let [vocab_size, hidden_size] = matrix(checkpoint, EMBEDDING)?;
    let [context, _] = matrix(checkpoint, "embeddings.pos_encoding.pos_embedding.weight")?;
    let [intermediate_size, _] = matrix(checkpoint, "layers.0.feedforward.linear1.weight")?;
    let has_routers = checkpoint.names().any(|name| name.contains(".router."));
    let config = ModelConfig {
        architecture: Architecture::Technical,
        vocab_size,
        hidden_size,
        num_hidden_layers: count(checkpoint, "layers."),
        num_attention_heads: options.heads,
        intermediate_size,
        max_position_embeddings: context,
        positions: Positions::Learned,
        rope_theta: 10_000.0,
        layer_norm_eps: 1e-5,
        dropout: 0.0,
        tie_word_embeddings: is_tied(checkpoint, EMBEDDING)?,
        pad_token_id: options.pad_id,
        adaptive_embedding: None,
        routing: RoutingConfig {
            kind: if has_routers {
                RouterKind::Adaptive
            } else {
                RouterKind::Fixed
            },
            max_steps: count(checkpoint, "layers.0.step_projections."),
            class_steps: Vec::new(),
            depth: None,
            pooling: Pooling::Sequence,
            halted_rows: HaltedRows::Renormalize,
        },
    };
    checked(config, checkpoint)
}
