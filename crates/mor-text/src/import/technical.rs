//! The technical original's tokenizer: BPE on characters, after a normalizer and a pattern that drop much of a text.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::write::{Parts, build};
use super::{ImportReport, import as failed, merges, read};
use crate::tokenizer::CONFIG_FILE;
use crate::{DEFAULT_CHAT_TEMPLATE, Result, Tokenizer};

/// Code fences, code spans, and what stands between angle brackets are words; so are runs of ASCII letters with what
/// follows an apostrophe, and numbers; so is every other symbol. Whatever else there is, is dropped: white space, letters
/// outside ASCII, and what is glued behind a word or a number by a digit or an underscore.
const WORDS: &str = r"```[\s\S]*?```|`[^`]+`|<[^>]+>|(?<![\p{L}\p{N}_])[a-zA-Z]+(?:'[a-z]*)?|(?<![\p{L}\p{N}_])\p{Nd}+(?:\.\p{Nd}+)?(?![\p{L}\p{N}_])|[^\p{L}\p{N}_\s\x1c-\x1f]";
const URL: &str = r"https?://\S+";
const EMAIL: &str = r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}";

/// Tokens that stand for a character: text may hold them, and decoding gives the character back.
const CHARACTERS: [(&str, &str); 2] = [("<|tab|>", "\t"), ("<|newline|>", "\n")];

/// The part of the original's configuration that matters.
#[derive(Deserialize)]
struct Original {
    special_tokens: BTreeMap<String, u32>,
}

/// From the folder's files.
pub(super) fn import(
    dir: &Path,
    vocab: &HashMap<String, u32>,
    merges: &str,
) -> Result<(Tokenizer, ImportReport)> {
    let path = dir.join(CONFIG_FILE);
    let original: Original = serde_json::from_slice(&read(&path)?).map_err(|error| {
        failed(
            &path,
            format!("expected `special_tokens` with their ids, as the technical original has them: {error}"),
        )
    })?;
    let special = original.special_tokens;
    for name in ["<pad>", "<unk>", "<bos>", "<eos>"] {
        if !special.contains_key(name) || vocab.get(name) != special.get(name) {
            return Err(failed(
                &path,
                format!("`special_tokens` and vocab.json must have `{name}` under one id"),
            ));
        }
    }
    let is_special = |name: &str| CHARACTERS.iter().all(|(character, _)| name != *character);
    let mut added: Vec<_> = special
        .iter()
        .map(|(name, id)| (name.clone(), *id, is_special(name)))
        .collect();
    added.sort_by_key(|(_, id, _)| *id);
    let (merges, report) = merges::read(merges, vocab);
    let decoders = CHARACTERS
        .iter()
        .map(|(token, text)| replace(&json!({"String": token}), text))
        .chain([json!({"type": "Fuse"})]);
    let parts = Parts {
        added,
        normalizer: normalizer(),
        pre_tokenizer: json!({
            "type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true
        }),
        post_processor: surrounded(special["<bos>"], special["<eos>"]),
        decoder: json!({"type": "Sequence", "decoders": decoders.collect::<Vec<_>>()}),
        unknown: Some("<unk>"),
        vocab,
        merges: &merges,
        config: json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "clean_up_tokenization_spaces": false,
            "chat_template": DEFAULT_CHAT_TEMPLATE,
        }),
    };
    Ok((build(parts)?, report))
}

/// Compatibility forms, one kind of line end, and names for addresses, tabs and roles.
fn normalizer() -> Value {
    let regex = |pattern: &str, text: &str| replace(&json!({"Regex": pattern}), text);
    let string = |pattern: &str, text: &str| replace(&json!({"String": pattern}), text);
    json!({"type": "Sequence", "normalizers": [
        {"type": "NFKC"},
        regex(r"\r\n?", "\n"),
        regex(URL, "<URL>"),
        regex(EMAIL, "<EMAIL>"),
        string("\t", "<|tab|>"),
        string("<|user|>", "<user>"),
        string("<|assistant|>", "<assistant>"),
        string("<|system|>", "<system>"),
    ]})
}

fn replace(pattern: &Value, text: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": text})
}

/// `<bos>` before every text and `<eos>` behind it, for programs that add special tokens.
fn surrounded(bos: u32, eos: u32) -> Value {
    let special = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let text = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
    let token = |name: &str, id: u32| json!({"id": name, "ids": [id], "tokens": [name]});
    json!({
        "type": "TemplateProcessing",
        "single": [special("<bos>"), text("A", 0), special("<eos>")],
        "pair": [special("<bos>"), text("A", 0), text("B", 1), special("<eos>")],
        "special_tokens": {"<bos>": token("<bos>", bos), "<eos>": token("<eos>", eos)},
    })
}
