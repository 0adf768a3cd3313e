//! What decoding asks of a GPU, and how fast it is.

use std::sync::Arc;
use std::time::Instant;

use mor_config::{Architecture, Component};
use mor_shaders::{Storage, copy};

use super::decoder::GpuDecoder;
use crate::gpu::device::{Counters, Gpu, Grid, Params, Recorder};
use crate::gpu::weights::{GpuMatrix, GpuModel};
use crate::measure::{BenchOptions, made_up_prompt, median};
use crate::{EngineError, Result, SamplingOptions};

/// Speed of one run.
#[derive(Debug, Clone, Copy)]
pub struct GpuBenchRun {
    /// Prompt tokens read per second.
    pub prefill_tokens_per_second: f64,
    /// Tokens decoded per second.
    pub tokens_per_second: f64,
}

/// All runs, and what a token costs.
#[derive(Debug, Clone)]
pub struct GpuBenchReport {
    /// The runs, in order.
    pub runs: Vec<GpuBenchRun>,
    /// Seconds to allocate the context and compile its kernels.
    pub setup_seconds: f64,
    /// What all decoded tokens asked for together.
    pub counters: Counters,
    /// Tokens decoded in all runs.
    pub tokens: u64,
    /// Steps of blocks that they took, those of layers that do not recur included.
    pub block_steps: u64,
    /// Bytes of weights, and of keys and values, that they had to read, by the model's configuration: without any padding,
    /// and without what kernels hand to one another.
    pub needed_bytes: u64,
    /// Mean steps per recursive layer, or of the shared block.
    pub depth: f64,
}

impl GpuBenchReport {
    /// Launches that no step has a part in, per token, if every step had `per_step` launches.
    pub fn launches_beyond(&self, per_step: u64) -> f64 {
        let steps = self.block_steps * per_step;
        (self.counters.launches as f64 - steps as f64) / self.tokens as f64
    }

    /// The median over the runs of something.
    pub fn median(&self, of: impl Fn(&GpuBenchRun) -> f64) -> f64 {
        median(self.runs.iter().map(of).collect())
    }
}

/// Decodes `new_tokens` tokens after a made-up prompt, several times, choosing each on the GPU.
///
/// # Errors
/// As [`crate::bench::decode`], or the device's.
pub async fn decode(model: &Arc<GpuModel>, options: BenchOptions) -> Result<GpuBenchReport> {
    options.check(&model.config)?;
    let start = Instant::now();
    let mut decoder = GpuDecoder::new(Arc::clone(model), options.decode).await?;
    let prompt = made_up_prompt(&model.config, options.prompt_tokens);
    let setup_seconds = start.elapsed().as_secs_f64();
    let greedy = SamplingOptions::default();
    let routed = model.config.resolve_depth(options.decode.depth)?.is_none();
    let once = model.layers.iter().filter(|layer| !layer.recurs).count() as u64;
    let width = model.config.hidden_size as u64 * 4;
    let mut report = GpuBenchReport {
        runs: Vec::with_capacity(options.runs),
        setup_seconds,
        counters: Counters::default(),
        tokens: 0,
        block_steps: 0,
        needed_bytes: 0,
        depth: 0.0,
    };
    let mut depths = 0;
    // A first run, whose speed is thrown away, makes the driver finish its work.
    for run in 0..=options.runs {
        decoder.reset();
        let start = Instant::now();
        decoder.prefill(&prompt).await?;
        let mut next = decoder.sample(&greedy, 0.0).await?.id;
        let prefill = start.elapsed().as_secs_f64();
        let before = decoder.counters();
        let start = Instant::now();
        for _ in 0..options.new_tokens {
            decoder.push(next).await?;
            next = decoder.sample(&greedy, 0.0).await?.id;
            if run > 0 {
                let taken: u64 = decoder.steps().iter().map(|s| u64::from(*s)).sum();
                depths += taken;
                report.block_steps += taken + once;
                let caches = 2 * decoder.ids().len() as u64 * width;
                report.needed_bytes +=
                    (taken + once) * caches + active_bytes(model, decoder.steps(), routed);
            }
        }
        let decoding = start.elapsed().as_secs_f64();
        if run > 0 {
            report.counters = report.counters + (decoder.counters() - before);
            report.tokens += options.new_tokens as u64;
            report.runs.push(GpuBenchRun {
                prefill_tokens_per_second: prompt.len() as f64 / prefill,
                tokens_per_second: options.new_tokens as f64 / decoding,
            });
        }
    }
    if report.tokens == 0 {
        return Err(EngineError::EmptyPrompt);
    }
    let recursive = decoder.steps().len().max(1) as f64;
    report.depth = depths as f64 / report.tokens as f64 / recursive;
    Ok(report)
}

