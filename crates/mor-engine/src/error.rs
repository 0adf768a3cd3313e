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
    /// A model that no GPU runs yet.
    #[error("models of the family {family} run on the CPU only so far")]
    OnCpuOnly {
        /// The family, as `config.json` names it.
        family: &'static str,
    },
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
    /// Weights that are finite, but so large that what comes of them is not.
    #[error("the model's logits are not finite numbers; use other weights")]
    NotFinite,
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
    /// There is no GPU, or no driver for it.
    #[cfg(feature = "gpu")]
    #[error("no GPU was found: {found}{}", remedy(DRIVER))]
    NoAdapter {
        /// What looking for one gave.
        found: String,
    },
    /// The GPU lacks what is asked for.
    #[cfg(feature = "gpu")]
    #[error("{adapter} has no {feature}{}", self::remedy(remedy))]
    MissingFeature {
        /// Name of the GPU.
        adapter: String,
        /// What it lacks.
        feature: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The GPU is too small for the model.
    #[cfg(feature = "gpu")]
    #[error(
        "{what} needs {needed}, and {adapter} allows {limit}{}",
        self::remedy(remedy)
    )]
    GpuLimit {
        /// Name of the GPU.
        adapter: String,
        /// What does not fit.
        what: String,
        /// How much it needs.
        needed: u64,
        /// How much there is.
        limit: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// The GPU's memory is full.
    #[cfg(feature = "gpu")]
    #[error(
        "the GPU has no room for {what}{}",
        remedy("close what else uses it, use a smaller --dtype, or the CPU")
    )]
    GpuOutOfMemory {
        /// What was to be stored.
        what: String,
    },
    /// The GPU went away: a driver reset, a suspended machine, or a browser that took it back.
    #[cfg(feature = "gpu")]
    #[error("the GPU was lost: {reason}")]
    DeviceLost {
        /// What the driver said.
        reason: String,
    },
    /// The GPU refused something it should have taken.
    #[cfg(feature = "gpu")]
    #[error(
        "the GPU's driver failed: {message}{}",
        remedy("use the CPU, and please report this")
    )]
    Gpu {
        /// What the driver said.
        message: String,
    },
    /// A device gives other results than the CPU.
    #[cfg(feature = "gpu")]
    #[error(
        "{device} computes wrongly: a logit of probe.json's prompt differs by {difference:.4}, where {allowed:.4} is \
         allowed{}",
        remedy("use the CPU; if probe.json is another model's, export the model again")
    )]
    WrongDevice {
        /// Name of the device.
        device: String,
        /// The largest difference.
        difference: f32,
        /// The largest that rounding explains.
        allowed: f32,
    },
    /// `MOR_GPU_VARIANT` is not a variant's name.
    #[cfg(feature = "gpu")]
    #[error("MOR_GPU_VARIANT: {0}")]
    Variant(#[from] mor_shaders::ParseVariantError),
    /// The operating system refused a thread.
    #[error("cannot start a worker thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What to do where no GPU is found.
#[cfg(feature = "gpu")]
const DRIVER: &str = "install its Vulkan driver (on Debian and Ubuntu the package mesa-vulkan-drivers, which can also \
                      run on the processor), or use the CPU";

/// What to do about a GPU, as the end of a message: these are words for the command line. A page has its own, and has gone
/// on on the CPU when they are read.
#[cfg(feature = "gpu")]
fn remedy(text: &str) -> String {
    match cfg!(target_arch = "wasm32") {
        true => String::new(),
        false => format!("; {text}"),
    }
}

/// Result of the engine's functions.
pub type Result<T> = std::result::Result<T, EngineError>;

impl EngineError {
    /// Whether it says something about the device, and not about the model or the request, which would fail anywhere:
    /// another device may do better.
    pub fn is_of_device(&self) -> bool {
        #[cfg(feature = "gpu")]
        if matches!(
            self,
            Self::NoAdapter { .. }
                | Self::MissingFeature { .. }
                | Self::GpuLimit { .. }
                | Self::GpuOutOfMemory { .. }
                | Self::DeviceLost { .. }
                | Self::Gpu { .. }
                | Self::WrongDevice { .. }
        ) {
            return true;
        }
        matches!(
            self,
            Self::OutOfMemory { .. } | Self::Thread(_) | Self::OnCpuOnly { .. }
        )
    }

    /// Whether it says that a GPU went away, which may come back: only then is it worth opening anew.
    pub fn is_loss(&self) -> bool {
        #[cfg(feature = "gpu")]
        let lost = matches!(self, Self::DeviceLost { .. });
        #[cfg(not(feature = "gpu"))]
        let lost = false;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_fails_anywhere_is_not_the_devices_fault() {
        let (tokens, limit) = (9, 8);
        assert!(!EngineError::ContextFull { tokens, limit }.is_of_device());
        assert!(!EngineError::EmptyPrompt.is_of_device());
        let (context, bytes) = (8, 1 << 40);
        assert!(EngineError::OutOfMemory { context, bytes }.is_of_device());
        let family = "mor-recursive";
        assert!(EngineError::OnCpuOnly { family }.is_of_device());
        #[cfg(feature = "gpu")]
        {
            let (reason, message) = (String::new(), String::new());
            let lost = EngineError::DeviceLost { reason };
            assert!(lost.is_of_device() && lost.is_loss());
            let failed = EngineError::Gpu { message };
            assert!(failed.is_of_device() && !failed.is_loss());
        }
    }
}
