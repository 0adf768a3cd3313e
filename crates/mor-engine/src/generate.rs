//! Token after token, until something says stop.

use crate::{Context, EngineError, Result, Routing, Sampler, SamplingOptions};

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
    /// Steps taken to choose it, as [`Context::steps`].
    pub steps: Vec<u8>,
}

/// A running generation. The context stays with its owner, who passes it to every call, and may pass another one of the
/// same model at any time: it is brought to where the generation is.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use mor_engine::{Context, DecodeOptions, Decoder, FinishReason, GenerateOptions, Generator, Model};
///
/// let model = Model::load(Path::new("../../models/technical-10m"))?;
/// let mut context = Context::from(Decoder::new(Arc::new(model), DecodeOptions::default())?);
/// let options = GenerateOptions { max_new_tokens: 5, ..GenerateOptions::default() };
/// # pollster::block_on(async {
/// let mut generator = Generator::start(&mut context, &[2, 7, 11], options).await?;
/// while let Some(token) = generator.next_token(&mut context).await? {
///     println!("{} with probability {}", token.id, token.probability);
/// }
/// assert_eq!(generator.finish_reason(), Some(FinishReason::Length));
/// # Ok::<(), mor_engine::EngineError>(())
/// # })?;
/// # Ok::<(), mor_engine::EngineError>(())
/// ```
#[derive(Debug)]
pub struct Generator {
    sampler: Sampler,
    options: GenerateOptions,
    prompt: Vec<u32>,
    /// What the next token is chosen after: what the context holds, or is to hold.
    ids: Vec<u32>,
    /// Chosen but not yet part of `ids`: the last token of all never needs to be read.
    pending: Option<u32>,
    made: usize,
    finish: Option<FinishReason>,
    /// The stop token that ended it.
    end: Option<GeneratedToken>,
}

/// How `ids` went on since the last choice.
enum Advance {
    /// Not at all.
    None,
    /// By one token.
    Token(u32),
    /// By one token, and others dropped out.
    Window,
}

impl Generator {
    /// Reads the prompt, reusing what `context` already knows of it.
    ///
    /// # Errors
    /// [`EngineError::ContextFull`] when it is longer than the context, whatever happens when that becomes full later:
    /// an answer to a part of a question is none. [`EngineError::Option`] when a sampling option is out of range, or as
    /// [`Context::set_context`].
    pub async fn start(
        context: &mut Context,
        prompt: &[u32],
        options: GenerateOptions,
    ) -> Result<Self> {
        let (sampler, capacity) = (context.sampler(options.sampling)?, context.capacity());
        if prompt.len() > capacity {
            return Err(EngineError::ContextFull {
                tokens: prompt.len(),
                limit: capacity,
            });
        }
        context.set_context(prompt).await?;
        let mut ids = Vec::with_capacity(capacity);
        ids.extend_from_slice(prompt);
        Ok(Self {
            sampler,
            options,
            prompt: prompt.to_vec(),
            ids,
            pending: None,
            made: 0,
            finish: None,
            end: None,
        })
    }

    /// The next token, or `None` when generation has ended.
    ///
    /// # Errors
    /// As [`Context::push`], or the device's; a context on the CPU gives none. Nothing is lost then: called again,
    /// with this context or another, it makes the token that failed.
    pub async fn next_token(&mut self, context: &mut Context) -> Result<Option<GeneratedToken>> {
        if self.finish.is_some() {
            return Ok(None);
        }
        if self.made == self.options.max_new_tokens {
            self.finish = Some(FinishReason::Length);
            return Ok(None);
        }
        let in_step = context.ids() == self.ids;
        let Some(advance) = self.advance(context.capacity()) else {
            self.finish = Some(FinishReason::Context);
            return Ok(None);
        };
        match advance {
            Advance::None if in_step => {}
            Advance::Token(id) if in_step => context.push(id).await?,
            Advance::Window if in_step => context.slide_to(&self.ids).await?,
            _ => self.restore(context).await?,
        }
        let choice = context.choose(&mut self.sampler).await?;
        let token = GeneratedToken {
            id: choice.id,
            probability: choice.probability,
            steps: context.steps().to_vec(),
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

    /// Adds the pending token to `ids`; `None` when the context is full and generation ends with it.
    fn advance(&mut self, capacity: usize) -> Option<Advance> {
        let Some(id) = self.pending else {
            return Some(Advance::None);
        };
        let kept = match self.options.overflow {
            _ if self.ids.len() < capacity => self.ids.len(),
            Overflow::Slide => capacity - 1,
            Overflow::Rewind => capacity / 2,
            Overflow::Stop => return None,
        };
        let dropped = self.ids.len() - kept;
        self.ids.drain(..dropped);
        self.ids.push(id);
        self.pending = None;
        Some(match dropped {
            0 => Advance::Token(id),
            _ => Advance::Window,
        })
    }

    /// Brings a context that was elsewhere to `ids`.
    async fn restore(&self, context: &mut Context) -> Result<()> {
        if context.options().routing == Routing::Live {
            return context.set_context(&self.ids).await;
        }
        // Locked routers decide on the prompt alone, and what followed has their depth.
        context.set_context(&self.prompt).await?;
        let Some(written) = self.ids.strip_prefix(self.prompt.as_slice()) else {
            return context.slide_to(&self.ids).await;
        };
        for &id in written {
            context.push(id).await?;
        }
        Ok(())
    }

    /// The stop token that ended generation, which is no part of the text, if one did.
    pub fn end_token(&self) -> Option<&GeneratedToken> {
        self.end.as_ref()
    }

    /// Why generation ended, once it has.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// The remaining tokens, all at once.
    ///
    /// # Errors
    /// As [`Self::next_token`]; the tokens before it are lost then.
    pub async fn rest(&mut self, context: &mut Context) -> Result<Vec<GeneratedToken>> {
        let mut tokens = Vec::new();
        while let Some(token) = self.next_token(context).await? {
            tokens.push(token);
        }
        Ok(tokens)
    }
}
