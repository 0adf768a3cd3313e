//! BPE with special tokens that text can never become.

use serde_json::Value;
use tokenizers::Model;

use crate::format::{TokenizerFile, bad};
use crate::normalize::Normalizers;
use crate::pipeline::Pipeline;
use crate::special::STOP_TOKENS;
use crate::template::ChatTemplate;
use crate::vocabulary::{AddedToken, Letters, Vocabulary, token_name};
use crate::{Result, TextError, TokenStream};

mod chat;

/// The vocabulary's file in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The file of the chat template and the special tokens' roles in a model folder.
pub const CONFIG_FILE: &str = "tokenizer_config.json";

/// A BPE tokenizer with its chat template, read from a Hugging Face model folder.
///
/// Byte-level ones keep every text byte for byte. The technical original's, which works on characters, is
/// accepted as well and is lossy by design: it drops white space outside code and what it has no symbols for,
/// and decoding joins words without spaces between them. In both, text never becomes a special token, but for
/// the one that stands for unknown characters.
#[derive(Debug)]
pub struct Tokenizer {
    normalizers: Normalizers,
    pipeline: Pipeline,
    vocabulary: Vocabulary,
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
        let config: Value = serde_json::from_slice(tokenizer_config_json)
            .map_err(|error| bad(CONFIG_FILE, format!("not valid JSON: {error}")))?;
        if !config.is_object() {
            return Err(bad(CONFIG_FILE, "expected a JSON object".to_owned()));
        }
        let file = TokenizerFile::parse(tokenizer_json)?;
        let normalizers = file.normalizers()?;
        let pipeline = file.pipeline()?;
        let vocabulary = Vocabulary::new(&file, &config)?;
        let template = chat_template(&config)?.map(ChatTemplate::new).transpose()?;
        let named = |key: &str, default: &str| {
            let name = token_name(&config[key]).unwrap_or(default).to_owned();
            vocabulary
                .added
                .iter()
                .find(|token| token.name == name)
                .cloned()
        };
        let (bos, eos, pad) = (
            named("bos_token", "<bos>"),
            named("eos_token", "<eos>"),
            named("pad_token", "<pad>"),
        );

        Ok(Self {
            normalizers,
            pipeline,
            vocabulary,
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

    /// The SHA-256, in hexadecimal, of all that decides which ids a text or a conversation becomes:
    /// `tokenizer.json`, the chat template and the names of the tokens it may use.
    #[cfg(feature = "fs")]
    pub fn fingerprint(&self) -> String {
        let hash = self.fingerprint_bytes();
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// [`Tokenizer::fingerprint`] as bytes.
    #[cfg(feature = "fs")]
    pub(crate) fn fingerprint_bytes(&self) -> [u8; 32] {
        use sha2::{Digest, Sha256};
        let template = chat_template(&self.files.1).ok().flatten();
        let name = |token: &Option<AddedToken>| token.as_ref().map(|token| token.name.clone());
        let (bos, eos) = (name(&self.bos), name(&self.eos));
        let mut hash = Sha256::new_with_prefix(&self.files.0);
        for part in [template, bos.as_deref(), eos.as_deref()] {
            // A byte that no UTF-8 text holds keeps the parts apart.
            hash.update([0xFF]);
            hash.update(part.unwrap_or_default());
        }
        hash.finalize().into()
    }

    /// Encodes plain text. Special tokens written in it are not recognised: `<eos>` is five characters here.
    ///
    /// # Errors
    /// [`TextError::Encode`] if a pattern of the pre-tokenizer gives up on the text; the one of
    /// [`crate::train_tokenizer`] never does.
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

    /// Appends the ids of plain text. Where letters are characters, added tokens that are not special stand
    /// for characters too: the technical original's tab.
    fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let has_extra_letters = matches!(self.vocabulary.letters, Letters::Characters { .. });
        let counts = |token: &AddedToken| has_extra_letters && !token.special;
        self.encode_around(&self.normalizers.apply(text)?, counts, ids)
    }

    /// Appends the ids of normalized text in which the added tokens that `counts` accepts count.
    fn encode_around(
        &self,
        text: &str,
        counts: impl Fn(&AddedToken) -> bool,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let added: Vec<_> = self
            .vocabulary
            .added
            .iter()
            .filter(|token| counts(token))
            .collect();
        let mut text_start = 0;
        let mut at = 0;
        while at < text.len() && !added.is_empty() {
            let here = &text[at..];
            if let Some(token) = added
                .iter()
                .find(|token| here.starts_with(token.name.as_str()))
            {
                self.encode_words(&text[text_start..at], ids)?;
                ids.push(token.id);
                at += token.name.len();
                text_start = at;
            } else {
                at += here.chars().next().map_or(1, char::len_utf8);
            }
        }
        self.encode_words(&text[text_start..], ids)
    }

    /// Appends the ids of normalized text without added tokens.
    fn encode_words(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let encoding =
            self.pipeline
                .encode_fast(text, false)
                .map_err(|error| TextError::Encode {
                    reason: error.to_string(),
                })?;
        let letters = &self.vocabulary.letters;
        for &id in encoding.get_ids() {
            if self.is_special(id) && !letters.is_unknown(id) {
                // A foreign vocabulary may spell a special token with ordinary merges: spell it letter by
                // letter.
                letters.spell(self.token_bytes(id), ids);
            } else {
                ids.push(id);
            }
        }
        Ok(())
    }

    /// Encodes text in which special tokens count, as other programs do: for text that no user wrote.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_markup(&self, markup: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_around(&self.normalizers.apply(markup)?, |_| true, &mut ids)?;
        Ok(ids)
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
        self.vocabulary
            .tokens
            .get(id as usize)
            .map_or(&[], |token| &token.bytes)
    }

    /// True if `id` is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.vocabulary
            .tokens
            .get(id as usize)
            .is_some_and(|token| token.special)
    }

    /// How many ids there are, special tokens included: one more than the largest.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.tokens.len()
    }

    /// Whether this can be the tokenizer of a model with `rows` embeddings: it has no id beyond them, and
    /// leaves at most an eighth of them without a token. Vocabularies are padded to round numbers; more than
    /// that is another model's tokenizer.
    pub fn fits(&self, rows: usize) -> bool {
        (rows - rows / 8..=rows).contains(&self.vocab_size())
    }

    /// The id of a special token by its name (`<eos>`), or of a vocabulary entry by its spelling in the
    /// byte-level alphabet (`Ġthe`).
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.vocabulary
            .added_id(token)
            .or_else(|| self.pipeline.get_model().token_to_id(token))
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
        let named = STOP_TOKENS
            .iter()
            .filter_map(|name| self.vocabulary.added_id(name));
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
