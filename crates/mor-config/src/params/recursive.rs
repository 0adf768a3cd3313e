//! The recursive model's tensors.

use super::{Component, TensorList, add_block, add_token_embedding};
use crate::{ModelConfig, RouterKind};

/// Adds every tensor of a recursive model.
pub(super) fn add(config: &ModelConfig, list: &mut TensorList) {
    let d = config.hidden_size;
    let once = [
        Component::Attention,
        Component::FeedForward,
        Component::LayerNorms,
    ];
    let parts = [
        ("prelude", config.num_prelude_layers, once),
        (
            "core",
            config.num_core_layers,
            [Component::RecursionBlock; 3],
        ),
        ("coda", config.num_coda_layers, once),
    ];
    add_token_embedding(config, list, "embed");
    for (part, layers, components) in parts {
        for layer in 0..layers {
            add_block(config, list, &format!("{part}.{layer}"), components);
        }
        if part == "core" && config.routing.kind == RouterKind::Adaptive {
            for gate in 1..config.routing.max_steps {
                // The state's values, and how far the loop moved it.
                let name = format!("gates.{gate}");
                list.add_linear(&name, [1, d + 1], true, Component::Routers);
            }
        }
    }
    list.add_norm("final_norm", d, Component::LayerNorms);
    if !config.tie_word_embeddings {
        list.add("lm_head.weight", &[config.vocab_size, d], Component::Head);
    }
}
