//! Byte-level BPE with special tokens that text can never become.

use std::collections::HashMap;

use serde_json::Value;
use tokenizers::{AddedVocabulary, Model, ModelWrapper, PostProcessorWrapper};

use crate::special::STOP_TOKENS;
use crate::template::{ChatTemplate, Piece, pieces};
use crate::{Message, Result, TextError, TokenStream, bytes};

/// The vocabulary's file in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The file of the chat template and the special tokens' roles in a model folder.
pub const CONFIG_FILE: &str = "tokenizer_config.json";

/// What an id stands for.
#[derive(Debug, Clone, Default)]
struct Token {
    /// The bytes it adds to a text; for a special token, its name.
    bytes: Box<[u8]>,
    special: bool,
}

/// A token that only markup can name.
#[derive(Debug, Clone)]
struct AddedToken {
    name: String,
    id: u32,
    /// Left out of decoded text. Some vocabularies add ordinary text, such as runs of spaces, which is not.
    special: bool,
}

/// A byte-level BPE tokenizer with its chat template, read from a Hugging Face model folder.
#[derive(Debug)]
pub struct Tokenizer {
    /// The pipeline without its added tokens: all it can produce is text.
    plain: tokenizers::Tokenizer,
    tokens: Vec<Token>,
    /// Ids of the 256 single bytes, as far as the vocabulary has them.
    byte_ids: Vec<Option<u32>>,
    /// The longest name first, so that the first match is the longest.
    added: Vec<AddedToken>,
    template: Option<ChatTemplate>,
    bos: Option<AddedToken>,
    eos: Option<AddedToken>,
    pad: Option<AddedToken>,
    /// Both files as read, for [`Tokenizer::save`].
    #[cfg(feature = "fs")]
    files: (Box<[u8]>, Value),
}

impl Tokenizer {
    /// Reads a tokenizer from the bytes of its two files.
    ///
    /// # Errors
    /// [`TextError::Tokenizer`] if a file is not valid JSON or the tokenizer is not byte-level BPE, and
    /// [`TextError::Template`] if the chat template does not compile.
    pub fn from_bytes(tokenizer_json: &[u8], tokenizer_config_json: &[u8]) -> Result<Self> {
        let mut plain = tokenizers::Tokenizer::from_bytes(tokenizer_json)
            .map_err(|error| bad(TOKENIZER_FILE, format!("not a tokenizer: {error}")))?;
        let config: Value = serde_json::from_slice(tokenizer_config_json)
            .map_err(|error| bad(CONFIG_FILE, format!("not valid JSON: {error}")))?;
        if !config.is_object() {
            return Err(bad(CONFIG_FILE, "expected a JSON object".to_owned()));
        }
        require_byte_level(&plain)?;

        let added = added_tokens(&plain, &config);
        let tokens = token_table(&plain, &added)?;
        let byte_ids = (0..=255u8)
            .map(|byte| plain.token_to_id(bytes::char_of(byte).encode_utf8(&mut [0; 4])))
            .collect();
        let template = chat_template(&config)?.map(ChatTemplate::new).transpose()?;
        let named = |key: &str, default: &str| {
            let name = token_name(&config[key]).unwrap_or(default).to_owned();
            added.iter().find(|token| token.name == name).cloned()
        };
        let (bos, eos, pad) = (
            named("bos_token", "<bos>"),
            named("eos_token", "<eos>"),
            named("pad_token", "<pad>"),
        );

        plain.with_added_vocabulary(AddedVocabulary::new());
        plain.with_post_processor(None::<PostProcessorWrapper>);
        // Padding and truncation belong to whoever makes batches.
        plain.with_padding(None);
        plain
            .with_truncation(None)
            .map_err(|error| bad(TOKENIZER_FILE, error.to_string()))?;
        Ok(Self {
            plain,
            tokens,
            byte_ids,
            added,
            template,
            bos,
            eos,
            pad,
            #[cfg(feature = "fs")]
            files: (tokenizer_json.into(), config),
        })
    }

