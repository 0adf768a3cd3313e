//! What can go wrong when a device is opened, and when a model is built or run.

use mor_config::ConfigError;

/// A device that cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeviceError {
    /// There is no adapter.
    #[error(
        "no GPU adapter was found ({0}); install its driver, or on Debian mesa-vulkan-drivers, \
         which runs shaders on the processor too"
    )]
    NoAdapter(String),
    /// The adapter is there, but does not work.
    #[error("the GPU cannot be used: {0}")]
    Unusable(String),
    /// `MOR_GPU_VARIANT` holds no variant, or one that the adapter cannot run.
    #[error("MOR_GPU_VARIANT: {0}")]
    Variant(String),
    /// This program was compiled without Burn's GPU backend.
    #[error("this program was built without GPU support; build it with the feature `gpu`")]
    NotBuilt,
}

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
