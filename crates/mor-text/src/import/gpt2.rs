//! GPT-2's vocabulary with the conversational card's three tokens.

use std::collections::HashMap;

use serde_json::json;

use super::ImportReport;
use super::merges::{self, Merge};
use super::write::{Parts, build as build_tokenizer};
use crate::special::{END_OF_TEXT, GPT2_CHAT_TEMPLATE};
use crate::{Result, TextError, Tokenizer};

/// The card's tokens, in the order of their ids.
const ROLES: [&str; 3] = ["<|user|>", "<|assistant|>", "<|pad|>"];

/// From the two files' contents.
pub(super) fn import(
    vocab: HashMap<String, u32>,
    merges: &str,
) -> Result<(Tokenizer, ImportReport)> {
    let (merges, report) = merges::read(merges, &vocab);
    build(vocab, merges, report)
}

/// From a byte-level vocabulary and its merges.
pub(super) fn build(
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    report: ImportReport,
) -> Result<(Tokenizer, ImportReport)> {
    let mut next = vocab.values().max().map_or(Some(0), |id| id.checked_add(1));
    let mut added = Vec::new();
    for name in [END_OF_TEXT].into_iter().chain(ROLES) {
        let id = vocab.get(name).copied();
        let Some(id) = id.or(next) else {
            return Err(TextError::Tokenizer {
                file: crate::TOKENIZER_FILE,
                reason: "no ids are left for the tokens of a conversation".to_owned(),
            });
        };
        if Some(id) == next && !vocab.contains_key(name) {
            next = id.checked_add(1);
        }
        added.push((name.to_owned(), id, true));
    }
    let parts = Parts {
        added,
        normalizer: json!(null),
        pre_tokenizer: json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
        }),
        post_processor: json!(null),
        decoder: json!({
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true
        }),
        unknown: None,
        vocab: &vocab,
        merges: &merges,
        config: json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END_OF_TEXT,
            "pad_token": ROLES[2],
            "add_prefix_space": false,
            "clean_up_tokenization_spaces": false,
            "chat_template": GPT2_CHAT_TEMPLATE,
        }),
    };
    Ok((build_tokenizer(parts)?, report))
}
