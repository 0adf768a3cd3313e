//! Which tensors a model has, and what they add up to.

use std::collections::BTreeMap;

use crate::{ModelConfig, Positions, RouterKind};

/// Part of a model that parameters are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// Token embedding table (and output head, when tied).
    TokenEmbedding,
    /// Learned position table.
    PositionEmbedding,
    /// Projections before each step.
    StepProjections,
    /// Query, key, value and output projections.
    Attention,
    /// Feed-forward networks.
    FeedForward,
    /// Layer norms.
    LayerNorms,
    /// Routers.
    Routers,
    /// Output head, when untied.
    Head,
}

impl Component {
    /// A short name for tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::TokenEmbedding => "token embedding",
            Self::PositionEmbedding => "position embedding",
            Self::StepProjections => "step projections",
            Self::Attention => "attention",
            Self::FeedForward => "feed-forward",
            Self::LayerNorms => "layer norms",
            Self::Routers => "routers",
            Self::Head => "output head",
        }
    }
}

/// One tensor a model must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in `model.safetensors`: the original model's.
    pub name: String,
    /// Shape; linear weights are `[out, in]`.
    pub shape: Vec<usize>,
    /// The part of the model it belongs to.
    pub component: Component,
}

/// Parameters per component and in total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterCount {
    /// Parameters of each component that the model has.
    pub by_component: BTreeMap<Component, usize>,
    /// Their sum.
    pub total: usize,
}

impl ModelConfig {
    /// Every tensor of the model, in the order in which a token meets them.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = TensorList::default();
        let (d, ffn) = (self.hidden_size, self.intermediate_size);
        list.add(
            "embeddings.token_embedding.weight",
            &[self.vocab_size, d],
            Component::TokenEmbedding,
        );
        if self.positions == Positions::Learned {
            list.add(
                "embeddings.pos_encoding.pos_embedding.weight",
                &[self.max_position_embeddings, d],
                Component::PositionEmbedding,
            );
        }
        list.add_norm("embeddings.layer_norm", d);
        for layer in 0..self.num_hidden_layers {
            let at = |part: &str| format!("layers.{layer}.{part}");
            if self.routing.kind == RouterKind::Adaptive {
                let hidden = self.router_hidden();
                list.add_linear(
                    &at("router.complexity_classifier.0"),
                    [hidden, d],
                    true,
                    Component::Routers,
                );
                let classes = self.routing.max_steps + 1;
                list.add_linear(
                    &at("router.complexity_classifier.3"),
                    [classes, hidden],
                    true,
                    Component::Routers,
                );
            }
            for step in 0..self.routing.max_steps {
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
            list.add_norm(&at("norm1"), d);
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
            list.add_norm(&at("norm2"), d);
        }
        list.add_norm("final_norm", d);
        if !self.tie_word_embeddings {
            list.add("lm_head.weight", &[self.vocab_size, d], Component::Head);
        }
        list.0
    }

    /// Whether a tensor may be present although this configuration does not use it: the routers
    /// of a model whose depth was fixed afterwards, or the head of a tied one.
    pub fn tolerates_tensor(&self, name: &str) -> bool {
        (self.routing.kind == RouterKind::Fixed && name.contains(".router.complexity_classifier."))
            || (self.tie_word_embeddings && name == "lm_head.weight")
    }

    /// Parameters per component and in total; a tied head counts once.
    pub fn parameter_count(&self) -> ParameterCount {
        let mut by_component = BTreeMap::new();
        for tensor in self.tensors() {
            *by_component.entry(tensor.component).or_insert(0) +=
                tensor.shape.iter().product::<usize>();
        }
        let total = by_component.values().sum();
        ParameterCount {
            by_component,
            total,
        }
    }
}

#[derive(Default)]
struct TensorList(Vec<TensorSpec>);

impl TensorList {
    fn add(&mut self, name: &str, shape: &[usize], component: Component) {
        self.0.push(TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            component,
        });
    }

    fn add_linear(&mut self, name: &str, shape: [usize; 2], bias: bool, component: Component) {
        self.add(&format!("{name}.weight"), &shape, component);
        if bias {
            self.add(&format!("{name}.bias"), &shape[..1], component);
        }
    }

    fn add_norm(&mut self, name: &str, dim: usize) {
        self.add(&format!("{name}.weight"), &[dim], Component::LayerNorms);
        self.add(&format!("{name}.bias"), &[dim], Component::LayerNorms);
    }
}

#[cfg(test)]
mod tests {
    use crate::Preset;

    #[test]
    fn technical_card_has_the_size_its_shapes_give() {
        let mut config = Preset::TechnicalCard.config();
        assert_eq!(config.parameter_count().total, 41_401_758);
        config.tie_word_embeddings = true;
        assert_eq!(config.parameter_count().total, 41_401_758 - 32_000 * 384);
    }

    #[test]
    fn technical_10m_keeps_the_cards_promise() {
        let config = Preset::Technical10m.config();
        let total = config.parameter_count().total;
        assert!((9_500_000..=10_500_000).contains(&total), "{total}");
        assert!(config.tie_word_embeddings && config.vocab_size == 8192);
        assert!(config.max_position_embeddings >= 128);
    }
}
