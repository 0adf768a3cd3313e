//! How fast the CPU decodes, beside how fast this machine can read memory at the same moment.

use std::sync::Arc;
use std::time::Instant;

use super::kernels::Kernels;
use super::kernels::buffer::Buffer;
use super::pool::{Pool, share};
use super::run::Decoder;
use super::weights::Model;
use crate::measure::{BenchOptions, Memory, made_up_prompt, median};
use crate::{Isa, Result};

/// Bytes read to measure bandwidth: far more than any last-level cache holds.
const STREAM_BYTES: usize = 256 << 20;

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

impl BenchReport {
    /// The median over the runs of something.
    pub fn median(&self, of: impl Fn(&BenchRun) -> f64) -> f64 {
        median(self.runs.iter().map(of).collect())
    }
}

/// Decodes `new_tokens` tokens after a made-up prompt, several times.
///
/// # Errors
/// [`crate::EngineError::ContextFull`] when the tokens do not fit, [`crate::EngineError::Option`] when there is nothing to
/// do, or as [`Decoder::new`].
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
