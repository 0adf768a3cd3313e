//! The conversational model's tensors, under the original's names.

use super::{Component, TensorList, add_token_embedding};
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

/// One pre-LN block, counted under the components of its attention, feed-forward and norms.
fn add_block(config: &ModelConfig, list: &mut TensorList, name: &str, components: [Component; 3]) {
    let (d, ffn) = (config.hidden_size, config.intermediate_size);
    let at = |part: &str| format!("{name}.{part}");
    let [attention, feed_forward, norms] = components;
    list.add_norm(&at("ln1"), d, norms);
    for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        list.add_linear(&at(&format!("attn.{part}")), [d, d], false, attention);
    }
    list.add_norm(&at("ln2"), d, norms);
    list.add_linear(&at("ff.fc1"), [ffn, d], false, feed_forward);
    list.add_linear(&at("ff.fc2"), [d, ffn], false, feed_forward);
}
