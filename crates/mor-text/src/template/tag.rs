//! The tags of a template and what they are made of, as far as [`super::source`] must know.

use std::ops::Range;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Number,
    Text,
    Operator,
}

/// A token of a tag.
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
    /// How many brackets are open around it; a bracket stands outside itself.
    pub(super) depth: usize,
}

/// A tag, expression or comment.
pub(super) struct Tag {
    pub(super) start: usize,
    /// Where what ends it begins: an optional sign and the delimiter.
    pub(super) close: usize,
    pub(super) end: usize,
    pub(super) is_block: bool,
    pub(super) tokens: Vec<Token>,
}

impl Tag {
    /// The tag that opens at `start`, or nothing if it does not end.
    pub(super) fn read(source: &str, start: usize) -> Option<Self> {
        let bytes = source.as_bytes();
        let (is_block, delimiter) = match bytes[start + 1] {
            b'#' => {
                let end = start + 2 + source[start + 2..].find("#}")? + 2;
                return Some(Self {
                    start,
                    close: end,
                    end,
                    is_block: false,
                    tokens: Vec::new(),
                });
            }
            b'%' => (true, "%}"),
            _ => (false, "}}"),
        };
        let mut at = start + 2;
        if matches!(bytes.get(at), Some(b'-' | b'+')) {
            at += 1;
        }
        let mut tokens = Vec::new();
        let mut depth = 0_usize;
        loop {
            let rest = &source[at..];
            let first = rest.chars().next()?;
            if depth == 0 {
                let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest);
                if unsigned.starts_with(delimiter) {
                    let end = at + (rest.len() - unsigned.len()) + delimiter.len();
                    return Some(Self {
                        start,
                        close: at,
                        end,
                        is_block,
                        tokens,
                    });
                }
            }
            if first.is_whitespace() {
                at += first.len_utf8();
                continue;
            }
            if matches!(first, ')' | ']' | '}') {
                depth = depth.saturating_sub(1);
            }
            let (kind, len) = token(rest, first)?;
            tokens.push(Token {
                kind,
                range: at..at + len,
                depth,
            });
            if matches!(first, '(' | '[' | '{') {
                depth += 1;
            }
            at += len;
        }
    }

    pub(super) fn text<'a>(&self, source: &'a str, index: usize) -> &'a str {
        self.tokens
            .get(index)
            .map_or("", |token| &source[token.range.clone()])
    }

    pub(super) fn is_raw(&self, source: &str) -> bool {
        self.is_block && self.tokens.len() == 1 && self.text(source, 0) == "raw"
    }
}

/// Kind and length of the token at the start of `rest`, or nothing if a text does not end.
fn token(rest: &str, first: char) -> Option<(Kind, usize)> {
    let run = |counts: fn(char) -> bool| rest.find(|c| !counts(c)).unwrap_or(rest.len());
    Some(match first {
        '"' | '\'' => {
            let mut escaped = false;
            let end = rest.char_indices().skip(1).find(|&(_, c)| {
                let ends = c == first && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })?;
            (Kind::Text, end.0 + 1)
        }
        c if c.is_ascii_digit() => (
            Kind::Number,
            run(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.'),
        ),
        c if c.is_alphanumeric() || c == '_' => {
            (Kind::Word, run(|c| c.is_alphanumeric() || c == '_'))
        }
        _ => {
            const LONG: [&str; 6] = ["==", "!=", "<=", ">=", "**", "//"];
            let is_long = LONG.iter().any(|operator| rest.starts_with(operator));
            (Kind::Operator, if is_long { 2 } else { first.len_utf8() })
        }
    })
}

/// Where the next tag, expression or comment opens.
pub(super) fn next_tag(source: &str, from: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    (from..bytes.len().saturating_sub(1))
        .find(|&at| bytes[at] == b'{' && matches!(bytes[at + 1], b'{' | b'%' | b'#'))
}

/// Where the tag that ends raw text begins.
pub(super) fn end_of_raw(source: &str, from: usize) -> Option<usize> {
    source[from..]
        .match_indices("{%")
        .map(|(at, _)| from + at)
        .find(|&at| {
            let inside = source[at + 2..].trim_start_matches(['-', '+']).trim_start();
            inside.strip_prefix("endraw").is_some_and(|rest| {
                let rest = rest.trim_start();
                rest.trim_start_matches(['-', '+']).starts_with("%}")
            })
        })
}