/// Bytes a second that a plain copy kernel moves, what it reads and what it writes counted: the best of repeated copies of
/// `bytes` bytes, or of as many as the adapter allows, within about `seconds`, but of no fewer than one.
///
/// # Errors
/// [`EngineError::GpuLimit`], [`EngineError::GpuOutOfMemory`] or the device's.
pub async fn copy_bandwidth(gpu: &Arc<Gpu>, bytes: u64, seconds: f64) -> Result<f64> {
    let limits = &gpu.limits;
    let allowed = limits
        .max_buffer_size
        .min(limits.max_storage_buffer_binding_size);
    let elements = (bytes.min(allowed) / 16).max(16) as usize * 4;
    let what = format!("two buffers of {} bytes", elements * 4);
    let (from, to, mut recorder) = gpu
        .allocate(&what, || {
            let (from, to) = (gpu.storage("from", elements)?, gpu.storage("to", elements)?);
            Ok((from, to, Recorder::new(Arc::clone(gpu))?))
        })
        .await?;
    let pipeline = gpu.pipeline(copy());
    let grid = Grid::Known(pipeline.grid((elements / 4) as u32));
    let launch = recorder.prepare(&pipeline, &[&from, &to], None, grid, &[]);
    let mut copies = 1_u32;
    let mut best = 0.0_f64;
    let began = Instant::now();
    // The first round compiles; from then on each is as long as a tenth of the time.
    for round in 0.. {
        for _ in 0..copies {
            recorder.launch(&launch, Params::default());
        }
        let start = Instant::now();
        recorder.submit();
        gpu.settle().await?;
        let took = start.elapsed().as_secs_f64().max(1e-9);
        if round > 0 {
            let moved = 2.0 * f64::from(copies) * elements as f64 * 4.0;
            best = best.max(moved / took);
            if began.elapsed().as_secs_f64() >= seconds {
                break;
            }
            let wanted = f64::from(copies) * seconds / 10.0 / took;
            copies = wanted.clamp(1.0, 1e4) as u32;
        }
    }
    gpu.check()?;
    Ok(best)
}

/// Bytes of the weights that take part when a token's recursive layers take `steps` steps, each once a step, and the
/// routers where they decide. From the list of the model's tensors and how they are stored, not from what is launched.
fn active_bytes(model: &GpuModel, steps: &[u8], routed: bool) -> u64 {
    let config = &model.config;
    let stored = |matrix: &GpuMatrix, values: u64| match matrix.storage {
        Storage::F32 => values * 4,
        Storage::F16 => values * 2,
        // With a scale of two bytes for every 32.
        Storage::Q8 => values + values / 16,
    };
    let tensors = config.tensors().into_iter().map(|tensor| {
        // "layers.2.step_projections.1.weight": its layer, and its step.
        let mut numbers = tensor.name.split('.').filter_map(|part| part.parse().ok());
        let layer: usize = numbers.next().unwrap_or(0);
        let depth = |layer: usize| u64::from(steps.get(layer).copied().unwrap_or(0));
        let in_layer = tensor.name.starts_with("layers.");
        let times = match tensor.component {
            Component::TokenEmbedding => u64::from(config.tie_word_embeddings),
            Component::PositionEmbedding => 0,
            Component::Routers => u64::from(routed),
            Component::RecursionBlock => depth(0),
            Component::StepProjections => {
                let step = numbers.next().unwrap_or(0);
                u64::from((step as u64) < depth(layer))
            }
            _ if in_layer && config.architecture == Architecture::Technical => depth(layer),
            _ => 1,
        };
        let values = tensor.shape.iter().map(|n| *n as u64).product();
        let bytes = match (tensor.component, tensor.shape.len()) {
            (Component::Routers, _) | (_, 1) => values * 4,
            (Component::TokenEmbedding | Component::Head, _) => stored(&model.head, values),
            _ => match model.layers.first() {
                Some(layer) => stored(&layer.block.qkv.matrix, values),
                None => 0,
            },
        };
        times * bytes
    });
    tensors.sum()
}
