//! Operators and brackets that minijinja reads otherwise than Jinja.
//!
//! - `[::-1]` becomes a call of [`REVERSED`]: minijinja panics where nothing is sliced backwards.
//! - What `~` joins goes through the filter [`TEXT`]: minijinja's own text of a list or a number is not Python's.
//! - `(a, b)` becomes a call of [`TUPLE`]: it is a list to minijinja, and would be printed as one.

use std::ops::Range;

use super::tag::{Kind, Tag, Token, end_of_raw, next_tag};

/// The method that `[::-1]` becomes.
pub(super) const REVERSED: &str = "mor_reversed";
/// The function that makes a tuple of its arguments.
pub(super) const TUPLE: &str = "mor_tuple";
/// The filter that gives the text of what `~` joins.
pub(super) const TEXT: &str = "mor_text";

/// Words that an expression may stand behind, so that a bracket behind one is no call.
const KEYWORDS: [&str; 14] = [
    "and",
    "do",
    "elif",
    "else",
    "filter",
    "for",
    "if",
    "in",
    "is",
    "not",
    "or",
    "print",
    "recursive",
    "set",
];
/// Operators that bind less than `~`, or separate expressions.
const LOOSER: [&str; 12] = [
    "==", "!=", "<=", ">=", "<", ">", "+", "-", "~", ",", ":", "=",
];

/// Text that takes the place of a part of the source.
type Edit = (Range<usize>, String);

/// Rewrites the operators in `source`. What is no valid template stays as it is.
///
/// # Errors
/// A reason, when a slice may go backwards in other ways, or a tag is too large.
pub(super) fn rewrite(source: &str) -> Result<String, String> {
    let mut out = String::with_capacity(source.len());
    let mut copied = 0;
    let mut at = 0;
    let mut blocks = Vec::new();
    while let Some(tag) = next_tag(source, at).and_then(|open| Tag::read(source, open)) {
        at = tag.end;
        tag.check_size(source, &mut blocks)?;
        let mut edits = Vec::new();
        tag.backward_slices(source, &mut edits)?;
        tag.joined(source, &mut edits);
        tag.tuples(source, &mut edits);
        // Where several begin at one place, those found first are the outer ones.
        edits.sort_by_key(|(range, _)| (range.start, range.end));
        for (range, text) in edits {
            out.push_str(&source[copied..range.start]);
            out.push_str(&text);
            copied = range.end;
        }
        if tag.is_raw(source) {
            at = end_of_raw(source, at).unwrap_or(source.len());
        }
    }
    out.push_str(&source[copied..]);
    Ok(out)
}

impl Tag {
    /// Calls a method where `[::-1]` stands.
    ///
    /// # Errors
    /// A reason, when another slice may go backwards.
    fn backward_slices(&self, source: &str, edits: &mut Vec<Edit>) -> Result<(), String> {
        for (open, bracket) in self.tokens.iter().enumerate() {
            // Behind an operator it is a list, and no valid one.
            if self.text(source, open) != "[" || !self.is_behind_value(source, open) {
                continue;
            }
            let inside = |token: &Token| token.depth > bracket.depth;
            let length = self.tokens[open + 1..]
                .iter()
                .take_while(|it| inside(it))
                .count();
            let inside = open + 1..open + 1 + length;
            let mut colons = inside.clone().filter(|&index| {
                self.tokens[index].depth == bracket.depth + 1 && self.text(source, index) == ":"
            });
            let (Some(first), Some(second)) = (colons.next(), colons.next()) else {
                continue;
            };
            let step = &self.tokens[second + 1..inside.end];
            let is_plain = first == open + 1 && second == first + 1;
            match step {
                [] => {}
                [step] if step.kind == Kind::Number => {}
                [minus, one]
                    if is_plain
                        && &source[minus.range.clone()] == "-"
                        && &source[one.range.clone()] == "1"
                        && inside.end < self.tokens.len() =>
                {
                    let whole = bracket.range.start..self.tokens[inside.end].range.end;
                    edits.push((whole, format!(".{REVERSED}()")));
                }
                _ => {
                    return Err(
                        "the step of a slice must be a number written out; of those below 0 only [::-1] is known"
                            .to_owned(),
                    );
                }
            }
        }
        Ok(())
    }

    /// Gives the text of all that `~` joins.
    fn joined(&self, source: &str, edits: &mut Vec<Edit>) {
        for (index, tilde) in self.tokens.iter().enumerate() {
            if self.text(source, index) != "~" {
                continue;
            }
            let ends = |&at: &usize| self.ends_operand(source, at, tilde.depth);
            let before = (0..index).rev().find(ends).map_or(0, |at| at + 1);
            let after = (index + 1..self.tokens.len()).find(ends);
            let after = after.unwrap_or(self.tokens.len());
            // The one before belongs to the `~` in front of it, if there is one.
            let is_first = before == 0 || self.text(source, before - 1) != "~";
            for operand in [before..index, index + 1..after] {
                if operand.is_empty() || (operand.end == index && !is_first) {
                    continue;
                }
                let start = self.tokens[operand.start].range.start;
                let end = self.tokens[operand.end - 1].range.end;
                edits.push((start..start, "(".to_owned()));
                edits.push((end..end, format!(")|{TEXT}")));
            }
        }
    }

