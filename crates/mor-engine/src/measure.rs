//! What measurements of decoding speed share, whatever the device.

use mor_config::ModelConfig;

use crate::{DecodeOptions, EngineError, Result};

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
