//! What the commands that run a model share: their options, loading, and speaking to a terminal.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mor_config::Depth;
use mor_engine::{
    Context, DecodeOptions, LoadOptions, Overflow, Routing, SamplingOptions, WeightPrecision,
};

use super::device::{DEVICE_VARIABLE, Device, Placement};

/// How each token is chosen.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Sampling {
    /// Most tokens to write.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) max_new_tokens: usize,
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

/// The part of `generation_config.json` that says how to sample and where to end.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct GenerationConfig {
    do_sample: bool,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    repetition_penalty: Option<f32>,
    eos_token_id: Option<Ends>,
}

/// One end token or several, as other programs write either.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Ends {
    One(u32),
    Several(Vec<u32>),
}

impl GenerationConfig {
    /// What the model's folder says; nothing where it has no such file.
    fn of(folder: &Path) -> Result<Self> {
        let path = folder.join("generation_config.json");
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }
}

/// The tokens at which a model's `generation_config.json` ends an answer.
pub(crate) fn end_ids(folder: &Path) -> Result<Vec<u32>> {
    Ok(match GenerationConfig::of(folder)?.eos_token_id {
        None => Vec::new(),
        Some(Ends::One(id)) => vec![id],
        Some(Ends::Several(ids)) => ids,
    })
}

impl Sampling {
    /// Options as given, and greedy otherwise.
    pub(crate) fn options(&self) -> Result<SamplingOptions> {
        self.over(&GenerationConfig::default())
    }

    /// Options as given, and as the model's `generation_config.json` says otherwise.
    pub(crate) fn options_for(&self, folder: &Path) -> Result<SamplingOptions> {
        self.over(&GenerationConfig::of(folder)?)
    }

    fn over(&self, config: &GenerationConfig) -> Result<SamplingOptions> {
        let greedy = SamplingOptions::default();
        let temperature = if config.do_sample {
            config.temperature.or(Some(1.0))
        } else {
            None
        };
        let options = SamplingOptions {
            temperature: self
                .temperature
                .or(temperature)
                .unwrap_or(greedy.temperature),
            top_k: self.top_k.or(config.top_k).unwrap_or(greedy.top_k),
            top_p: self.top_p.or(config.top_p).unwrap_or(greedy.top_p),
            repetition_penalty: self
                .repetition_penalty
                .or(config.repetition_penalty)
                .unwrap_or(greedy.repetition_penalty),
            seed: self.seed,
        };
        options.validate()?;
        Ok(options)
    }
}

/// How the model runs.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Execution {
    /// Steps in every recursive layer, or of the shared block, instead of what the model would choose.
    #[arg(long, value_name = "N")]
    pub(crate) depth: Option<usize>,
    /// Processor threads; 0 picks as many as there are, at most 4.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = threads)]
    threads: usize,
    /// How weights are kept in memory.
    #[arg(long, value_enum, default_value_t = Dtype::Stored)]
    dtype: Dtype,
    /// What computes. With auto, a GPU is tried beside the CPU when a model is first used, and the faster one is
    /// remembered.
    #[arg(long, value_enum, env = DEVICE_VARIABLE, default_value_t = Device::Auto)]
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

    pub(crate) fn decode_options(&self) -> DecodeOptions {
        DecodeOptions {
            depth: self.depth.map_or(Depth::Configured, Depth::Forced),
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

/// A model's text, made safe for a terminal: control characters other than line feeds and tabs could move the
/// cursor or worse, so they become U+FFFD.
pub(crate) fn printable(text: &str) -> String {
    let harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    text.chars()
        .map(|c| {
            if harmless(c) {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            }
        })
        .collect()
}
