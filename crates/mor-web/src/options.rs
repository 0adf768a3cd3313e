//! What crosses to JavaScript and back, as plain data. `web/src/protocol.ts` has the other side.

use mor_config::{Depth, ModelConfig};
use mor_engine::{ChatOptions, FinishReason, SamplingOptions};
use serde::{Deserialize, Serialize};

/// How an answer is written.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// 0 always takes the likeliest token.
    pub(crate) temperature: f32,
    /// 0 is all tokens.
    pub(crate) top_k: usize,
    /// 1 is all tokens.
    pub(crate) top_p: f32,
    pub(crate) max_new_tokens: usize,
    pub(crate) seed: u64,
    pub(crate) depth: Option<usize>,
    /// 1 is off.
    pub(crate) repetition_penalty: f32,
}

impl From<Options> for ChatOptions {
    fn from(options: Options) -> Self {
        Self {
            sampling: SamplingOptions {
                temperature: options.temperature,
                top_k: options.top_k,
                top_p: options.top_p,
                repetition_penalty: options.repetition_penalty,
                seed: options.seed,
            },
            max_new_tokens: options.max_new_tokens,
            ..Self::default()
        }
    }
}

/// A depth as JavaScript gives it: a number, or nothing.
pub(crate) fn depth(steps: Option<usize>) -> Depth {
    steps.map_or(Depth::Configured, Depth::Forced)
}

/// What a model is.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    parameters: usize,
    weight_bytes: usize,
    layers: usize,
    hidden_size: usize,
    heads: usize,
    vocab_size: usize,
    context: usize,
    max_steps: usize,
    depth: Option<usize>,
}

impl Info {
    pub(crate) fn new(config: &ModelConfig, weight_bytes: usize) -> Self {
        Self {
            parameters: config.parameter_count().total,
            weight_bytes,
            layers: config.num_hidden_layers,
            hidden_size: config.hidden_size,
            heads: config.num_attention_heads,
            vocab_size: config.vocab_size,
            context: config.max_position_embeddings,
            max_steps: config.routing.max_steps,
            // The configured depth was checked when the configuration was read.
            depth: config.resolve_depth(Depth::Configured).unwrap_or_default(),
        }
    }
}

/// A prompt that has been read.
#[derive(Debug, Serialize)]
pub(crate) struct Prompt {
    pub(crate) prompt_tokens: usize,
    /// Oldest messages of the history that did not fit the context.
    pub(crate) dropped_messages: usize,
}

/// How often two devices found the same token likeliest.
#[derive(Debug, Serialize)]
pub(crate) struct Agreement {
    pub(crate) equal: usize,
    pub(crate) tokens: usize,
}

/// One token of an answer, or its end.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// Characters completed by this token.
    pub(crate) text: String,
    /// Steps that each layer took.
    pub(crate) steps: Vec<u8>,
    pub(crate) probability: f32,
    /// `None` while the answer goes on.
    pub(crate) end: Option<&'static str>,
}

impl Step {
    /// The end of an answer, with the text that no token completed.
    pub(crate) fn end(rest: &str, reason: Option<FinishReason>) -> Self {
        Self {
            text: rest.to_owned(),
            steps: Vec::new(),
            probability: 0.0,
            end: Some(reason.map_or("stopped", FinishReason::name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_page_sends() {
        let text = r#"{"temperature":0,"top_k":40,"top_p":0.95,"max_new_tokens":160,"seed":4294967295,"depth":null,
            "repetition_penalty":1}"#;
        let options: Options = serde_json::from_str(text).expect("the page's own format");
        assert_eq!(options.seed, 4_294_967_295);
        assert_eq!(depth(options.depth), Depth::Configured);
        assert_eq!(depth(Some(2)), Depth::Forced(2));
    }

    #[test]
    fn info_follows_the_configuration() {
        let config = mor_config::Preset::Technical10m.config();
        let info = Info::new(&config, 5);
        assert_eq!(info.parameters, config.parameter_count().total);
        assert_eq!(
            info.depth,
            Some(config.routing.depth.unwrap_or(info.max_steps))
        );
        assert_eq!(
            Info::new(&mor_config::Preset::TechnicalCard.config(), 5).depth,
            None
        );
    }
}
