//! Added tokens in text: found as the `tokenizers` crate finds them, but for those that the text may not hold.

use std::ops::Range;
use std::sync::LazyLock;

use daachorse::{DoubleArrayAhoCorasick, DoubleArrayAhoCorasickBuilder, MatchKind};
use regex::Regex;
use serde_json::Value;

use crate::Result;
use crate::format::unusable;
use crate::normalize::Normalizers;

/// A token beside those that merges make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddedToken {
    pub(crate) name: String,
    pub(crate) id: u32,
    /// Left out of decoded text, and only written by a template. Some vocabularies add ordinary text, such as runs of
    /// spaces, which is not.
    pub(crate) special: bool,
    /// Takes the white space to its left with it.
    pub(crate) lstrip: bool,
    /// Takes the white space to its right with it.
    pub(crate) rstrip: bool,
    /// Not inside a word.
    pub(crate) single_word: bool,
    /// Looked for in normalized text.
    pub(crate) normalized: bool,
}

impl AddedToken {
    /// A special token without flags.
    pub(crate) fn special(name: &str, id: u32) -> Self {
        Self {
            name: name.to_owned(),
            id,
            special: true,
            lstrip: false,
            rstrip: false,
            single_word: false,
            normalized: false,
        }
    }

    /// The token that `value` describes: its name, or an object as `tokenizer_config.json` has them. What is not said is
    /// as in a special token.
    pub(crate) fn from_config(value: &Value, id: u32) -> Option<Self> {
        let name = token_name(value).filter(|name| !name.is_empty())?;
        let flag = |key: &str, default| value[key].as_bool().unwrap_or(default);
        Some(Self {
            special: flag("special", true),
            lstrip: flag("lstrip", false),
            rstrip: flag("rstrip", false),
            single_word: flag("single_word", false),
            normalized: flag("normalized", false),
            ..Self::special(name, id)
        })
    }
}

/// A token's name as Hugging Face writes it: a string, or an object with `content`.
pub(crate) fn token_name(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// Finds added tokens: first those that text holds as it is, then those it holds when it is normalized.
#[derive(Debug)]
pub(crate) struct AddedTokens {
    tokens: Vec<AddedToken>,
    exact: Finder,
    normalized: Finder,
}

/// Finds the leftmost name, and of these the longest. Nothing where there are no names.
struct Finder(Option<DoubleArrayAhoCorasick<u32>>);

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text without added tokens.
    Text(Range<usize>),
    /// The token with this id.
    Token(u32, Range<usize>),
}

impl AddedTokens {
    pub(crate) fn new(tokens: &[AddedToken], normalizers: &Normalizers) -> Result<Self> {
        let mut exact = Vec::new();
        let mut normalized = Vec::new();
        for (index, token) in (0..).zip(tokens) {
            if token.normalized {
                normalized.push((normalizers.apply(&token.name)?.into_owned(), index));
            } else {
                exact.push((token.name.clone(), index));
            }
        }
        Ok(Self {
            tokens: tokens.to_vec(),
            exact: Finder::new(exact)?,
            normalized: Finder::new(normalized)?,
        })
    }

    /// Cuts `text` at the tokens it holds as it is; special ones only where `may_be_special` says so.
    pub(crate) fn exact(
        &self,
        text: &str,
        may_be_special: impl Fn(Range<usize>) -> bool,
    ) -> Vec<Part> {
        self.cut(&self.exact, text, may_be_special)
    }

    /// Cuts normalized text at the other tokens.
    pub(crate) fn normalized(
        &self,
        text: &str,
        may_be_special: impl Fn(Range<usize>) -> bool,
    ) -> Vec<Part> {
        self.cut(&self.normalized, text, may_be_special)
    }

    fn cut(
        &self,
        finder: &Finder,
        text: &str,
        may_be_special: impl Fn(Range<usize>) -> bool,
    ) -> Vec<Part> {
        let mut parts = Vec::new();
        // Where what has not been cut off yet begins.
        let mut open = 0;
        for (index, Range { mut start, mut end }) in finder.find(text) {
            let token = &self.tokens[index];
            if token.special && !may_be_special(start..end) {
                continue;
            }
            let is_word = |c: Option<char>| c.is_some_and(is_word);
            if token.single_word
                && (is_word(text[..start].chars().next_back())
                    || is_word(text[end..].chars().next()))
            {
                continue;
            }
            if token.lstrip {
                start = text[..start].trim_end().len().max(open);
            }
            if token.rstrip {
                end += text[end..].len() - text[end..].trim_start().len();
            }
            if open < start {
                parts.push(Part::Text(open..start));
            }
            parts.push(Part::Token(token.id, start..end));
            open = end;
        }
        if open < text.len() {
            parts.push(Part::Text(open..text.len()));
        }
        parts
    }
}

impl std::fmt::Debug for Finder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finder").finish_non_exhaustive()
    }
}

impl Finder {
    fn new(mut names: Vec<(String, u32)>) -> Result<Self> {
        names.retain(|(name, _)| !name.is_empty());
        names.sort();
        names.dedup_by(|a, b| a.0 == b.0);
        if names.is_empty() {
            return Ok(Self(None));
        }
        DoubleArrayAhoCorasickBuilder::new()
            .match_kind(MatchKind::LeftmostLongest)
            .build_with_values(names)
            .map(|automaton| Self(Some(automaton)))
            .map_err(|error| unusable(format!("its added tokens: {error}")))
    }

    /// Indices of tokens, and where they stand.
    fn find<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, Range<usize>)> + 'a {
        let found = self.0.as_ref().map(|names| names.leftmost_find_iter(text));
        let found = found.into_iter().flatten();
        found.map(|found| (found.value() as usize, found.start()..found.end()))
    }
}

/// Whether a token of single words may not stand beside `c`.
fn is_word(c: char) -> bool {
    static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\w").ok());
    match WORD.as_ref() {
        Some(word) => word.is_match(c.encode_utf8(&mut [0; 4])),
        None => c.is_alphanumeric() || c == '_',
    }
}
