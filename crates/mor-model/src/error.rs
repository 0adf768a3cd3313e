//! What can go wrong when a model is built or run.

use mor_config::ConfigError;

/// A model that cannot be built, or input it cannot take.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The configuration or the weights are unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The input has no rows or no positions.
    #[error("the input has no tokens")]
    Empty,
    /// The input has more positions than the model was made for.
    #[error("the input has {found} tokens; this model's context is {limit}")]
    TooLong {
        /// Tokens in the input.
        found: usize,
        /// The model's `max_position_embeddings`.
        limit: usize,
    },
    /// A token id is outside the vocabulary.
    #[error(
        "token id {found} is outside the vocabulary of {vocab_size}; the tokenizer does not belong to this model"
    )]
    UnknownToken {
        /// The id in the input.
        found: i64,
        /// The model's `vocab_size`.
        vocab_size: usize,
    },
    /// Two inputs that belong together differ in shape.
    #[error("{what} is {found:?}, but the input is {expected:?}")]
    Shape {
        /// The input in question.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it has to have.
        expected: Vec<usize>,
    },
}
