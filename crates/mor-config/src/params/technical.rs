//! The technical model's tensors, under the original's names.

use super::{Component, TensorList, add_token_embedding};
use crate::{ModelConfig, Positions, RouterKind};

/// Adds every tensor of a technical model.
pub(super) fn add(config: &ModelConfig, list: &mut TensorList) {
    let (d, ffn) = (config.hidden_size, config.intermediate_size);
    add_token_embedding(config, list, "embeddings.token_embedding");
    if config.positions == Positions::Learned {
        list.add(
            "embeddings.pos_encoding.pos_embedding.weight",
            &[config.max_position_embeddings, d],
            Component::PositionEmbedding,
        );
    }
    list.add_norm("embeddings.layer_norm", d, Component::LayerNorms);
    for layer in 0..config.num_hidden_layers {
        let at = |part: &str| format!("layers.{layer}.{part}");
        if config.routing.kind == RouterKind::Adaptive {
            let hidden = config.router_hidden();
            list.add_linear(
                &at("router.complexity_classifier.0"),
                [hidden, d],
                true,
                Component::Routers,
            );
            let classes = config.routing.max_steps + 1;
            list.add_linear(
                &at("router.complexity_classifier.3"),
                [classes, hidden],
                true,
                Component::Routers,
            );
        }
        for step in 0..config.routing.max_steps {
            let name = at(&format!("step_projections.{step}"));
            list.add_linear(&name, [d, d], true, Component::StepProjections);
        }
        for part in ["w_q", "w_k", "w_v"] {
            list.add_linear(
                &at(&format!("attention.{part}")),
                [d, d],
                false,
                Component::Attention,
            );
        }
        list.add_linear(&at("attention.w_o"), [d, d], true, Component::Attention);
        list.add_norm(&at("norm1"), d, Component::LayerNorms);
        list.add_linear(
            &at("feedforward.linear1"),
            [ffn, d],
            true,
            Component::FeedForward,
        );
        list.add_linear(
            &at("feedforward.linear2"),
            [d, ffn],
            true,
            Component::FeedForward,
        );
        list.add_norm(&at("norm2"), d, Component::LayerNorms);
    }
    list.add_norm("final_norm", d, Component::LayerNorms);
    if !config.tie_word_embeddings {
        list.add("lm_head.weight", &[config.vocab_size, d], Component::Head);
    }
}
