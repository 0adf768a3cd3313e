//! How fast decoding is, beside how fast this machine can read memory at the same moment.

use std::sync::Arc;
use std::time::Instant;

use mor_config::ModelConfig;

use crate::cpu::Kernels;
use crate::cpu::buffer::Buffer;
use crate::pool::{Pool, share};
use crate::{DecodeOptions, Decoder, EngineError, Isa, Model, Result};

/// Bytes read to measure bandwidth: far more than any last-level cache holds.
const STREAM_BYTES: usize = 256 << 20;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct BenchOptions {
    /// Depth and threads.
    pub decode: DecodeOptions,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens decoded after it.
    pub new_tokens: usize,
    /// Repetitions, of which the median is reported.
    pub runs: usize,
}

/// Speed of one run.
#[derive(Debug, Clone, Copy)]
pub struct BenchRun {
    /// Prompt tokens read per second.
    pub prefill_tokens_per_second: f64,
    /// Tokens decoded per second.
    pub tokens_per_second: f64,
    /// Bytes per second that a plain sum over memory reaches, measured right before and after.
    pub read_bandwidth: f64,
}

/// All runs, and what a token costs.
#[derive(Debug, Clone)]
pub struct BenchReport {
    /// The runs, in order.
    pub runs: Vec<BenchRun>,
    /// Mean bytes of weights that the kernels read per token; a block's count once per step.
    pub bytes_per_token: f64,
    /// Mean steps per recursive layer, or of the shared block.
    pub depth: f64,
    /// Threads used.
    pub threads: usize,
    /// This process's memory after a first run, before bandwidth is measured.
    pub memory: Option<Memory>,
}

/// Physical memory that a process takes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Bytes now.
    pub resident: usize,
    /// The most it ever was.
    pub peak: usize,
}

impl Memory {
    /// This process's, where the system tells.
    pub fn now() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kilobytes: usize = line.split_whitespace().next()?.parse().ok()?;
            Some(kilobytes << 10)
        };
        Some(Self {
            resident: field("VmRSS:")?,
            peak: field("VmHWM:")?,
        })
    }
}

impl BenchReport {
    /// The median over the runs of something.
    pub fn median(&self, of: impl Fn(&BenchRun) -> f64) -> f64 {
        median(self.runs.iter().map(of).collect())
    }
}

/// The median, or 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let len = values.len();
    if len == 0 {
        return 0.0;
    }
    (values[(len - 1) / 2] + values[len / 2]) / 2.0
}

impl BenchOptions {
    /// Checks that there is something to do, and room for it.
    pub(crate) fn check(&self, config: &ModelConfig) -> Result<()> {
        for (option, value) in [
            ("prompt-tokens", self.prompt_tokens),
            ("new-tokens", self.new_tokens),
            ("runs", self.runs),
        ] {
            if value == 0 {
                return Err(EngineError::Option {
                    option,
                    value: "0".into(),
                    allowed: "at least 1",
                });
            }
        }
        let tokens = self.prompt_tokens.saturating_add(self.new_tokens);
        let limit = config.max_position_embeddings;
        match tokens > limit {
            true => Err(EngineError::ContextFull { tokens, limit }),
            false => Ok(()),
        }
    }
}

/// Ids of a prompt: any but the pad's will do.
pub(crate) fn made_up_prompt(config: &ModelConfig, tokens: usize) -> Vec<u32> {
    let (vocab_size, pad) = (config.vocab_size as u32, config.pad_token_id);
    (1..)
        .map(|i: u32| i.wrapping_mul(7919) % vocab_size)
        .filter(|id| *id != pad)
        .take(tokens)
        .collect()
}

/// Decodes `new_tokens` tokens after a made-up prompt, several times.
///
/// # Errors
/// [`EngineError::ContextFull`] when the tokens do not fit, [`EngineError::Option`] when there is
/// nothing to do, or as [`Decoder::new`].
pub fn decode(model: &Arc<Model>, options: BenchOptions) -> Result<BenchReport> {
    let BenchOptions {
        prompt_tokens,
        new_tokens,
        runs,
        ..
    } = options;
    options.check(&model.config)?;
    let mut decoder = Decoder::new(Arc::clone(model), options.decode)?;
    let pad = model.config.pad_token_id;
    let prompt = made_up_prompt(&model.config, prompt_tokens);
    // A first run, whose speed is thrown away, brings code and weights into memory.
    decoder.prefill(&prompt)?;
    for _ in 0..new_tokens {
        decoder.push(likeliest(decoder.logits(), pad))?;
    }
    let memory = Memory::now();
    let mut bandwidth = Bandwidth::new(model.isa(), decoder.threads())?;
    let mut report = BenchReport {
        runs: Vec::with_capacity(runs),
        bytes_per_token: 0.0,
        depth: 0.0,
        threads: decoder.threads(),
        memory,
    };
    let routed = model.config.resolve_depth(options.decode.depth)?.is_none();
    let (mut steps, mut bytes) = (0_usize, 0_usize);
    for _ in 0..runs {
        let before = bandwidth.measure();
        let start = Instant::now();
        decoder.reset();
        decoder.prefill(&prompt)?;
        let prefill = start.elapsed().as_secs_f64();
        let start = Instant::now();
        for _ in 0..new_tokens {
            let id = likeliest(decoder.logits(), pad);
            decoder.push(id)?;
            steps += decoder
                .steps()
                .iter()
                .map(|step| usize::from(*step))
                .sum::<usize>();
            bytes += model.bytes_read(decoder.steps(), routed);
        }
        let decoding = start.elapsed().as_secs_f64();
        report.runs.push(BenchRun {
            prefill_tokens_per_second: prompt_tokens as f64 / prefill,
            tokens_per_second: new_tokens as f64 / decoding,
            read_bandwidth: before.max(bandwidth.measure()),
        });
    }
    let all = (runs * new_tokens) as f64;
    report.depth = steps as f64 / all / decoder.steps().len() as f64;
    report.bytes_per_token = bytes as f64 / all;
    Ok(report)
}

/// The likeliest token that is not the pad.
fn likeliest(logits: &[f32], pad: u32) -> u32 {
    let mut best = (u32::from(pad == 0), f32::MIN);
    for (id, &x) in (0..).zip(logits) {
        if x > best.1 && id != pad {
            best = (id, x);
        }
    }
    best.0
}

/// Measures how fast memory can be read.
struct Bandwidth {
    kernels: Kernels,
    pool: Pool,
    /// Memory of the same kind as the weights'.
    buffer: Buffer<f32>,
}

impl Bandwidth {
    fn new(isa: Isa, threads: usize) -> Result<Self> {
        // Not zeros: pages that were never written may all be the same one.
        let mut buffer = Buffer::new(STREAM_BYTES / 4);
        buffer.fill(1.0);
        Ok(Self {
            kernels: Kernels::new(isa),
            pool: Pool::new(threads)?,
            buffer,
        })
    }

    /// Bytes per second of the better of two passes.
    fn measure(&mut self) -> f64 {
        let threads = self.pool.threads();
        let pass = || {
            let start = Instant::now();
            let parts = threads * 8;
            self.pool.run(parts, |part, _| {
                let part = share(self.buffer.len(), part, parts);
                std::hint::black_box(self.kernels.sum(&self.buffer[part]));
            });
            STREAM_BYTES as f64 / start.elapsed().as_secs_f64()
        };
        let mut passes = std::iter::repeat_with(pass);
        passes
            .next()
            .unwrap_or(0.0)
            .max(passes.next().unwrap_or(0.0))
    }
}
