//! A model as the worker sees it.

use std::path::Path;
use std::sync::Arc;

use mor_config::{CONFIG_FILE, Depth, ModelConfig, WEIGHTS_FILE, Weights};
use mor_engine::{ChatSession, DecodeOptions, Decoder, Model};
use mor_text::{Message, Tokenizer};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::WeightsBuffer;
use crate::bench::Bench;
use crate::options::{self, Info, Options, Prompt, Step};

/// A loaded model with one conversation. What a new prompt has in common with the one before is not read again.
#[wasm_bindgen]
pub struct MorModel {
    model: Arc<Model>,
    session: ChatSession,
    depth: Depth,
    weight_bytes: usize,
    /// Bytes of the running answer's text that the page has.
    sent: usize,
    bench: Option<Bench>,
}

#[wasm_bindgen]
impl MorModel {
    /// Builds a model from the files of its folder. Takes the buffer over, and frees it once the weights are packed.
    ///
    /// # Errors
    /// Names the file that is damaged or does not fit the others.
    #[wasm_bindgen(constructor)]
    pub fn new(
        config: &[u8],
        tokenizer: &[u8],
        tokenizer_config: &[u8],
        weights: WeightsBuffer,
    ) -> Result<MorModel, JsError> {
        let config = ModelConfig::from_json(config, Path::new(CONFIG_FILE))?;
        let tokenizer = Tokenizer::from_bytes(tokenizer, tokenizer_config)?;
        let weights = Weights::from_bytes(weights.bytes, Path::new(WEIGHTS_FILE))?;
        let weight_bytes = weights.file_len();
        let model = Arc::new(Model::from_parts(config, weights)?);
        let decoder = Decoder::new(Arc::clone(&model), DecodeOptions::default())?;
        Ok(Self {
            model,
            session: ChatSession::new(decoder, Arc::new(tokenizer))?,
            depth: Depth::Configured,
            weight_bytes,
            sent: 0,
            bench: None,
        })
    }

    /// What the model is: parameters, sizes, depth.
    ///
    /// # Errors
    /// Never in practice: plain data converts.
    pub fn info(&self) -> Result<JsValue, JsError> {
        to_js(&Info::new(self.model.config(), self.weight_bytes))
    }

    /// Starts an answer to `messages` (JSON: `[{"role", "content"}]`, oldest first) and reads the prompt:
    /// `{prompt_tokens, dropped_messages}`.
    ///
    /// # Errors
    /// When the messages or options are malformed, or the last message alone exceeds the context.
    pub async fn chat_start(
        &mut self,
        messages: String,
        options: String,
    ) -> Result<JsValue, JsError> {
        let messages: Vec<Message> = parse("messages", &messages)?;
        let options: Options = parse("options", &options)?;
        let depth = options::depth(options.depth);
        if depth != self.depth {
            self.session.set_depth(depth).await?;
            self.depth = depth;
        }
        self.session.set_messages(messages);
        self.sent = 0;
        let started = self.session.answer(options.into()).await?;
        to_js(&Prompt {
            prompt_tokens: started.prompt_tokens,
            dropped_messages: started.dropped_messages,
        })
    }

    /// Writes one token: `{text, steps, probability, end}`, where `end` is null, or says why the answer is over
    /// (`stop`, `length`, `context`) after its last token.
    ///
    /// # Errors
    /// As the engine's; none for an answer that started.
    pub async fn chat_next(&mut self) -> Result<JsValue, JsError> {
        let step = match self.session.next_piece().await? {
            Some(piece) => {
                self.sent += piece.text.len();
                Step {
                    text: piece.text,
                    steps: piece.steps,
                    probability: piece.probability,
                    end: None,
                }
            }
            None => {
                let reply = self.session.stop();
                Step::end(reply.text.get(self.sent..).unwrap_or(""), reply.finish)
            }
        };
        to_js(&step)
    }

    /// Gives an unfinished answer up.
    pub fn chat_stop(&mut self) {
        self.session.stop();
    }

    /// Reads a made-up prompt of `tokens` tokens, for timing.
    ///
    /// # Errors
    /// When the depth or the prompt exceeds the model's.
    pub fn bench_prefill(&mut self, tokens: usize, depth: Option<usize>) -> Result<(), JsError> {
        let model = Arc::clone(&self.model);
        self.bench = Some(Bench::prefill(model, tokens, options::depth(depth))?);
        Ok(())
    }

    /// Writes `tokens` tokens after [`Self::bench_prefill`], for timing.
    ///
    /// # Errors
    /// When there is no prompt, or the context is full.
    pub fn bench_decode(&mut self, tokens: usize) -> Result<(), JsError> {
        let bench = self
            .bench
            .as_mut()
            .ok_or_else(|| JsError::new("bench_decode needs bench_prefill first"))?;
        Ok(bench.decode(tokens)?)
    }
}

/// Plain data as JavaScript objects; `None` is `null`.
fn to_js(value: &impl Serialize) -> Result<JsValue, JsError> {
    Ok(value.serialize(&serde_wasm_bindgen::Serializer::json_compatible())?)
}

fn parse<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> Result<T, JsError> {
    serde_json::from_str(text)
        .map_err(|error| JsError::new(&format!("malformed {what} from the page: {error}")))
}
