//! A conversation: messages in, streamed text out.

use std::sync::Arc;

use mor_config::Depth;
use mor_text::{Message, Role, TokenStream, Tokenizer};

use crate::{
    Context, EngineError, FinishReason, GenerateOptions, Generator, Overflow, Result,
    SamplingOptions,
};

/// How an answer is made.
#[derive(Debug, Clone, Copy)]
pub struct ChatOptions {
    /// How each token is chosen.
    pub sampling: SamplingOptions,
    /// Most tokens of the answer.
    pub max_new_tokens: usize,
    /// What happens when the context is full.
    pub overflow: Overflow,
}

impl Default for ChatOptions {
    fn default() -> Self {
        Self {
            sampling: SamplingOptions::default(),
            max_new_tokens: 128,
            overflow: Overflow::Stop,
        }
    }
}

/// What an answer starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Tokens of the conversation the model reads.
    pub prompt_tokens: usize,
    /// Oldest messages it cannot read any more, because the context is full.
    pub dropped_messages: usize,
}

/// One token of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Characters that are whole now; empty while a character's bytes are still coming.
    pub text: String,
    /// The token.
    pub id: u32,
    /// Its probability among the tokens that took part in the choice.
    pub probability: f32,
    /// Steps taken to choose it, as [`Context::steps`].
    pub steps: Vec<u8>,
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: usize,
    /// Why it ended; `None` when it was stopped from outside.
    pub finish: Option<FinishReason>,
}

struct Turn {
    generator: Generator,
    text: String,
    stream: TokenStream<Arc<Tokenizer>>,
    tokens: usize,
}

/// A conversation with a model.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use mor_engine::{ChatOptions, ChatSession, DecodeOptions, Decoder, Model};
/// use mor_text::Tokenizer;
///
/// # pollster::block_on(async {
/// let folder = Path::new("../../models/technical-10m");
/// let decoder = Decoder::new(Arc::new(Model::load(folder)?), DecodeOptions::default())?;
/// let mut session = ChatSession::new(decoder, Arc::new(Tokenizer::from_dir(folder)?))?;
///
/// let options = ChatOptions { max_new_tokens: 8, ..ChatOptions::default() };
/// session.ask("How do I list the contents of a tar file?", options).await?;
/// let mut answer = String::new();
/// while let Some(piece) = session.next_piece().await? {
///     answer += &piece.text;
/// }
/// assert!(!answer.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ChatSession {
    context: Context,
    tokenizer: Arc<Tokenizer>,
    /// Tokens that end an answer.
    stop_ids: Vec<u32>,
    messages: Vec<Message>,
    turn: Option<Turn>,
}

impl std::fmt::Debug for ChatSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatSession")
            .field("messages", &self.messages)
            .finish()
    }
}

impl ChatSession {
    /// An empty conversation.
    ///
    /// # Errors
    /// [`EngineError::TokenizerMismatch`] when the tokenizer is another model's.
    pub fn new(context: impl Into<Context>, tokenizer: Arc<Tokenizer>) -> Result<Self> {
        let context = context.into();
        let (tokens, rows) = (tokenizer.vocab_size(), context.config().vocab_size);
        if !tokenizer.fits(rows) {
            return Err(EngineError::TokenizerMismatch {
                tokenizer: tokens,
                model: rows,
            });
        }
        Ok(Self {
            context,
            stop_ids: tokenizer.stop_ids(),
            tokenizer,
            messages: Vec::new(),
            turn: None,
        })
    }

    /// Ends answers at these tokens too, such as those of [`crate::GenerationConfig::end_ids`].
    pub fn end_also_at(&mut self, ids: &[u32]) {
        self.stop_ids.extend_from_slice(ids);
    }

    /// The messages so far, without an answer that is still being made.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The context, for its depths and its model's configuration.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Puts another context of the same model in place, on whatever device: when a device was lost, or another is
    /// wanted. A running answer goes on where it was, also after [`Self::next_piece`] has failed: the new context
    /// reads what the old one had read, and no token is lost or written twice.
    pub fn replace_context(&mut self, context: impl Into<Context>) {
        self.context = context.into();
    }

    /// Starts anew. An unfinished answer is dropped.
    pub fn clear(&mut self) {
        self.set_messages(Vec::new());
    }

