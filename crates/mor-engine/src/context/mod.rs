//! What a device made of the tokens so far, whichever device it is.
//!
//! In a browser nothing on a GPU can be waited for, so whatever may need its results is `async`. On the CPU every
//! future is ready at once. Nothing here needs a runtime: the browser polls, and `pollster::block_on` does natively.

mod probe;

use mor_config::{Depth, ModelConfig};

use crate::cpu::{Decoder, Kernels, Sampler};
#[cfg(feature = "gpu")]
use crate::gpu::GpuDecoder;
use crate::{Choice, DecodeOptions, EngineError, Result, SamplingOptions};
pub use probe::{PROBE_FILE, Probe, ProbeOutcome};

/// A context on some device.
#[derive(Debug)]
pub enum Context {
    /// On the processor.
    Cpu(Box<Decoder>),
    /// On a GPU.
    #[cfg(feature = "gpu")]
    Gpu(Box<GpuDecoder>),
}

impl From<Decoder> for Context {
    fn from(decoder: Decoder) -> Self {
        Self::Cpu(Box::new(decoder))
    }
}

#[cfg(feature = "gpu")]
impl From<GpuDecoder> for Context {
    fn from(decoder: GpuDecoder) -> Self {
        Self::Gpu(Box::new(decoder))
    }
}

impl Context {
    /// What computes, for a person.
    pub fn device(&self) -> String {
        match self {
            Self::Cpu(decoder) => format!("the CPU ({})", decoder.model().isa().name()),
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => decoder.gpu().description().to_string(),
        }
    }

    /// The tokens so far.
    pub fn ids(&self) -> &[u32] {
        match self {
            Self::Cpu(decoder) => decoder.ids(),
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => decoder.ids(),
        }
    }

    /// Most tokens it holds.
    pub fn capacity(&self) -> usize {
        match self {
            Self::Cpu(decoder) => decoder.capacity(),
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => decoder.capacity(),
        }
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        match self {
            Self::Cpu(decoder) => decoder.model().config(),
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => decoder.config(),
        }
    }

    /// How it runs.
    pub fn options(&self) -> DecodeOptions {
        match self {
            Self::Cpu(decoder) => decoder.options(),
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => decoder.options(),
        }
    }

    /// Steps taken at the last token, as [`Decoder::steps`]; on a GPU they are known once the token after it was
    /// chosen, or its logits read.
    pub fn steps(&self) -> &[u8] {
        match self {
            Self::Cpu(decoder) => decoder.steps(),
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => decoder.steps(),
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        match self {
            Self::Cpu(decoder) => decoder.reset(),
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => decoder.reset(),
        }
    }

    /// Makes `ids` the context, reusing what it has in common with the present one. Locked routers decide anew.
    ///
    /// # Errors
    /// As [`Decoder::set_context`], or the device's.
    pub async fn set_context(&mut self, ids: &[u32]) -> Result<()> {
        match self {
            Self::Cpu(decoder) => decoder.set_context(ids),
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => decoder.set_context(ids).await,
        }
    }

    /// As [`Self::set_context`], but locked depths stay.
    pub(crate) async fn slide_to(&mut self, ids: &[u32]) -> Result<()> {
        match self {
            Self::Cpu(decoder) => decoder.slide_to(ids),
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => decoder.slide_to(ids).await,
        }
    }

    /// Appends one token.
    ///
    /// # Errors
    /// As [`Decoder::push`], or the device's.
    pub async fn push(&mut self, id: u32) -> Result<()> {
        match self {
            Self::Cpu(decoder) => decoder.push(id),
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => decoder.push(id).await,
        }
    }

    /// Logits after the last token, `[vocab_size]`.
    ///
    /// # Errors
    /// The device's; none on the CPU.
    pub async fn logits(&mut self) -> Result<Vec<f32>> {
        match self {
            Self::Cpu(decoder) => Ok(decoder.logits().to_vec()),
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => decoder.logits().await,
        }
    }

    /// Chooses the token after the last one. Both devices make the same choice of the same logits: the random
    /// number is drawn by `sampler`, which keeps it until a choice was made.
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] where the logits are no numbers that a token can be chosen by, or the device's.
    pub async fn choose(&mut self, sampler: &mut Sampler) -> Result<Choice> {
        let choice = match self {
            Self::Cpu(decoder) => sampler.sample(decoder.logits(), decoder.ids()),
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => {
                let (options, uniform) = sampler.draw();
                let choice = decoder.sample(&options, uniform).await?;
                sampler.drawn();
                choice
            }
        };
        // A token that was chosen among numbers has some probability.
        match choice.probability > 0.0 && choice.probability.is_finite() {
            true => Ok(choice),
            false => Err(EngineError::NotFinite),
        }
    }

    /// An empty context of the same model on the same device, at another depth.
    ///
    /// # Errors
    /// As [`Decoder::new`], or the device's.
    pub(crate) async fn at_depth(&self, depth: Depth) -> Result<Self> {
        let options = DecodeOptions {
            depth,
            ..self.options()
        };
        match self {
            Self::Cpu(decoder) => {
                Ok(Decoder::new(std::sync::Arc::clone(decoder.model()), options)?.into())
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(decoder) => Ok(decoder.with_options(options).await?.into()),
        }
    }

    /// A sampler for [`Self::choose`].
    ///
    /// # Errors
    /// [`crate::EngineError::Option`] when an option is out of range.
    pub fn sampler(&self, options: SamplingOptions) -> Result<Sampler> {
        Sampler::with_kernels(self.kernels(), self.config().vocab_size, options)
    }

    /// What a sampler computes with: the model's own kernels where it has some.
    fn kernels(&self) -> Kernels {
        match self {
            Self::Cpu(decoder) => decoder.model().kernels,
            #[cfg(feature = "gpu")]
            Self::Gpu(_) => Kernels::new(crate::Isa::best()),
        }
    }
}