    /// Reads `tokenizer.json` and `tokenizer_config.json` from a model folder.
    ///
    /// # Errors
    /// [`TextError::Io`] with the missing file, or what [`Tokenizer::from_bytes`] reports.
    #[cfg(feature = "fs")]
    pub fn from_dir(dir: &std::path::Path) -> Result<Self> {
        let read = |name| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|error| TextError::io(path, error))
        };
        Self::from_bytes(&read(TOKENIZER_FILE)?, &read(CONFIG_FILE)?)
    }

    /// Writes both files into `dir`, which is created if need be; each file appears whole or not at all.
    ///
    /// # Errors
    /// [`TextError::Io`] if the folder cannot be written.
    #[cfg(feature = "fs")]
    pub fn save(&self, dir: &std::path::Path) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(|error| TextError::io(dir, error))?;
        crate::atomic::write(&dir.join(TOKENIZER_FILE), &self.files.0)?;
        let mut config = serde_json::to_vec_pretty(&self.files.1)
            .map_err(|error| bad(CONFIG_FILE, error.to_string()))?;
        config.push(b'\n');
        crate::atomic::write(&dir.join(CONFIG_FILE), &config)
    }

    /// Encodes plain text. Special tokens written in it are not recognised: `<eos>` is five characters here.
    ///
    /// # Errors
    /// [`TextError::Encode`] if the vocabulary lacks a byte of the text, which vocabularies made by
    /// [`crate::train_tokenizer`] never do.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// Encodes many plain texts, on every core.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    #[cfg(feature = "fs")]
    pub fn encode_batch<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>> {
        use rayon::prelude::*;
        texts
            .par_iter()
            .map(|text| self.encode(text.as_ref()))
            .collect()
    }

    fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let encoding = self
            .plain
            .encode_fast(text, false)
            .map_err(|error| TextError::Encode {
                reason: error.to_string(),
            })?;
        for &id in encoding.get_ids() {
            match self.tokens.get(id as usize) {
                // A foreign vocabulary may spell a special token with ordinary merges: spell it in bytes instead.
                Some(token) if token.special => self.spell(&token.bytes, ids)?,
                _ => ids.push(id),
            }
        }
        Ok(())
    }

    fn spell(&self, bytes: &[u8], ids: &mut Vec<u32>) -> Result<()> {
        for &byte in bytes {
            let id = self.byte_ids[usize::from(byte)].ok_or_else(|| TextError::Encode {
                reason: format!("the vocabulary has no token for byte {byte:#04x}"),
            })?;
            ids.push(id);
        }
        Ok(())
    }

    /// Renders `messages` with the chat template and encodes the result. The template's special tokens become
    /// single ids; contents are inserted verbatim and stay plain text, whatever they say.
    ///
    /// # Errors
    /// [`TextError::Template`] if there is no template, or it refuses these messages.
    pub fn encode_chat(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>> {
        let template = self.template.as_ref().ok_or_else(|| TextError::Template {
            reason: format!(
                "{CONFIG_FILE} has no `chat_template`; this tokenizer cannot write conversations"
            ),
        })?;
        let name = |token: &Option<AddedToken>| {
            token
                .as_ref()
                .map_or(String::new(), |token| token.name.clone())
        };
        let rendered = template.render(
            messages,
            add_generation_prompt,
            &name(&self.bos),
            &name(&self.eos),
        )?;
        let mut ids = Vec::new();
        for piece in pieces(&rendered, messages.len())? {
            match piece {
                Piece::Markup(markup) => self.encode_markup(markup, &mut ids)?,
                Piece::Content(index) => self.encode_into(&messages[index].content, &mut ids)?,
            }
        }
        Ok(ids)
    }

    /// Encodes many conversations, on every core.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_chat`].
    #[cfg(feature = "fs")]
    pub fn encode_chat_batch<M: AsRef<[Message]> + Sync>(
        &self,
        conversations: &[M],
        add_generation_prompt: bool,
    ) -> Result<Vec<Vec<u32>>> {
        use rayon::prelude::*;
        conversations
            .par_iter()
            .map(|messages| self.encode_chat(messages.as_ref(), add_generation_prompt))
            .collect()
    }

    /// Encodes text in which special tokens count.
    fn encode_markup(&self, markup: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut text_start = 0;
        let mut at = 0;
        while at < markup.len() {
            let here = &markup[at..];
            if let Some(token) = self
                .added
                .iter()
                .find(|token| here.starts_with(token.name.as_str()))
            {
                self.encode_into(&markup[text_start..at], ids)?;
                ids.push(token.id);
                at += token.name.len();
                text_start = at;
            } else {
                at += here.chars().next().map_or(1, char::len_utf8);
            }
        }
        self.encode_into(&markup[text_start..], ids)
    }

    /// The exact bytes of `ids`. Special tokens are left out, or shown by name if `show_special`; ids outside
    /// the vocabulary give nothing.
    pub fn decode_bytes(&self, ids: &[u32], show_special: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            if show_special || !self.is_special(id) {
                bytes.extend_from_slice(self.token_bytes(id));
            }
        }
        bytes
    }

    /// The text of `ids` without special tokens; bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes = self.decode_bytes(ids, false);
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Decodes tokens that arrive one at a time.
    pub fn stream(&self) -> TokenStream<'_> {
        TokenStream::new(self)
    }

    /// The bytes of one token: a special token's name, and nothing for ids outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.tokens
            .get(id as usize)
            .map_or(&[], |token| &token.bytes)
    }

    /// True if `id` is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.tokens
            .get(id as usize)
            .is_some_and(|token| token.special)
    }

    /// How many ids there are, special tokens included: one more than the largest.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The id of a special token by its name (`<eos>`), or of a vocabulary entry by its spelling in the
    /// byte-level alphabet (`Ġthe`).
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.added_id(token)
            .or_else(|| self.plain.get_model().token_to_id(token))
    }

    fn added_id(&self, name: &str) -> Option<u32> {
        self.added
            .iter()
            .find(|token| token.name == name)
            .map(|token| token.id)
    }

    /// The id that opens every text, if the tokenizer names one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos.as_ref().map(|token| token.id)
    }

    /// The id that ends an answer, if the tokenizer names one.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos.as_ref().map(|token| token.id)
    }

    /// The id that fills up short rows of a batch, if the tokenizer names one.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad.as_ref().map(|token| token.id)
    }

    /// Ids after which generation stops: the end of an answer or of a text, and the tokens that open a turn.
    /// Ascending, each once.
    pub fn stop_ids(&self) -> Vec<u32> {
        let named = STOP_TOKENS.iter().filter_map(|name| self.added_id(name));
        let mut ids: Vec<u32> = named.chain(self.eos_id()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// True if the tokenizer has a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }
}

fn bad(file: &'static str, reason: String) -> TextError {
    TextError::Tokenizer { file, reason }
}

/// Everything here rests on tokens that are bytes; other kinds of tokenizer would lose text in silence.
fn require_byte_level(tokenizer: &tokenizers::Tokenizer) -> Result<()> {
    if !matches!(tokenizer.get_model(), ModelWrapper::BPE(_)) {
        return Err(bad(
            TOKENIZER_FILE,
            "the model is not BPE; only byte-level BPE is supported".to_owned(),
        ));
    }
    let decoder = tokenizer
        .get_decoder()
        .map(serde_json::to_string)
        .transpose();
    match decoder {
        Ok(Some(decoder)) if decoder.contains("\"ByteLevel\"") => Ok(()),
        _ => Err(bad(
            TOKENIZER_FILE,
            "the decoder is not `ByteLevel`; only byte-level BPE is supported".to_owned(),
        )),
    }
}

/// The tokens that only markup can name: those the vocabulary adds, and those the configuration gives a role.
fn added_tokens(tokenizer: &tokenizers::Tokenizer, config: &Value) -> Vec<AddedToken> {
    let mut added: Vec<AddedToken> = tokenizer
        .get_added_tokens_decoder()
        .into_iter()
        .map(|(id, token)| AddedToken {
            name: token.content,
            id,
            special: token.special,
        })
        .filter(|token| !token.name.is_empty())
        .collect();
    for key in ["bos_token", "eos_token", "pad_token", "unk_token"] {
        let Some(name) = token_name(&config[key]).filter(|name| !name.is_empty()) else {
            continue;
        };
        if let Some(token) = added.iter_mut().find(|token| token.name == name) {
            token.special = true;
        } else if let Some(id) = tokenizer.token_to_id(name) {
            added.push(AddedToken {
                name: name.to_owned(),
                id,
                special: true,
            });
        }
    }
    added.sort_by(|a, b| {
        b.name
            .len()
            .cmp(&a.name.len())
            .then_with(|| a.name.cmp(&b.name))
    });
    added
}

/// What every id stands for, indexed by id.
fn token_table(tokenizer: &tokenizers::Tokenizer, added: &[AddedToken]) -> Result<Vec<Token>> {
    let vocab: HashMap<String, u32> = tokenizer.get_vocab(true);
    let largest = vocab
        .values()
        .copied()
        .max()
        .ok_or_else(|| bad(TOKENIZER_FILE, "the vocabulary is empty".to_owned()))?;
    // Ids come from the file: a hole-ridden vocabulary must not make us allocate for every id up to 2^32.
    if largest as usize >= vocab.len().saturating_mul(2) + 1024 {
        return Err(bad(
            TOKENIZER_FILE,
            format!(
                "id {largest} is far beyond the {} tokens there are",
                vocab.len()
            ),
        ));
    }
    let mut tokens = vec![Token::default(); largest as usize + 1];
    for (name, id) in &vocab {
        if let Some(bytes) = bytes::bytes_of(name) {
            tokens[*id as usize].bytes = bytes.into();
        }
    }
    for token in added {
        if let Some(entry) = tokens.get_mut(token.id as usize) {
            *entry = Token {
                bytes: token.name.as_bytes().into(),
                special: token.special,
            };
        }
    }
    Ok(tokens)
}

/// The `chat_template` of a configuration: a string, or the one named "default" in a list.
fn chat_template(config: &Value) -> Result<Option<&str>> {
    match &config["chat_template"] {
        Value::Null => Ok(None),
        Value::String(template) => Ok(Some(template)),
        Value::Array(named) => Ok(named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())),
        _ => Err(bad(
            CONFIG_FILE,
            "`chat_template` must be a string".to_owned(),
        )),
    }
}

/// A special token's name as Hugging Face writes it: a string, or an object with `content`.
fn token_name(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}
