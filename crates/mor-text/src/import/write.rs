//! `tokenizer.json` out of its parts.

use std::collections::HashMap;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::merges::Merge;
use crate::format::unusable;
use crate::{Result, Tokenizer};

/// What a tokenizer is made of.
pub(super) struct Parts<'a> {
    /// Name, id, and whether the token is left out of decoded text.
    pub(super) added: Vec<(String, u32, bool)>,
    pub(super) normalizer: Value,
    pub(super) pre_tokenizer: Value,
    pub(super) post_processor: Value,
    pub(super) decoder: Value,
    /// Stands for characters that the vocabulary lacks.
    pub(super) unknown: Option<&'a str>,
    pub(super) vocab: &'a HashMap<String, u32>,
    pub(super) merges: &'a [Merge],
    /// `tokenizer_config.json`.
    pub(super) config: Value,
}

#[derive(Serialize)]
struct File<'a> {
    version: &'static str,
    truncation: Value,
    padding: Value,
    added_tokens: Vec<Value>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model<'a>,
}

#[derive(Serialize)]
struct Model<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    dropout: Value,
    unk_token: Option<&'a str>,
    continuing_subword_prefix: Value,
    end_of_word_suffix: Value,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: ById<'a>,
    merges: &'a [Merge],
}

/// A vocabulary in the order of its ids, so that the same tokenizer always gives the same file.
struct ById<'a>(&'a HashMap<String, u32>);

impl Serialize for ById<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by_key(|(name, id)| (**id, name.as_str()));
        serializer.collect_map(entries)
    }
}

/// Writes the parts as files, and reads these: what is written can be read.
pub(super) fn build(parts: Parts<'_>) -> Result<Tokenizer> {
    let added = parts.added.iter().map(|(name, id, special)| {
        // Looked for in normalized text, since normalizers may write them.
        json!({
            "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": !parts.normalizer.is_null(), "special": special
        })
    });
    let file = File {
        version: "1.0",
        truncation: Value::Null,
        padding: Value::Null,
        added_tokens: added.collect(),
        normalizer: parts.normalizer,
        pre_tokenizer: parts.pre_tokenizer,
        post_processor: parts.post_processor,
        decoder: parts.decoder,
        model: Model {
            kind: "BPE",
            dropout: Value::Null,
            unk_token: parts.unknown,
            continuing_subword_prefix: Value::Null,
            end_of_word_suffix: Value::Null,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: false,
            vocab: ById(parts.vocab),
            merges: parts.merges,
        },
    };
    let json = serde_json::to_vec_pretty(&file).map_err(|error| unusable(error.to_string()))?;
    let config = parts.config.to_string();
    Tokenizer::from_bytes(&json, config.as_bytes())
}
