//! The conversational model's tensors, under the original's names.

use super::{Component, TensorList, add_block, add_token_embedding};
use crate::{ModelConfig, RouterKind};

/// Adds every tensor of a conversational model.
pub(super) fn add(config: &ModelConfig, list: &mut TensorList) {
    let d = config.hidden_size;
    add_token_embedding(config, list, "embed");
    for layer in 0..config.num_hidden_layers {
        let (attention, ff, norms) = (
            Component::Attention,
            Component::FeedForward,
            Component::LayerNorms,
        );
        add_block(
            config,
            list,
            &format!("layers.{layer}"),
            [attention, ff, norms],
        );
    }
    if config.routing.kind == RouterKind::Adaptive {
        let (hidden, classes) = (config.router_hidden(), config.routing.class_steps.len());
        list.add_linear("router.pooler", [d, d], true, Component::Routers);
        list.add_linear("router.head.0", [hidden, d], true, Component::Routers);
        list.add_linear("router.head.3", [classes, hidden], true, Component::Routers);
    }
    add_block(
        config,
        list,
        "rec_layer.block",
        [Component::RecursionBlock; 3],
    );
    list.add_norm("ln_f", d, Component::LayerNorms);
    if !config.tie_word_embeddings {
        list.add("lm_head.weight", &[config.vocab_size, d], Component::Head);
    }
}
