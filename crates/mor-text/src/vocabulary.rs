//! What the ids of a tokenizer stand for.

use std::collections::HashMap;

use serde_json::Value;

use crate::format::{Spelling, TokenizerFile, bad};
use crate::tokenizer::TOKENIZER_FILE;
use crate::{Result, bytes};

/// What an id stands for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Token {
    /// The bytes it adds to a text; for an added token, its name.
    pub(crate) bytes: Box<[u8]>,
    pub(crate) special: bool,
}

/// A token that only markup can name.
#[derive(Debug, Clone)]
pub(crate) struct AddedToken {
    pub(crate) name: String,
    pub(crate) id: u32,
    /// Left out of decoded text. Some vocabularies add ordinary text, such as runs of spaces, which is not.
    pub(crate) special: bool,
}

/// Every id of a tokenizer.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// Indexed by id.
    pub(crate) tokens: Vec<Token>,
    /// The longest name first, so that the first match is the longest.
    pub(crate) added: Vec<AddedToken>,
    pub(crate) letters: Letters,
}

/// Ids that spell any text, one by one, for when merges must not.
#[derive(Debug)]
pub(crate) enum Letters {
    /// Ids of the single bytes.
    Bytes(Box<[u32; 256]>),
    /// Ids of single characters, and of what stands for all others.
    Characters {
        ids: HashMap<char, u32>,
        unknown: u32,
    },
}

impl Vocabulary {
    /// Gathers the tokens of `file`; what `config` names as a special token is one.
    pub(crate) fn new(file: &TokenizerFile, config: &Value) -> Result<Self> {
        let added = added_tokens(file, config);
        let spelling = file.spelling()?;
        let tokens = token_table(file, &added, &spelling)?;
        let letters = Letters::new(file, &spelling)?;
        Ok(Self {
            tokens,
            added,
            letters,
        })
    }

    /// The id of an added token.
    pub(crate) fn added_id(&self, name: &str) -> Option<u32> {
        self.added
            .iter()
            .find(|token| token.name == name)
            .map(|token| token.id)
    }
}

impl Letters {
    fn new(file: &TokenizerFile, spelling: &Spelling) -> Result<Self> {
        let vocab = &file.model.vocab;
        if let Spelling::Characters(_) = spelling {
            let single = |name: &str| {
                let mut chars = name.chars();
                chars.next().filter(|_| chars.next().is_none())
            };
            let ids = vocab
                .iter()
                .filter_map(|(name, &id)| Some((single(name)?, id)));
            let unknown = file
                .model
                .unk_token
                .as_ref()
                .and_then(|name| vocab.get(name));
            return Ok(Self::Characters {
                ids: ids.collect(),
                unknown: unknown.copied().unwrap_or_default(),
            });
        }
        let mut ids = Box::new([0; 256]);
        for (byte, id) in (0..=255u8).zip(ids.iter_mut()) {
            let name = bytes::char_of(byte).to_string();
            *id = *vocab.get(&name).ok_or_else(|| {
                bad(
                    TOKENIZER_FILE,
                    format!("no token for byte {byte:#04x}; text with it would be lost"),
                )
            })?;
        }
        Ok(Self::Bytes(ids))
    }

    /// Appends the ids that spell `text`.
    pub(crate) fn spell(&self, text: &[u8], ids: &mut Vec<u32>) {
        match self {
            Self::Bytes(of_bytes) => {
                ids.extend(text.iter().map(|byte| of_bytes[usize::from(*byte)]))
            }
            Self::Characters {
                ids: of_chars,
                unknown,
            } => {
                let text = String::from_utf8_lossy(text);
                ids.extend(text.chars().map(|c| *of_chars.get(&c).unwrap_or(unknown)));
            }
        }
    }

    /// Whether `id` stands for characters that the vocabulary lacks.
    pub(crate) fn is_unknown(&self, id: u32) -> bool {
        matches!(self, Self::Characters { unknown, .. } if *unknown == id)
    }
}

/// The tokens that only markup can name: those the file adds, and those the configuration gives a role.
fn added_tokens(file: &TokenizerFile, config: &Value) -> Vec<AddedToken> {
    let mut added: Vec<AddedToken> = file
        .added_tokens
        .iter()
        .filter(|token| !token.content.is_empty())
        .map(|token| AddedToken {
            name: token.content.clone(),
            id: token.id,
            special: token.special,
        })
        .collect();
    for key in ["bos_token", "eos_token", "pad_token", "unk_token"] {
        let Some(name) = token_name(&config[key]).filter(|name| !name.is_empty()) else {
            continue;
        };
        if let Some(token) = added.iter_mut().find(|token| token.name == name) {
            token.special = true;
        } else if let Some(&id) = file.model.vocab.get(name) {
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
fn token_table(
    file: &TokenizerFile,
    added: &[AddedToken],
    spelling: &Spelling,
) -> Result<Vec<Token>> {
    let vocab = &file.model.vocab;
    let ids = vocab
        .values()
        .copied()
        .chain(added.iter().map(|token| token.id));
    let largest = ids.max().unwrap_or(0) as usize;
    let count = vocab.len() + added.len();
    // Ids come from the file: they must not make us allocate for every id up to 2^32.
    if largest >= 2 * count + 1024 {
        return Err(bad(
            TOKENIZER_FILE,
            format!("id {largest} is far beyond the {count} tokens there are"),
        ));
    }
    let mut names: Vec<Option<&str>> = vec![None; largest + 1];
    let entries = vocab.iter().map(|(name, &id)| (name.as_str(), id));
    for (name, id) in entries.chain(added.iter().map(|token| (token.name.as_str(), token.id))) {
        match names[id as usize].replace(name) {
            Some(other) if other != name => {
                return Err(bad(
                    TOKENIZER_FILE,
                    format!("id {id} is both {other:?} and {name:?}"),
                ));
            }
            _ => {}
        }
    }
    let mut tokens: Vec<Token> = names
        .into_iter()
        .map(|name| Token {
            bytes: match spelling {
                Spelling::Bytes => name.and_then(bytes::bytes_of).unwrap_or_default().into(),
                Spelling::Characters(_) => name.unwrap_or_default().as_bytes().into(),
            },
            special: false,
        })
        .collect();
    for token in added {
        tokens[token.id as usize] = Token {
            bytes: token.name.as_bytes().into(),
            special: token.special,
        };
    }
    if let Spelling::Characters(replaced) = spelling {
        for (name, text) in replaced {
            let token = tokens
                .iter_mut()
                .find(|token| *token.bytes == *name.as_bytes());
            if let Some(token) = token {
                token.bytes = text.as_bytes().into();
            }
        }
    }
    Ok(tokens)
}

/// A special token's name as Hugging Face writes it: a string, or an object with `content`.
pub(crate) fn token_name(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}
