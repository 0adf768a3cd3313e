//! What the commands that run a model share: their options, loading, and speaking to a terminal.

use std::path::{Path, PathBuf};

use anyhow::Result;
use mor_config::Depth;
use mor_engine::{
    Context, DecodeOptions, GenerationDefaults, LoadOptions, Overflow, Routing, SamplingOptions,
    WeightPrecision,
};

use super::Usage;
use super::depth::DepthArgs;
use super::device::{DEVICE_VARIABLE, Device, DeviceParser, Placement};

/// How each token is chosen; as the model's generation_config.json says by default, and greedily where it does not.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Sampling {
    /// Most tokens to write [default: what the model's generation_config.json says, or 128].
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// 0 always takes the likeliest token; higher values are more varied.
    #[arg(long, value_name = "X")]
    temperature: Option<f32>,
    /// Only the N likeliest tokens take part; 0 for all.
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Only the likeliest tokens that together have this probability take part; 1 for all.
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Above 1, tokens that have occurred become less likely.
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f32>,
    /// The same seed gives the same text.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Tokens of an answer where neither options nor the model say how many.
const NEW_TOKENS: usize = 128;

impl Sampling {
    /// Options as given, and as the model's `generation_config.json` says otherwise.
    ///
    /// # Errors
    /// [`Usage`] when an option is out of its range.
    pub(crate) fn over(&self, model: &GenerationDefaults) -> Result<SamplingOptions> {
        let model = model.sampling();
        let options = SamplingOptions {
            temperature: self.temperature.unwrap_or(model.temperature),
            top_k: self.top_k.unwrap_or(model.top_k),
            top_p: self.top_p.unwrap_or(model.top_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(model.repetition_penalty),
            seed: self.seed,
        };
        // What the model says was checked with its file.
        options
            .validate()
            .map_err(|error| Usage(error.to_string()))?;
        Ok(options)
    }

    /// Most tokens to write.
    pub(crate) fn new_tokens(&self, model: &GenerationDefaults) -> usize {
        self.max_new_tokens
            .or(model.max_new_tokens)
            .unwrap_or(NEW_TOKENS)
    }
}

/// How the model runs.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Execution {
    #[command(flatten)]
    depth: DepthArgs,
    /// Processor threads; 0 picks as many as there are, at most 4.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = threads)]
    threads: usize,
    /// How weights are kept in memory.
    #[arg(long, value_enum, default_value_t = Dtype::Stored)]
    dtype: Dtype,
    /// What computes. With auto, a GPU is tried beside the CPU when a model is first used, and the faster one is
    /// remembered.
    #[arg(long, value_parser = DeviceParser, env = DEVICE_VARIABLE, default_value = "auto")]
    pub(crate) device: Device,
}

/// How weights are kept in memory.
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
pub(crate) enum Dtype {
    /// As in the file, where the processor reads that directly.
    Stored,
    /// 32-bit floats.
    F32,
    /// 16-bit floats, rounded if need be.
    F16,
    /// 8-bit integers with scales, rounded if need be; about as good, and a quarter of the memory.
    Q8,
}

/// A count of threads; the bound keeps a slip of the keyboard from starting millions.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count <= 256 => Ok(count),
        _ => Err("expected a number from 0 to 256".to_owned()),
    }
}

impl Execution {
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            precision: match self.dtype {
                Dtype::Stored => WeightPrecision::AsStored,
                Dtype::F32 => WeightPrecision::F32,
                Dtype::F16 => WeightPrecision::F16,
                Dtype::Q8 => WeightPrecision::Q8,
            },
            isa: None,
        }
    }

    pub(crate) fn depth(&self) -> Depth {
        self.depth.depth()
    }

    pub(crate) fn decode_options(&self) -> DecodeOptions {
        DecodeOptions {
            depth: self.depth(),
            threads: self.threads,
            ..DecodeOptions::default()
        }
    }

    /// A context of the model in a folder, whose routers decide as `routing` says, on the device asked for; and how to
    /// get another one when that fails.
    pub(crate) fn context(&self, folder: &Path, routing: Routing) -> Result<(Context, Placement)> {
        let decode = DecodeOptions {
            routing,
            ..self.decode_options()
        };
        let placement = Placement::new(folder, self.load_options(), decode);
        Ok((placement.place(self.device)?, placement))
    }
}

/// How a text goes on.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Continuation {
    /// When routers decide: live at every token, locked on the prompt once.
    #[arg(long, value_enum, default_value_t = RoutingArg::Live)]
    routing: RoutingArg,
    /// When the context is full: slide drops the oldest token each time and reads the rest again, rewind
    /// drops the older half, stop ends the text. Default: slide, and stop in a chat.
    #[arg(long, value_enum)]
    overflow: Option<OverflowArg>,
}

impl Continuation {
    pub(crate) fn routing(&self) -> Routing {
        match self.routing {
            RoutingArg::Live => Routing::Live,
            RoutingArg::Locked => Routing::Locked,
        }
    }

    pub(crate) fn overflow(&self, default: Overflow) -> Overflow {
        match self.overflow {
            None => default,
            Some(OverflowArg::Slide) => Overflow::Slide,
            Some(OverflowArg::Rewind) => Overflow::Rewind,
            Some(OverflowArg::Stop) => Overflow::Stop,
        }
    }
}

#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum RoutingArg {
    Live,
    Locked,
}

#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum OverflowArg {
    Slide,
    Rewind,
    Stop,
}

/// A model by its folder, or a configuration by its name.
#[derive(clap::Args, Debug, Clone)]
#[group(required = true, multiple = false)]
pub(crate) struct Subject {
    /// Model folder: config.json and model.safetensors.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// A configuration by name: technical-card, technical-10m or conversational-198m.
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,
}

/// Mean of the steps that the layers took.
pub(crate) fn mean_depth(steps: &[u8]) -> f64 {
    steps.iter().map(|step| f64::from(*step)).sum::<f64>() / steps.len().max(1) as f64
}
