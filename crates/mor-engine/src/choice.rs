//! How the next token is chosen, and what was.

use crate::{EngineError, Result};

/// A chosen token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The token.
    pub id: u32,
    /// Its probability among the tokens that took part; for greedy choice, among all.
    pub probability: f32,
}

/// How the next token is chosen. The default is greedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingOptions {
    /// Divides the logits: below 1 sharper, above 1 flatter. 0 always takes the likeliest token.
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens take part, and those as likely as the last of them: which of equals come
    /// first says nothing. 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability take part (nucleus sampling, Holtzman
    /// et al. 2020), and those as likely as the last of them; 1 for all.
    pub top_p: f32,
    /// Logits of tokens of the context are divided by this (multiplied where negative; Keskar et al. 2019);
    /// 1 for none.
    pub repetition_penalty: f32,
    /// Seed of the random numbers, which are the same on every platform.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`EngineError::Option`].
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, option, value: f32, allowed| match ok {
            true => Ok(()),
            false => Err(EngineError::Option {
                option,
                value: value.to_string(),
                allowed,
            }),
        };
        let Self {
            temperature,
            top_p,
            repetition_penalty,
            ..
        } = *self;
        let in_range = (0.0..=100.0).contains(&temperature);
        check(in_range, "temperature", temperature, "from 0 to 100")?;
        check(
            top_p > 0.0 && top_p <= 1.0,
            "top_p",
            top_p,
            "above 0 and at most 1",
        )?;
        let in_range = (0.1..=10.0).contains(&repetition_penalty);
        check(
            in_range,
            "repetition_penalty",
            repetition_penalty,
            "from 0.1 to 10",
        )
    }
}
