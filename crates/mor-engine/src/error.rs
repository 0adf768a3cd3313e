//! What can go wrong while loading or running a model.

use mor_config::ConfigError;
use mor_text::TextError;

/// Why the engine refused or stopped.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model folder, its configuration or its weights are unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokenizer or chat template is unusable.
    #[error(transparent)]
    Text(#[from] TextError),
    /// No token was given where at least one is needed.
    #[error("the prompt has no tokens; give at least one")]
    EmptyPrompt,
    /// A token id outside the vocabulary.
    #[error(
        "token id {id} is outside this model's vocabulary of {vocab_size}; use the tokenizer that belongs to the model"
    )]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Number of ids the model knows.
        vocab_size: usize,
    },
    /// More tokens than the context holds.
    #[error("{tokens} tokens do not fit this model's context of {limit}")]
    ContextFull {
        /// Tokens the context would have had.
        tokens: usize,
        /// Tokens it can have.
        limit: usize,
    },
    /// The tokenizer belongs to another model.
    #[error(
        "the tokenizer has {tokenizer} tokens, this model {model}; use the tokenizer that belongs to the model"
    )]
    TokenizerMismatch {
        /// Ids of the tokenizer.
        tokenizer: usize,
        /// Ids of the model.
        model: usize,
    },
    /// `probe.json` is unusable.
    #[error("probe.json: {found}; export the model again")]
    Probe {
        /// What was found.
        found: String,
    },
    /// An option is out of range.
    #[error("`{option}` is {value}; it must be {allowed}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The caches of the configured context do not fit in memory.
    #[error(
        "a context of {context} tokens needs {bytes} bytes of cache, more than can be had; lower max_position_embeddings"
    )]
    OutOfMemory {
        /// Tokens of context.
        context: usize,
        /// Bytes asked for.
        bytes: usize,
    },
    /// The operating system refused a thread.
    #[error("cannot start a worker thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Result of the engine's functions.
pub type Result<T> = std::result::Result<T, EngineError>;
