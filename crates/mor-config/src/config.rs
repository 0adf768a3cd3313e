//! `config.json`: what a model is made of.

mod validate;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ConfigError;

/// Which of the two families a model belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// Post-LN layers, each of which recurs by a router of its own, with a projection before each step.
    #[serde(rename = "mor-technical")]
    Technical,
    /// Pre-LN blocks, then one shared block that recurs as a single router decides for the whole sequence.
    #[serde(rename = "mor-conversational")]
    Conversational,
}

impl Architecture {
    /// The `model_type` in `config.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Technical => "mor-technical",
            Self::Conversational => "mor-conversational",
        }
    }
}

/// Where the position of a token enters the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// A trained table `[max_position_embeddings, hidden_size]`, added to the token embedding.
    Learned,
    /// Fixed interleaved sines and cosines (Vaswani et al. 2017, section 3.5), added likewise.
    Sinusoidal,
    /// Queries and keys are rotated per head by position (Su et al. 2021), half-split pairs.
    Rotary,
}

/// How depth is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouterKind {
    /// A router classifies its pooled input into one of [`RoutingConfig::steps_of_classes`].
    Adaptive,
    /// Always [`RoutingConfig::depth`] steps; the model has no router.
    Fixed,
}

/// Which positions a router pools over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// All positions, pads included: the technical original. Later tokens change earlier depths.
    Sequence,
    /// All positions that are not pads: the conversational original. Later tokens change earlier depths.
    Real,
    /// The position itself and those before it, pads left out. Each position then has a depth of its own and, at
    /// each step, attends to the positions that took that step: later tokens change nothing.
    Prefix,
}

/// What happens to a row that has halted while others of its batch go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HaltedRows {
    /// It stays as it is, so that a row's result never depends on its batch.
    Freeze,
    /// It still passes both layer norms of each step: the original.
    Renormalize,
}

/// Where and how depth is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutingConfig {
    /// How depth is decided.
    pub kind: RouterKind,
    /// The most steps that a layer, or the shared block, can take. In the technical model each has a step projection
    /// of its own.
    pub max_steps: usize,
    /// Steps for each of the conversational router's classes, increasing, up to `max_steps`. The technical model's
    /// classes are `0..=max_steps`, and its list stays empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_steps: Vec<usize>,
    /// Steps under [`RouterKind::Fixed`]; defaults to `max_steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// What a router pools over.
    #[serde(default = "default_pooling")]
    pub pooling: Pooling,
    /// What happens to halted rows of a batch.
    #[serde(default = "default_halted_rows")]
    pub halted_rows: HaltedRows,
}

impl RoutingConfig {
    /// The number of steps that each class of a router stands for.
    pub fn steps_of_classes(&self) -> Vec<usize> {
        if self.class_steps.is_empty() {
            (0..=self.max_steps).collect()
        } else {
            self.class_steps.clone()
        }
    }
}

fn default_pooling() -> Pooling {
    Pooling::Sequence
}

fn default_halted_rows() -> HaltedRows {
    HaltedRows::Freeze
}

/// A depth asked for at run time, overriding the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// As the configuration says: routed, or its fixed depth.
    #[default]
    Configured,
    /// This many steps in every layer, or of the shared block.
    Forced(usize),
}

/// Token embeddings whose width falls with the frequency of the token, each projected to the model's width
/// (Baevski & Auli 2018, section 3). Ids are ordered by frequency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveEmbedding {
    /// Where bands of ids end, increasing, below the vocabulary's size; the last band ends there.
    pub cutoffs: Vec<usize>,
    /// Band `i` has width `hidden_size / div_val^i`.
    pub div_val: usize,
}

/// A mixture-of-recursions model. Keys are Hugging Face's where it has a name for them.
///
/// ```
/// use std::path::Path;
///
/// use mor_config::{Depth, ModelConfig, Preset};
///
/// let config = Preset::Technical10m.config();
/// assert_eq!((config.hidden_size, config.head_dim()), (384, 64));
/// assert_eq!(config.resolve_depth(Depth::Forced(1))?, Some(1));
///
/// // What is out of range is an error that names file and key.
/// let text = config.to_json().replace("\"num_attention_heads\": 6", "\"num_attention_heads\": 7");
/// let error = ModelConfig::from_json(text.as_bytes(), Path::new("config.json")).unwrap_err();
/// assert!(error.to_string().starts_with("config.json: `num_attention_heads`"), "{error}");
/// # Ok::<(), mor_config::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The family.
    #[serde(rename = "model_type")]
    pub architecture: Architecture,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of layers. The technical model's recur one by one; the conversational model's run once, before the
    /// shared block.
    pub num_hidden_layers: usize,
    /// Attention heads per layer; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of the feed-forward's hidden layer.
    pub intermediate_size: usize,
    /// Longest context in tokens.
    pub max_position_embeddings: usize,
    /// Where positions enter.
    #[serde(default = "default_positions", rename = "position_embedding_type")]
    pub positions: Positions,
    /// Base of the rotary angles.
    #[serde(default = "default_rope_theta")]
    pub rope_theta: f32,
    /// Added to the variance in every layer norm.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f32,
    /// Dropout probability in training.
    #[serde(default, rename = "hidden_dropout_prob")]
    pub dropout: f32,
    /// Whether the output head is the token embedding table.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Id of the padding token; hidden as a key.
    #[serde(default)]
    pub pad_token_id: u32,
    /// Token embeddings of several widths; one table when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive_embedding: Option<AdaptiveEmbedding>,
    /// Where and how depth is decided.
    pub routing: RoutingConfig,
}

