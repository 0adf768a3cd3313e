//! Named configurations.

use crate::{
    Architecture, HaltedRows, LoopKeys, ModelConfig, Pooling, Positions, RouterKind, RoutingConfig,
};
use crate::{ConfigError, config};
use std::str::FromStr;

/// A configuration known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The technical model card's literal sizes: 32,000 × 384, 6 layers, 41.4 M parameters.
    TechnicalCard,
    /// The size that card promises: at most 10.5 M parameters, tied, vocabulary 8,192.
    Technical10m,
    /// The conversational model card's sizes: GPT-2's vocabulary and three tokens, 16 blocks of width 768 and a shared
    /// one, 198,464,259 parameters.
    Conversational198m,
    /// A recursive model of at most 10.5 M parameters: two blocks that loop up to three times, between one before and one
    /// after, with the vocabulary and context of [`Self::Technical10m`].
    Recursive10m,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 4] = [
        Self::TechnicalCard,
        Self::Technical10m,
        Self::Conversational198m,
        Self::Recursive10m,
    ];

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::TechnicalCard => "technical-card",
            Self::Technical10m => "technical-10m",
            Self::Conversational198m => "conversational-198m",
            Self::Recursive10m => "recursive-10m",
        }
    }

    /// The configuration itself.
    pub fn config(self) -> ModelConfig {
        let card = ModelConfig {
            architecture: Architecture::Technical,
            vocab_size: 32_000,
            hidden_size: 384,
            num_hidden_layers: 6,
            num_prelude_layers: 0,
            num_core_layers: 0,
            num_coda_layers: 0,
            num_attention_heads: 6,
            intermediate_size: 2048,
            max_position_embeddings: 128,
            positions: Positions::Learned,
            rope_theta: config::default_rope_theta(),
            layer_norm_eps: config::default_eps(),
            dropout: 0.1,
            tie_word_embeddings: false,
            pad_token_id: 0,
            adaptive_embedding: None,
            routing: RoutingConfig {
                kind: RouterKind::Adaptive,
                max_steps: 4,
                class_steps: Vec::new(),
                depth: None,
                pooling: Pooling::Sequence,
                halted_rows: HaltedRows::Renormalize,
                kv: LoopKeys::default(),
                thresholds: Vec::new(),
                budget: None,
            },
        };
        match self {
            Self::TechnicalCard => card,
            Self::Technical10m => ModelConfig {
                vocab_size: 8192,
                num_hidden_layers: 4,
                intermediate_size: 1024,
                max_position_embeddings: 256,
                positions: Positions::Rotary,
                dropout: 0.0,
                tie_word_embeddings: true,
                routing: RoutingConfig {
                    kind: RouterKind::Fixed,
                    max_steps: 2,
                    depth: Some(2),
                    halted_rows: HaltedRows::Freeze,
                    ..card.routing
                },
                ..card
            },
            Self::Conversational198m => ModelConfig {
                architecture: Architecture::Conversational,
                vocab_size: 50_260,
                hidden_size: 768,
                num_hidden_layers: 16,
                num_attention_heads: 12,
                intermediate_size: 3072,
                max_position_embeddings: 512,
                positions: Positions::Rotary,
                pad_token_id: 50_259,
                routing: RoutingConfig {
                    max_steps: 5,
                    class_steps: vec![1, 3, 5],
                    pooling: Pooling::Real,
                    halted_rows: HaltedRows::Freeze,
                    ..card.routing
                },
                ..card
            },
            Self::Recursive10m => ModelConfig {
                architecture: Architecture::Recursive,
                num_hidden_layers: 4,
                num_prelude_layers: 1,
                num_core_layers: 2,
                num_coda_layers: 1,
                intermediate_size: 1536,
                routing: RoutingConfig {
                    max_steps: 3,
                    depth: Some(3),
                    ..Self::Technical10m.config().routing
                },
                ..Self::Technical10m.config()
            },
        }
    }
}

impl FromStr for Preset {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.name() == name)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|preset| preset.name()).collect();
                ConfigError::UnknownPreset(name.to_owned(), names.join(", "))
            })
    }
}
