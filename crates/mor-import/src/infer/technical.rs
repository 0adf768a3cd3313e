//! The technical model: a router and step projections in every layer.

use mor_config::{
    Architecture, HaltedRows, LoopKeys, ModelConfig, Pooling, Positions, RouterKind, RoutingConfig,
};

use super::{check_heads, checked, count, is_tied, matrix, positions};
use crate::{Checkpoint, ImportError};

/// What a technical checkpoint does not say.
#[derive(Debug, Clone, Default)]
pub struct TechnicalOptions {
    /// Attention heads per layer.
    pub heads: usize,
    /// Id of the padding token.
    pub pad_id: u32,
    /// Where positions enter, for a checkpoint that has no table of them.
    pub positions: Option<Positions>,
    /// Longest context in tokens, where no learned table limits it; else the length of the sinusoidal table, or the
    /// original's 128.
    pub context: Option<usize>,
}

/// The configuration of a technical model, with the original's behaviour: pads count in a router's mean, and rows that
/// have halted still pass the layer norms. All three kinds of positions are told apart by their tables, and tables that
/// follow from a formula are compared with it.
///
/// # Errors
/// [`ImportError::Option`] when an option contradicts the checkpoint; [`ImportError`] when tensors are missing, unknown or of other shapes than the rest asks for, listing them by name.
pub fn technical(
    checkpoint: &Checkpoint,
    options: &TechnicalOptions,
) -> Result<ModelConfig, ImportError> {
    const EMBEDDING: &str = "embeddings.token_embedding.weight";
    let [vocab_size, hidden_size] = matrix(checkpoint, EMBEDDING)?;
    check_heads(checkpoint, hidden_size, options.heads)?;
    let found = positions::find(checkpoint, hidden_size, options)?;
    let [intermediate_size, _] = matrix(checkpoint, "layers.0.feedforward.linear1.weight")?;
    let has_routers = checkpoint.names().any(|name| name.contains(".router."));
    let config = ModelConfig {
        architecture: Architecture::Technical,
        vocab_size,
        hidden_size,
        num_hidden_layers: count(checkpoint, "layers."),
        num_prelude_layers: 0,
        num_core_layers: 0,
        num_coda_layers: 0,
        num_attention_heads: options.heads,
        intermediate_size,
        max_position_embeddings: found.context,
        positions: found.positions,
        rope_theta: found.rope_theta,
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
            kv: LoopKeys::default(),
            thresholds: Vec::new(),
            budget: None,
        },
    };
    checked(config, checkpoint, &found.derived)
}
