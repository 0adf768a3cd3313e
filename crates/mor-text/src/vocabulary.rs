//! What the ids of a tokenizer stand for.

use std::collections::HashMap;

use serde_json::Value;

use crate::added::{AddedToken, token_name};
use crate::format::{Spelling, TokenizerFile, bad};
use crate::tokenizer::{CONFIG_FILE, TOKENIZER_FILE};
use crate::{Result, bytes};

/// What an id stands for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Token {
    /// The bytes it adds to a text; for an added token, its name.
    pub(crate) bytes: Box<[u8]>,
    pub(crate) special: bool,
}

/// Every id of a tokenizer.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// Indexed by id.
    pub(crate) tokens: Vec<Token>,
    /// The longest name first.
    pub(crate) added: Vec<AddedToken>,
    /// Those of them that `tokenizer_config.json` adds or changes.
    #[cfg_attr(
        not(feature = "fs"),
        expect(dead_code, reason = "only a fingerprint needs it")
    )]
    of_config: Vec<AddedToken>,
    /// How many of these have no id in any file: they got the next ones, as in transformers.
    pub(crate) numbered: usize,
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
        let own = added_tokens(file, &Value::Null)?.0;
        let (added, numbered) = added_tokens(file, config)?;
        let mut of_config = added.clone();
        of_config.retain(|token| !own.contains(token));
        let spelling = file.spelling()?;
        let tokens = token_table(file, &added, &spelling)?;
        let letters = Letters::new(file, &spelling)?;
        Ok(Self {
            tokens,
            added,
            of_config,
            numbered,
            letters,
        })
    }

    /// The tokens that `tokenizer_config.json` adds or changes.
    #[cfg(feature = "fs")]
    pub(crate) fn of_config(&self) -> &[AddedToken] {
        &self.of_config
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

/// Where `tokenizer_config.json` names special tokens, in the order in which transformers numbers them.
pub(crate) const SPECIAL_KEYS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
/// Where it names more of them: a list, or in `extra_special_tokens` also an object.
pub(crate) const MORE_KEYS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];
/// Most tokens that get an id here.
const MAX_NUMBERED: usize = 1024;

/// The added tokens, and how many of them have no id in any file.
fn added_tokens(file: &TokenizerFile, config: &Value) -> Result<(Vec<AddedToken>, usize)> {
    let mut added: Vec<AddedToken> = file
        .added_tokens
        .iter()
        .filter(|token| !token.content.is_empty())
        .map(|token| AddedToken {
            name: token.content.clone(),
            id: token.id,
            special: token.special,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            single_word: token.single_word,
            normalized: token.normalized.unwrap_or(!token.special),
        })
        .collect();
    let vocab = &file.model.vocab;
    if let Some(decoder) = config["added_tokens_decoder"].as_object() {
        for (id, value) in decoder {
            let token = id.parse().ok();
            let Some(token) = token.and_then(|id| AddedToken::from_config(value, id)) else {
                return Err(bad(
                    CONFIG_FILE,
                    format!("`added_tokens_decoder` has no token with a name under {id:?}"),
                ));
            };
            // What this file says of a token counts, but for its id.
            match added.iter_mut().find(|other| other.name == token.name) {
                Some(other) => {
                    *other = AddedToken {
                        id: other.id,
                        ..token
                    }
                }
                None => added.push(AddedToken {
                    id: vocab.get(&token.name).copied().unwrap_or(token.id),
                    ..token
                }),
            }
        }
    }
    let mut numbered = 0;
    let ids = vocab.values().copied();
    let mut next = ids
        .chain(added.iter().map(|token| token.id))
        .max()
        .unwrap_or(0);
    for value in named_specials(config) {
        let Some(name) = token_name(value).filter(|name| !name.is_empty()) else {
            continue;
        };
        if let Some(token) = added.iter_mut().find(|token| token.name == name) {
            token.special = true;
            continue;
        }
        let known = vocab.get(name).copied();
        let id = match known {
            Some(id) => id,
            None if numbered == MAX_NUMBERED => {
                return Err(bad(
                    CONFIG_FILE,
                    format!("names more than {MAX_NUMBERED} tokens that no vocabulary has"),
                ));
            }
            None => {
                numbered += 1;
                next = next.saturating_add(1);
                next
            }
        };
        added.extend(AddedToken::from_config(value, id).map(|token| AddedToken {
            special: true,
            ..token
        }));
    }
    added.sort_by(|a, b| {
        b.name
            .len()
            .cmp(&a.name.len())
            .then_with(|| a.name.cmp(&b.name))
    });
    Ok((added, numbered))
}

/// The special tokens that `config` names.
pub(crate) fn named_specials(config: &Value) -> impl Iterator<Item = &Value> {
    let more = MORE_KEYS.iter().flat_map(|key| {
        let list = config[*key].as_array().into_iter().flatten();
        let object = config[*key].as_object().into_iter().flatten();
        list.chain(object.map(|(_, value)| value))
    });
    SPECIAL_KEYS.iter().map(|key| &config[*key]).chain(more)
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