    /// Replaces the conversation. An unfinished answer is dropped.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.turn = None;
        self.messages = messages;
    }

    /// Changes the depth of every recursive layer from the next answer on. An unfinished answer is dropped.
    ///
    /// # Errors
    /// As [`crate::Decoder::new`]; the old depth stays then.
    pub async fn set_depth(&mut self, depth: Depth) -> Result<()> {
        self.context = self.context.at_depth(depth).await?;
        self.turn = None;
        Ok(())
    }

    /// Adds a user's message and starts its answer; an unfinished one before it is kept as it is.
    ///
    /// # Errors
    /// [`EngineError::ContextFull`] when the message alone does not fit, [`EngineError::Option`], or
    /// [`EngineError::Text`]. The conversation is as before then.
    pub async fn ask(&mut self, text: &str, options: ChatOptions) -> Result<Started> {
        if self.turn.is_some() {
            self.stop();
        }
        self.messages.push(Message::new(Role::User, text));
        let started = self.answer(options).await;
        if started.is_err() {
            self.messages.pop();
        }
        started
    }

    /// Starts an answer to the conversation as it stands. An unfinished one is dropped.
    ///
    /// # Errors
    /// As for [`Self::ask`].
    pub async fn answer(&mut self, options: ChatOptions) -> Result<Started> {
        self.turn = None;
        let (ids, dropped_messages) = self.fitting_prompt(options.max_new_tokens)?;
        let options = GenerateOptions {
            sampling: options.sampling,
            max_new_tokens: options.max_new_tokens,
            stop_ids: self.stop_ids.clone(),
            overflow: options.overflow,
        };
        let generator = Generator::start(&mut self.context, &ids, options).await?;
        self.turn = Some(Turn {
            generator,
            text: String::new(),
            stream: TokenStream::new(Arc::clone(&self.tokenizer)),
            tokens: 0,
        });
        Ok(Started {
            prompt_tokens: ids.len(),
            dropped_messages,
        })
    }

    /// The next token of the answer, or `None` when it is complete (then call [`Self::stop`]) or none was
    /// started.
    ///
    /// # Errors
    /// As [`Generator::next_token`]; the answer can go on then, see [`Self::replace_context`].
    pub async fn next_piece(&mut self) -> Result<Option<Piece>> {
        let Some(turn) = &mut self.turn else {
            return Ok(None);
        };
        let Some(token) = turn.generator.next_token(&mut self.context).await? else {
            return Ok(None);
        };
        turn.tokens += 1;
        let text = turn.stream.push(token.id).unwrap_or_default();
        turn.text.push_str(&text);
        Ok(Some(Piece {
            text,
            id: token.id,
            probability: token.probability,
            steps: token.steps,
        }))
    }

    /// Ends the answer, complete or not, and adds it to the conversation.
    pub fn stop(&mut self) -> Reply {
        let Some(mut turn) = self.turn.take() else {
            return Reply {
                text: String::new(),
                tokens: 0,
                finish: None,
            };
        };
        turn.text.extend(turn.stream.finish());
        let text = turn.text;
        self.messages
            .push(Message::new(Role::Assistant, text.clone()));
        Reply {
            text,
            tokens: turn.tokens,
            finish: turn.generator.finish_reason(),
        }
    }

    /// The conversation's tokens, without the oldest turns where they and some room for an answer do not
    /// fit, and the number of messages left out. A leading system message always stays.
    fn fitting_prompt(&self, max_new_tokens: usize) -> Result<(Vec<u32>, usize)> {
        let limit = self.context.capacity();
        let room = max_new_tokens.min(limit / 3).max(1);
        let mut messages = self.messages.clone();
        let system = usize::from(messages.first().is_some_and(|m| m.role == Role::System));
        loop {
            let ids = self.tokenizer.encode_chat(&messages, true)?;
            if ids.len() + room <= limit {
                return Ok((ids, self.messages.len() - messages.len()));
            }
            // The next turn starts at the second user message that is left.
            let users = messages.iter().enumerate().skip(system + 1);
            let next = users
                .filter(|(_, message)| message.role == Role::User)
                .map(|(i, _)| i)
                .next();
            match next {
                Some(next) => drop(messages.drain(system..next)),
                // The last message alone: a short answer is better than none.
                None if ids.len() < limit => {
                    return Ok((ids, self.messages.len() - messages.len()));
                }
                None => {
                    return Err(EngineError::ContextFull {
                        tokens: ids.len(),
                        limit,
                    });
                }
            }
        }
    }
}
