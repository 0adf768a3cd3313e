//! `config.json`: what a model is made of.

mod budget;
mod routing;
mod validate;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ConfigError;
pub use budget::Budget;
pub use routing::{Depth, HaltedRows, LoopKeys, Pooling, RouterKind, RoutingConfig};

/// Which family a model belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// Post-LN layers, each of which recurs by a router of its own, with a projection before each step.
    #[serde(rename = "mor-technical")]
    Technical,
    /// Pre-LN blocks, then one shared block that recurs as a single router decides for the whole sequence.
    #[serde(rename = "mor-conversational")]
    Conversational,
    /// Pre-LN blocks: a prelude, a core that each position passes through as often as gates let it, and a coda.
    #[serde(rename = "mor-recursive")]
    Recursive,
}

impl Architecture {
    /// The `model_type` in `config.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Technical => "mor-technical",
            Self::Conversational => "mor-conversational",
            Self::Recursive => "mor-recursive",
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
    /// shared block; the recursive model's are those of prelude, core and coda together.
    pub num_hidden_layers: usize,
    /// Blocks of a recursive model that run once, before the core.
    #[serde(default, skip_serializing_if = "is_default")]
    pub num_prelude_layers: usize,
    /// Blocks of a recursive model that loop.
    #[serde(default, skip_serializing_if = "is_default")]
    pub num_core_layers: usize,
    /// Blocks of a recursive model that run once, after the core.
    #[serde(default, skip_serializing_if = "is_default")]
    pub num_coda_layers: usize,
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

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
        let json = |source| ConfigError::Json {
            path: origin.to_owned(),
            source,
        };
        // Before all else: a newer file may hold anything.
        let version: Version = serde_json::from_slice(text).map_err(json)?;
        if version.format_version > FORMAT_VERSION {
            return Err(ConfigError::Field {
                path: origin.to_owned(),
                field: "format_version",
                problem: format!(
                    "is {}, and this program knows versions up to {FORMAT_VERSION}: the model is newer; update the program, or \
                     reload the page",
                    version.format_version
                ),
            });
        }
        let config: Self = serde_json::from_slice(text).map_err(json)?;
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
        /// With the version that a program must know, if it is not the first.
        #[derive(Serialize)]
        struct Versioned<'a> {
            #[serde(skip_serializing_if = "is_first")]
            format_version: u32,
            #[serde(flatten)]
            config: &'a ModelConfig,
        }
        // Plain structs of numbers and strings: serialization has nothing to fail on.
        let mut text = serde_json::to_string_pretty(&Versioned {
            format_version: self.format_version(),
            config: self,
        })
        .unwrap_or_default();
        text.push('\n');
        text
    }

    /// What the gates of a recursive model must exceed for a position to go on, at a depth that leaves it to them.
    pub fn gate_threshold(&self, depth: Depth) -> f32 {
        let budget = match depth {
            Depth::Budget(budget) => Some(budget),
            Depth::Configured | Depth::Adaptive => self.routing.budget,
            Depth::Forced(_) => None,
        };
        let threshold = budget.and_then(|budget| self.routing.threshold(budget));
        // Above every probability: without gates nothing goes on.
        threshold.unwrap_or(1.0)
    }

    /// The first version of the format that has what this configuration says.
    pub fn format_version(&self) -> u32 {
        match self.architecture {
            Architecture::Technical | Architecture::Conversational => 1,
            Architecture::Recursive => 2,
        }
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Width of a router's hidden layer: a quarter of the model's in the technical model, half in the conversational. The
    /// recursive model's gates have none.
    pub fn router_hidden(&self) -> usize {
        let part = match self.architecture {
            Architecture::Technical => 4,
            Architecture::Conversational | Architecture::Recursive => 2,
        };
        (self.hidden_size / part).max(1)
    }

    /// Number of routed depths of a row: one a layer, or one in all.
    pub fn routed_depths(&self) -> usize {
        match self.architecture {
            Architecture::Technical => self.num_hidden_layers,
            Architecture::Conversational | Architecture::Recursive => 1,
        }
    }

    /// Whether each position has a depth of its own, where routers decide.
    pub fn routes_by_position(&self) -> bool {
        self.architecture == Architecture::Recursive || self.routing.pooling == Pooling::Prefix
    }

    /// The fixed number of steps, or `None` where routers decide.
    ///
    /// # Errors
    /// [`ConfigError::Field`] when a forced depth is none that the model can take, when a model of fixed depth is asked to
    /// decide, or one without calibrated gates to keep a budget.
    pub fn resolve_depth(&self, depth: Depth) -> Result<Option<usize>, ConfigError> {
        let fail = |field, problem| {
            Err(ConfigError::Field {
                path: PathBuf::from(field),
                field,
                problem,
            })
        };
        match depth {
            Depth::Forced(steps) if steps > self.routing.max_steps => fail(
                "depth",
                format!(
                    "is {steps}, but this model takes at most {}",
                    self.routing.max_steps
                ),
            ),
            Depth::Forced(0) if self.architecture == Architecture::Recursive => fail(
                "depth",
                "is 0, but this model takes at least one loop".to_owned(),
            ),
            Depth::Forced(steps) => Ok(Some(steps)),
            Depth::Adaptive if self.routing.kind == RouterKind::Fixed => fail(
                "depth",
                "is adaptive, but nothing in this model decides: its depth is fixed".to_owned(),
            ),
            Depth::Adaptive => Ok(None),
            Depth::Budget(budget) => match self.routing.threshold(budget) {
                Some(_) => Ok(None),
                None if self.routing.thresholds.is_empty() => fail(
                    "budget",
                    format!("is {budget}, but this model has no gates that keep one"),
                ),
                None => fail(
                    "budget",
                    format!(
                        "is {budget}, but this model takes from 1 to {} loops",
                        self.routing.max_steps
                    ),
                ),
            },
            Depth::Configured => Ok(match self.routing.kind {
                RouterKind::Adaptive => None,
                RouterKind::Fixed => Some(self.routing.depth.unwrap_or(self.routing.max_steps)),
            }),
        }
    }
}

/// The newest version of `config.json` that is understood here. A file that needs only what the first had says none.
const FORMAT_VERSION: u32 = 2;

/// What is read of a file first.
#[derive(Deserialize)]
struct Version {
    #[serde(default = "first_version")]
    format_version: u32,
}

fn first_version() -> u32 {
    1
}

fn is_first(version: &u32) -> bool {
    *version == first_version()
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

    #[test]
    fn a_newer_file_is_told_from_a_damaged_one() {
        let read = |json: &str| ModelConfig::from_json(json.as_bytes(), Path::new("config.json"));
        let json = Preset::Recursive10m.config().to_json();
        assert!(json.contains("\"format_version\": 2"), "{json}");
        assert_eq!(read(&json).unwrap(), Preset::Recursive10m.config());
        // Whatever else it may hold.
        let newer = "{\"format_version\": 3, \"model_type\": \"mor-other\"}";
        let error = read(newer).unwrap_err().to_string();
        assert!(
            error.starts_with("config.json: `format_version` is 3"),
            "{error}"
        );
        assert!(error.contains("the model is newer"), "{error}");
        // Those that older programs can read say nothing of versions.
        assert!(
            !Preset::Technical10m
                .config()
                .to_json()
                .contains("format_version")
        );
    }
}
