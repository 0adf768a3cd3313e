//! Tokenizers of other programs.

mod gpt2;
mod merges;
mod ranks;
mod technical;
mod write;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::format::without_mark;
use crate::tokenizer::TOKENIZER_FILE;
use crate::{Result, TextError, Tokenizer, bytes};

/// Largest file read: vocabularies have a few megabytes.
const MAX_FILE: u64 = 256 << 20;

/// What was left out of a tokenizer: line numbers of its merges, counted from 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Lines that are not two symbols.
    pub malformed_merges: Vec<usize>,
    /// Lines of which a symbol, or what the two make, is not in the vocabulary.
    pub unknown_merges: Vec<usize>,
}

/// Reads a tokenizer's folder, whatever program made it:
///
/// - `tokenizer.json` and `tokenizer_config.json`, and `chat_template.jinja`, as [`Tokenizer::from_dir`];
/// - the technical original's `vocab.json`, `merges.txt` and `tokenizer_config.json` with its `special_tokens`;
/// - GPT-2's `vocab.json` and `merges.txt`, also called `encoder.json` and `vocab.bpe`, or the ranks
///   `r50k_base.tiktoken`. It gets the conversational card's tokens `<|user|>`, `<|assistant|>` and `<|pad|>` behind the
///   last id, and its chat template.
///
/// # Errors
/// [`TextError::Io`], [`TextError::Import`] when the folder is of no such kind or a file is malformed, or what
/// [`Tokenizer::from_bytes`] reports.
pub fn import_tokenizer(dir: &Path) -> Result<(Tokenizer, ImportReport)> {
    let has = |name: &str| dir.join(name).is_file();
    if has(TOKENIZER_FILE) {
        return Ok((Tokenizer::from_dir(dir)?, ImportReport::default()));
    }
    for (vocab, merges) in [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")] {
        if !(has(vocab) && has(merges)) {
            continue;
        }
        let (vocab_path, merges_path) = (dir.join(vocab), dir.join(merges));
        let vocab: HashMap<String, u32> = serde_json::from_slice(&read(&vocab_path)?)
            .map_err(|error| import(&vocab_path, format!("not a vocabulary: {error}")))?;
        let merges = String::from_utf8(read(&merges_path)?)
            .map_err(|_| import(&merges_path, "not UTF-8 text"))?;
        if merges::is_empty(&merges) {
            return Err(import(
                &merges_path,
                "has no merges in it, so that words would fall into letters; copy it again from where the tokenizer \
                 came from",
            ));
        }
        let is_byte_level =
            (0..=255).all(|byte| vocab.contains_key(&bytes::char_of(byte).to_string()));
        return if is_byte_level {
            gpt2::import(vocab, &merges)
        } else {
            technical::import(dir, &vocab, &merges)
        };
    }
    if let Some(path) = ranks_file(dir)? {
        let (vocab, merges) = ranks::read(&path, &read(&path)?)?;
        return gpt2::build(vocab, merges, ImportReport::default());
    }
    Err(import(
        dir,
        "no tokenizer in it: expected tokenizer.json, or vocab.json and merges.txt, or encoder.json and vocab.bpe, \
         or r50k_base.tiktoken",
    ))
}

/// The folder's only `.tiktoken` file.
fn ranks_file(dir: &Path) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|error| TextError::io(dir, error))?;
    let mut found = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "tiktoken")
        });
    Ok(found.next().filter(|_| found.next().is_none()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let len = std::fs::metadata(path)
        .map_err(|error| TextError::io(path, error))?
        .len();
    if len > MAX_FILE {
        return Err(import(
            path,
            format!("{len} bytes; at most {MAX_FILE} are read"),
        ));
    }
    let bytes = std::fs::read(path).map_err(|error| TextError::io(path, error))?;
    Ok(match without_mark(&bytes).len() {
        len if len < bytes.len() => bytes[bytes.len() - len..].to_vec(),
        _ => bytes,
    })
}

fn import(path: &Path, reason: impl Into<String>) -> TextError {
    TextError::Import {
        path: path.to_owned(),
        reason: reason.into(),
    }
}
