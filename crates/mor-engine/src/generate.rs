//! Token after token, until something says stop.

use crate::{Decoder, Result, Sampler, SamplingOptions};

/// What happens when the context is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The oldest token drops out and the rest is read again, as the reference does: every further token
    /// costs a whole context.
    #[default]
    Slide,
    /// The older half drops out and the rest is read again: once, until the context is full again.
    Rewind,
    /// Generation ends with [`FinishReason::Context`].
    Stop,
}

/// How far and how to generate.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// How each token is chosen.
    pub sampling: SamplingOptions,
    /// Most tokens to generate.
    pub max_new_tokens: usize,
    /// Tokens that end the text; they are not part of it.
    pub stop_ids: Vec<u32>,
    /// What happens when the context is full.
    pub overflow: Overflow,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            sampling: SamplingOptions::default(),
            max_new_tokens: 128,
            stop_ids: Vec::new(),
            overflow: Overflow::default(),
        }
    }
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token came.
    Stop,
    /// [`GenerateOptions::max_new_tokens`] were made.
    Length,
    /// The context is full.
    Context,
}

impl FinishReason {
    /// A short name: `stop`, `length` or `context`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Context => "context",
        }
    }
}

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedToken {
    /// The token.
    pub id: u32,
    /// Its probability among the tokens that took part in the choice.
    pub probability: f32,
    /// Steps taken to choose it, as [`Decoder::steps`].
    pub steps: Vec<u8>,
}

/// A running generation. The decoder stays with its owner, who passes it to every call.
#[derive(Debug)]
pub struct Generator {
    sampler: Sampler,
    options: GenerateOptions,
    /// Chosen but not yet read by the decoder: the last token of all never needs to be.
    pending: Option<u32>,
    made: usize,
    finish: Option<FinishReason>,
    /// The stop token that ended it.
    end: Option<GeneratedToken>,
    /// Scratch for a sliding context.
    window: Vec<u32>,
}

impl Generator {
    /// Reads the prompt, reusing what `decoder` already knows of it. A prompt longer than the context
    /// keeps its end.
    ///
    /// # Errors
    /// [`crate::EngineError::Option`] when a sampling option is out of range, or as
    /// [`Decoder::prefill`].
    pub fn start(decoder: &mut Decoder, prompt: &[u32], options: GenerateOptions) -> Result<Self> {
        let sampler = Sampler::new(decoder.model(), options.sampling)?;
        decoder.set_context(&prompt[prompt.len().saturating_sub(decoder.capacity())..])?;
        Ok(Self {
            sampler,
            options,
            pending: None,
            made: 0,
            finish: None,
            end: None,
            window: Vec::with_capacity(decoder.capacity()),
        })
    }

    /// The next token, or `None` when generation has ended.
    ///
    /// # Errors
    /// As [`Decoder::push`]; a decoder that was only used here gives none.
    pub fn next_token(&mut self, decoder: &mut Decoder) -> Result<Option<GeneratedToken>> {
        if self.finish.is_some() {
            return Ok(None);
        }
        if self.made == self.options.max_new_tokens {
            self.finish = Some(FinishReason::Length);
            return Ok(None);
        }
        if let Some(id) = self.pending.take() {
            let capacity = decoder.capacity();
            if decoder.ids().len() < capacity {
                decoder.push(id)?;
            } else {
                let kept = match self.options.overflow {
                    Overflow::Slide => capacity - 1,
                    Overflow::Rewind => capacity / 2,
                    Overflow::Stop => {
                        self.finish = Some(FinishReason::Context);
                        return Ok(None);
                    }
                };
                self.window.clear();
                let newest = &decoder.ids()[capacity - kept..];
                self.window.extend_from_slice(newest);
                self.window.push(id);
                decoder.slide_to(&self.window)?;
            }
        }
        let choice = self.sampler.sample(decoder.logits(), decoder.ids());
        let token = GeneratedToken {
            id: choice.id,
            probability: choice.probability,
            steps: decoder.steps().to_vec(),
        };
        if self.options.stop_ids.contains(&token.id) {
            self.finish = Some(FinishReason::Stop);
            self.end = Some(token);
            return Ok(None);
        }
        self.pending = Some(token.id);
        self.made += 1;
        Ok(Some(token))
    }

    /// The stop token that ended generation, which is no part of the text, if one did.
    pub fn end_token(&self) -> Option<&GeneratedToken> {
        self.end.as_ref()
    }

    /// Why generation ended, once it has.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// The remaining tokens as an iterator, which ends after an error.
    pub fn tokens<'a>(
        &'a mut self,
        decoder: &'a mut Decoder,
    ) -> impl Iterator<Item = Result<GeneratedToken>> + 'a {
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let next = self.next_token(decoder).transpose();
            failed = matches!(next, Some(Err(_)));
            next
        })
    }
}