    /// Whether what `~` joins at `depth` ends at the token `at`.
    fn ends_operand(&self, source: &str, at: usize, depth: usize) -> bool {
        let token = &self.tokens[at];
        let text = self.text(source, at);
        if token.depth > depth {
            return false;
        }
        let is_bracket = matches!(text, "(" | "[" | "{" | ")" | "]" | "}");
        if token.depth < depth {
            return is_bracket;
        }
        match token.kind {
            Kind::Word => {
                matches!(text, "and" | "or" | "not" | "in" | "if" | "else")
                    && !self.is_name(source, at)
                    || (self.is_block && at == 0)
            }
            // A sign in front of a number belongs to it.
            Kind::Operator => {
                LOOSER.contains(&text)
                    && (!matches!(text, "+" | "-") || self.is_behind_value(source, at))
            }
            Kind::Number | Kind::Text => false,
        }
    }

    /// Whether the word `at` is an attribute, a filter or a test.
    fn is_name(&self, source: &str, at: usize) -> bool {
        let before = |back: usize| at.checked_sub(back).map_or("", |at| self.text(source, at));
        matches!(before(1), "." | "|" | "is") || (before(1) == "not" && before(2) == "is")
    }

    /// Whether a value ends just before the token `at`.
    fn is_behind_value(&self, source: &str, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else {
            return false;
        };
        let text = self.text(source, before);
        match self.tokens[before].kind {
            Kind::Number | Kind::Text => true,
            Kind::Word => self.is_name(source, before) || !KEYWORDS.contains(&text),
            Kind::Operator => matches!(text, ")" | "]" | "}"),
        }
    }

    /// Makes calls of tuples.
    fn tuples(&self, source: &str, edits: &mut Vec<Edit>) {
        // Targets in brackets are no values.
        let values = match self.text(source, 0) {
            "for" if self.is_block => self.position(source, "in"),
            "set" if self.is_block => self.position(source, "="),
            _ => 0,
        };
        for (open, bracket) in self.tokens.iter().enumerate().skip(values) {
            if self.text(source, open) != "(" || self.is_behind_value(source, open) {
                continue;
            }
            let mut inside = self.tokens[open + 1..]
                .iter()
                .take_while(|token| token.depth > bracket.depth)
                .peekable();
            let is_empty = inside.peek().is_none();
            let is_comma = |token: &Token| {
                token.depth == bracket.depth + 1 && &source[token.range.clone()] == ","
            };
            if is_empty || inside.any(is_comma) {
                edits.push((bracket.range.start..bracket.range.start, TUPLE.to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(source: &str) -> String {
        rewrite(source).unwrap_or_else(|reason| reason)
    }

    #[test]
    fn slices_backwards_are_calls() {
        assert_eq!(
            rewritten("{{ a[::-1][0] + b[1::2][f(c)[ : : - 1 ]:] + '[::-1]' }}[::-1]"),
            "{{ a.mor_reversed()[0] + b[1::2][f(c).mor_reversed():] + '[::-1]' }}[::-1]"
        );
        for source in [
            "{{ a[1::-1] }}",
            "{{ a[::-2] }}",
            "{{ a[::b] }}",
            "{{ [a[::-b]] }}",
        ] {
            assert!(
                rewritten(source).contains("the step of a slice"),
                "{source}"
            );
        }
    }

    #[test]
    fn what_is_joined_becomes_text() {
        for (source, expected) in [
            ("{{ a ~ b }}", "{{ (a)|mor_text ~ (b)|mor_text }}"),
            (
                "{{ a + -b|f ~ c[1:] ~ 'x' if d else e }}",
                "{{ a + (-b|f)|mor_text ~ (c[1:])|mor_text ~ ('x')|mor_text if d else e }}",
            ),
            (
                "{% set x = f(a ~ 1, b=2 ~ c) %}{% if not a is in b ~ c and d %}{% endif %}",
                "{% set x = f((a)|mor_text ~ (1)|mor_text, b=(2)|mor_text ~ (c)|mor_text) %}{% if not (a is in b)|mor_text ~ (c)|mor_text and d %}{% endif %}",
            ),
            (
                "{{ {'a': b ~ c.if} }}",
                "{{ {'a': (b)|mor_text ~ (c.if)|mor_text} }}",
            ),
            (
                "{{ (a ~ b) ~ (c, d) }}",
                "{{ (((a)|mor_text ~ (b)|mor_text))|mor_text ~ (mor_tuple(c, d))|mor_text }}",
            ),
            (
                "{% raw %}{{ a ~ b }}{% endraw %}",
                "{% raw %}{{ a ~ b }}{% endraw %}",
            ),
            ("{{ '~' }}{# a ~ b #}", "{{ '~' }}{# a ~ b #}"),
            // No value to slice.
            ("{{ -1 ~[::-1] }}", "{{ (-1)|mor_text ~([::-1])|mor_text }}"),
        ] {
            assert_eq!(rewritten(source), expected, "{source}");
        }
    }

    #[test]
    fn tuples_are_calls() {
        for (source, expected) in [
            ("{{ a in ('b', c) }}", "{{ a in mor_tuple('b', c) }}"),
            (
                "{{ a.b(('c', 'd'), e) }}",
                "{{ a.b(mor_tuple('c', 'd'), e) }}",
            ),
            (
                "{{ () }}{{ f() }}{{ (a) }}",
                "{{ mor_tuple() }}{{ f() }}{{ (a) }}",
            ),
            (
                "{% for (a, b) in [(1, 2)] %}{% set (c, d) = (1, f(2, 3)) %}{% endfor %}",
                "{% for (a, b) in [mor_tuple(1, 2)] %}{% set (c, d) = mor_tuple(1, f(2, 3)) %}{% endfor %}",
            ),
            (
                "{{ (f(a, b)) }}{{ ([a, b]) }}",
                "{{ (f(a, b)) }}{{ ([a, b]) }}",
            ),
        ] {
            assert_eq!(rewritten(source), expected, "{source}");
        }
    }
}
