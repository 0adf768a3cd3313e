//! Which tensors a model has, and what they add up to.

use std::collections::BTreeMap;

use crate::{Architecture, ModelConfig, RouterKind};

mod conversational;
mod recursive;
mod technical;

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
    /// The block that the conversational model applies as often as its router decides, or the recursive model's core.
    RecursionBlock,
    /// Layer norms.
    LayerNorms,
    /// Routers and gates.
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
            Self::RecursionBlock => "recursion block",
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
        match self.architecture {
            Architecture::Technical => technical::add(self, &mut list),
            Architecture::Conversational => conversational::add(self, &mut list),
            Architecture::Recursive => recursive::add(self, &mut list),
        }
        list.0
    }

    /// Whether a tensor may be present although this configuration does not use it: the routers of a model whose depth
    /// was fixed afterwards, the head of a tied one, or a table that follows from the configuration.
    pub fn tolerates_tensor(&self, name: &str) -> bool {
        let (router, derived): (_, &[&str]) = match self.architecture {
            Architecture::Technical => (name.contains(".router.complexity_classifier."), &[]),
            Architecture::Conversational => (
                name.starts_with("router."),
                &[".rope.inv_freq", "router.steps_map"],
            ),
            Architecture::Recursive => (name.starts_with("gates."), &[]),
        };
        (self.routing.kind == RouterKind::Fixed && router)
            || derived.iter().any(|suffix| name.ends_with(suffix))
            || (self.tie_word_embeddings && name == "lm_head.weight")
    }

    /// The ids and the width of each band of the token embedding; one band where it is not adaptive.
    pub fn embedding_bands(&self) -> Vec<(std::ops::Range<usize>, usize)> {
        let (cutoffs, div_val) = match &self.adaptive_embedding {
            Some(adaptive) => (adaptive.cutoffs.as_slice(), adaptive.div_val),
            None => (&[][..], 1),
        };
        let starts = std::iter::once(0).chain(cutoffs.iter().copied());
        let ends = cutoffs.iter().copied().chain([self.vocab_size]);
        let mut width = self.hidden_size;
        let bands = starts.zip(ends).map(|(start, end)| {
            let band = (start..end, width);
            width /= div_val.max(1);
            band
        });
        bands.collect()
    }

    /// Parameters per component and in total; a tied head counts once.
    ///
    /// ```
    /// use mor_config::{Component, Preset};
    ///
    /// let count = Preset::Technical10m.config().parameter_count();
    /// assert_eq!(count.total, 9_848_320);
    /// assert_eq!(count.by_component[&Component::TokenEmbedding], 8192 * 384);
    /// ```
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

    fn add_norm(&mut self, name: &str, dim: usize, component: Component) {
        self.add(&format!("{name}.weight"), &[dim], component);
        self.add(&format!("{name}.bias"), &[dim], component);
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

/// One table, or a table and a projection for each band of an adaptive embedding.
fn add_token_embedding(config: &ModelConfig, list: &mut TensorList, name: &str) {
    let bands = config.embedding_bands();
    let d = config.hidden_size;
    if config.adaptive_embedding.is_none() {
        list.add(
            &format!("{name}.weight"),
            &[config.vocab_size, d],
            Component::TokenEmbedding,
        );
        return;
    }
    for (band, (ids, width)) in bands.into_iter().enumerate() {
        let table = format!("{name}.emb_layers.{band}.weight");
        list.add(&table, &[ids.len(), width], Component::TokenEmbedding);
        let projection = format!("{name}.emb_projs.{band}.weight");
        list.add(&projection, &[d, width], Component::TokenEmbedding);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Component;
    use crate::{AdaptiveEmbedding, Preset};

    #[test]
    fn technical_card_has_the_size_its_shapes_give() {
        let mut config = Preset::TechnicalCard.config();
        assert_eq!(config.parameter_count().total, 41_401_758);
        config.tie_word_embeddings = true;
        assert_eq!(config.parameter_count().total, 41_401_758 - 32_000 * 384);
    }

    #[test]
    fn conversational_198m_has_exactly_the_cards_size() {
        let count = Preset::Conversational198m.config().parameter_count();
        assert_eq!(count.total, 198_464_259);
        assert_eq!(count.by_component[&Component::RecursionBlock], 7_080_960);
    }

    #[test]
    fn adaptive_embeddings_narrow_from_band_to_band() {
        let mut config = Preset::TechnicalCard.config();
        config.adaptive_embedding = Some(AdaptiveEmbedding {
            cutoffs: vec![2000, 10_000],
            div_val: 4,
        });
        config.validate(Path::new("test")).expect("valid");
        assert_eq!(
            config.embedding_bands(),
            [(0..2000, 384), (2000..10_000, 96), (10_000..32_000, 24)]
        );
        let count = config.parameter_count();
        let expected = 2000 * 384 + 8000 * 96 + 22_000 * 24 + 384 * (384 + 96 + 24);
        assert_eq!(count.by_component[&Component::TokenEmbedding], expected);

        for (cutoffs, div_val) in [
            (vec![], 4),
            (vec![0], 4),
            (vec![9, 9], 4),
            (vec![32_000], 4),
            (vec![9], 0),
            (vec![9], 385),
        ] {
            config.adaptive_embedding = Some(AdaptiveEmbedding { cutoffs, div_val });
            assert!(config.validate(Path::new("test")).is_err(), "{config:?}");
        }
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