fn default_positions() -> Positions {
    Positions::Learned
}

pub(crate) fn default_rope_theta() -> f32 {
    10_000.0
}

pub(crate) fn default_eps() -> f32 {
    1e-5
}

/// Largest sizes a configuration may ask for. They bound every allocation that follows from an
/// untrusted file, and keep all index arithmetic far from overflow.
#[derive(Debug, Clone, Copy)]
pub struct Limits;

impl Limits {
    /// Largest vocabulary.
    pub const VOCAB: usize = 1 << 20;
    /// Largest hidden or feed-forward width.
    pub const WIDTH: usize = 1 << 16;
    /// Most layers.
    pub const LAYERS: usize = 1 << 10;
    /// Longest context.
    pub const CONTEXT: usize = 1 << 17;
    /// Most steps per layer.
    pub const STEPS: usize = 64;
}

impl ModelConfig {
    /// Parses and validates a `config.json`. `origin` is what errors call the file.
    ///
    /// # Errors
    /// [`ConfigError::Json`] or [`ConfigError::Field`].
    pub fn from_json(text: &[u8], origin: &Path) -> Result<Self, ConfigError> {
        let text = crate::without_byte_order_mark(text);
        let config: Self = serde_json::from_slice(text).map_err(|source| ConfigError::Json {
            path: origin.to_owned(),
            source,
        })?;
        config.validate(origin)?;
        Ok(config)
    }

    /// Reads `config.json` from a model folder.
    ///
    /// # Errors
    /// [`ConfigError::NotAModel`] when the folder or file is missing; else as [`Self::from_json`].
    #[cfg(feature = "fs")]
    pub fn from_dir(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join(crate::CONFIG_FILE);
        let not_a_model = |found: &str| ConfigError::NotAModel {
            path: dir.to_owned(),
            found: found.to_owned(),
        };
        if !dir.exists() {
            return Err(not_a_model("there is no such folder"));
        }
        if !path.is_file() {
            let inner = dir.join("model");
            return Err(not_a_model(
                &match inner.join(crate::CONFIG_FILE).is_file() {
                    // The folder of a training run.
                    true => format!("found no config.json in it, but one in {}", inner.display()),
                    false => "found no config.json in it".to_owned(),
                },
            ));
        }
        let text = std::fs::read(&path).map_err(|source| ConfigError::Io {
            path: path.clone(),
            source,
        })?;
        Self::from_json(&text, &path)
    }

    /// The file's text, pretty-printed, with a final newline.
    pub fn to_json(&self) -> String {
        // Plain structs of numbers and strings: serialization has nothing to fail on.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Width of a router's hidden layer: a quarter of the model's in the technical model, half in the conversational.
    pub fn router_hidden(&self) -> usize {
        let part = match self.architecture {
            Architecture::Technical => 4,
            Architecture::Conversational => 2,
        };
        (self.hidden_size / part).max(1)
    }

    /// Number of routed depths of a row: one a layer, or one in all.
    pub fn routed_depths(&self) -> usize {
        match self.architecture {
            Architecture::Technical => self.num_hidden_layers,
            Architecture::Conversational => 1,
        }
    }

    /// The fixed number of steps, or `None` where routers decide.
    ///
    /// # Errors
    /// [`ConfigError::Field`] when a forced depth exceeds `routing.max_steps`.
    pub fn resolve_depth(&self, depth: Depth) -> Result<Option<usize>, ConfigError> {
        match depth {
            Depth::Forced(steps) if steps > self.routing.max_steps => Err(ConfigError::Field {
                path: PathBuf::from("depth"),
                field: "depth",
                problem: format!(
                    "is {steps}, but this model takes at most {}",
                    self.routing.max_steps
                ),
            }),
            Depth::Forced(steps) => Ok(Some(steps)),
            Depth::Configured => Ok(match self.routing.kind {
                RouterKind::Adaptive => None,
                RouterKind::Fixed => Some(self.routing.depth.unwrap_or(self.routing.max_steps)),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{ModelConfig, Preset};

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_file() {
        let json = Preset::Technical10m.config().to_json();
        let read = |json: &str| ModelConfig::from_json(json.as_bytes(), Path::new("config.json"));
        let marked = read(&format!("\u{feff}{json}")).unwrap();
        assert_eq!(marked.to_json(), json);
        assert!(read(&format!("\u{feff}\u{feff}{json}")).is_err());
    }
}
