//! What is done to a template's text before minijinja reads it.
//!
//! - `{% generation %}`, which transformers adds to Jinja, becomes `{% with %}`: a bracket with a scope of its own.
//! - Whatever is bound to a name passes through [`CHECK`], which bounds what a template can build up: fuel counts
//!   instructions, and forty of these can double a string forty times.
//! - Operators that minijinja reads otherwise are rewritten first, by [`operators`].

use std::ops::Range;

use super::operators;
use super::tag::{Kind, Tag, end_of_raw, next_tag};

/// The filter and the function that look at each value a name is bound to.
pub(super) const CHECK: &str = "mor_checked";
/// Product of the numbers that one tag may multiply by.
const MAX_FACTOR: u64 = 100_000;

/// Most tokens in a tag, blocks in each other, brackets in each other, and `elif` in a row: minijinja reads and drops all
/// of these recursively.
const MAX_TOKENS: usize = 600;
const MAX_NESTING: usize = 32;
const MAX_BRANCHES: usize = 100;

/// A template that minijinja can read.
pub(super) struct Prepared {
    pub(super) source: String,
    /// Bytes of text outside tags: the most that one pass through a loop's body can write of it.
    pub(super) literals: usize,
}

/// Rewrites `source`. What is no valid template stays as it is, for minijinja to say so.
///
/// # Errors
/// A reason, when the template multiplies by what is not a number written out.
pub(super) fn prepare(source: &str) -> Result<Prepared, String> {
    let reserved = [
        CHECK,
        operators::REVERSED,
        operators::TUPLE,
        operators::TEXT,
    ];
    if let Some(name) = reserved.iter().find(|name| source.contains(**name)) {
        return Err(format!("the name `{name}` is reserved"));
    }
    let source = &operators::rewrite(source)?;
    let mut out = String::with_capacity(source.len() + source.len() / 4);
    let mut literals = 0;
    let mut at = 0;
    // Targets of `{% set x %}…{% endset %}` that are open.
    let mut captured: Vec<&str> = Vec::new();
    while let Some(open) = next_tag(source, at) {
        literals += open - at;
        out.push_str(&source[at..open]);
        let Some(tag) = Tag::read(source, open) else {
            at = open;
            break;
        };
        at = tag.end;
        tag.check_factors(source)?;
        tag.rewrite(source, &mut captured, &mut out);
        if tag.is_raw(source) {
            let end = end_of_raw(source, at).unwrap_or(source.len());
            literals += end - at;
            out.push_str(&source[at..end]);
            at = end;
        }
    }
    literals += source.len() - at;
    out.push_str(&source[at..]);
    Ok(Prepared {
        source: out,
        literals,
    })
}

impl Tag {
    /// Refuses what takes too much of the stack. `blocks` are those that are open.
    pub(super) fn check_size(&self, source: &str, blocks: &mut Vec<usize>) -> Result<(), String> {
        if self.tokens.len() > MAX_TOKENS {
            return Err(format!("a tag has more than {MAX_TOKENS} words and signs"));
        }
        let deepest = self.tokens.iter().map(|token| token.depth).max();
        let unknown = (0..self.tokens.len())
            .map(|index| self.text(source, index))
            .find(|text| matches!(*text, "varargs" | "kwargs"));
        if let Some(name) = unknown {
            return Err(format!("`{name}` of a macro is not known here"));
        }
        match self.text(source, 0) {
            _ if !self.is_block => {}
            "autoescape" => return Err("it marks text as HTML".to_owned()),
            "if" | "for" | "with" | "macro" | "call" | "filter" | "block" | "generation" => {
                blocks.push(0)
            }
            "set" if self.assignment(source).is_none() => blocks.push(0),
            "elif" => {
                if let Some(branches) = blocks.last_mut() {
                    *branches += 1;
                }
            }
            name if name.starts_with("end") => drop(blocks.pop()),
            _ => {}
        }
        if deepest.unwrap_or(0).max(blocks.len()) > MAX_NESTING {
            return Err(format!("it nests more than {MAX_NESTING} deep"));
        }
        if blocks
            .last()
            .is_some_and(|branches| *branches > MAX_BRANCHES)
        {
            return Err(format!("it has more than {MAX_BRANCHES} branches"));
        }
        Ok(())
    }

    /// Refuses products that could be of any length.
    fn check_factors(&self, source: &str) -> Result<(), String> {
        let number = |index: Option<usize>| {
            let token = index.and_then(|index| self.tokens.get(index))?;
            if token.kind != Kind::Number {
                return None;
            }
            let digits = source[token.range.clone()].replace('_', "");
            digits.parse::<f64>().ok().map(|number| number as u64)
        };
        let mut product = 1_u64;
        for index in 0..self.tokens.len() {
            let is_binary = index.checked_sub(1).is_some_and(|at| {
                matches!(self.tokens[at].kind, Kind::Word | Kind::Number | Kind::Text)
                    || matches!(self.text(source, at), ")" | "]" | "}")
            });
            if self.text(source, index) != "*" || !is_binary {
                continue;
            }
            let factors = [number(index.checked_sub(1)), number(Some(index + 1))];
            if factors == [None, None] {
                return Err("it multiplies; only by a number written out can it".to_owned());
            }
            let factor = factors
                .into_iter()
                .flatten()
                .fold(1, u64::saturating_mul)
                .max(1);
            product = product.saturating_mul(factor);
        }
        if product > MAX_FACTOR {
            return Err(format!(
                "it multiplies by {product}; at most by {MAX_FACTOR} is accepted"
            ));
        }
        Ok(())
    }

    /// Appends the tag, and the checks of what it binds.
    fn rewrite<'a>(&self, source: &'a str, captured: &mut Vec<&'a str>, out: &mut String) {
        let whole = &source[self.start..self.end];
        let name = self.text(source, 0);
        if !self.is_block {
            out.push_str(whole);
            return;
        }
        let names = match name {
            "generation" | "endgeneration" if self.tokens.len() == 1 => {
                let word = &self.tokens[0].range;
                out.push_str(&source[self.start..word.start]);
                out.push_str(if name == "generation" {
                    "with"
                } else {
                    "endwith"
                });
                out.push_str(&source[word.end..self.end]);
                return;
            }
            "set" => match self.assignment(source) {
                Some((target, value)) => {
                    let in_namespace = target.contains('.');
                    out.push_str(&source[self.start..value.start]);
                    out.push_str(&format!(
                        " ({})|{CHECK}({in_namespace}) ",
                        &source[value.clone()]
                    ));
                    out.push_str(&source[value.end..self.end]);
                    return;
                }
                None => {
                    let target = self.text(source, 1);
                    let bar = self
                        .tokens
                        .iter()
                        .position(|token| &source[token.range.clone()] == "|");
                    let last = bar.unwrap_or(self.tokens.len()).saturating_sub(1);
                    let whole_target = match (self.tokens.get(1), self.tokens.get(last)) {
                        (Some(first), Some(last)) if last.range.end > first.range.start => {
                            &source[first.range.start..last.range.end]
                        }
                        _ => target,
                    };
                    captured.push(whole_target);
                    out.push_str(whole);
                    return;
                }
            },
            "endset" => captured.pop().into_iter().collect(),
            "for" => self.words(source, |index| {
                (1..self.position(source, "in")).contains(&index)
            }),
            "with" => self.words(source, |index| {
                self.tokens[index].depth == 0 && self.text(source, index + 1) == "="
            }),
            "macro" | "call" => self.words(source, |index| {
                self.tokens[index].depth == 1
                    && matches!(self.text(source, index - 1), "(" | ",")
                    && index < self.position(source, ")")
                    && (name == "macro" || self.text(source, 1) == "(")
            }),
            _ => {
                out.push_str(whole);
                return;
            }
        };
        // The check takes over what the tag's end says about white space.
        out.push_str(&source[self.start..self.close]);
        out.push_str(" %}{% do ");
        out.push_str(&format!("{CHECK}([{}]) ", names.join(", ")));
        out.push_str(&source[self.close..self.end]);
    }

    /// The target of `{% set target = value %}`, and where the value stands.
    fn assignment<'a>(&self, source: &'a str) -> Option<(&'a str, Range<usize>)> {
        let equals = self
            .tokens
            .iter()
            .position(|token| token.depth == 0 && &source[token.range.clone()] == "=")?;
        let target = self.tokens.get(1)?.range.start..self.tokens[equals].range.start;
        let value = self.tokens[equals].range.end..self.close;
        (equals > 1 && equals + 1 < self.tokens.len()).then(|| (&source[target], value))
    }

    /// The first token that reads `text`, or the number of tokens.
    pub(super) fn position(&self, source: &str, text: &str) -> usize {
        (0..self.tokens.len())
            .find(|&index| self.text(source, index) == text)
            .unwrap_or(self.tokens.len())
    }

    /// The words behind the first one whose place `counts`.
    fn words<'a>(&self, source: &'a str, counts: impl Fn(usize) -> bool) -> Vec<&'a str> {
        (1..self.tokens.len())
            .filter(|&index| self.tokens[index].kind == Kind::Word && counts(index))
            .map(|index| self.text(source, index))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(source: &str) -> String {
        match prepare(source) {
            Ok(prepared) => prepared.source,
            Err(reason) => reason,
        }
    }

    #[test]
    fn generation_is_a_bracket_only_where_it_is_a_tag() {
        let kept = [
            "generation {{ '{% generation %}' }}{# {% generation %} #}",
            "{%- raw -%}{% generation %}{% endgeneration %}{%- endraw %}",
            "{{ {'a': {'b': \"%}\"}} }}{% if x == '}}' %}{% endif %}",
            "{{ unfinished",
            "{% if 'unfinished %}{% generation %}",
        ];
        for source in kept {
            assert_eq!(rewritten(source), source);
        }
        assert_eq!(
            rewritten(
                "{%- generation -%}a{%+ endgeneration +%}{% raw %}{% generation %}{% endraw %}{% generation %}"
            ),
            "{%- with -%}a{%+ endwith +%}{% raw %}{% generation %}{% endraw %}{% with %}"
        );
    }

    #[test]
    fn what_is_bound_to_a_name_is_checked() {
        for (source, expected) in [
            (
                "{%- set a = b + ')' -%}",
                "{%- set a = ( b + ')' )|mor_checked(false) -%}",
            ),
            (
                "{% set n.a = {'=': 1} %}",
                "{% set n.a = ( {'=': 1} )|mor_checked(true) %}",
            ),
            (
                "{% set a %}x{% endset -%}",
                "{% set a %}x{% endset  %}{% do mor_checked([a]) -%}",
            ),
            (
                "{% for k, v in d if k == v -%}",
                "{% for k, v in d if k == v  %}{% do mor_checked([k, v]) -%}",
            ),
            (
                "{% with a = 1, b = f(c=2) %}",
                "{% with a = 1, b = f(c=2)  %}{% do mor_checked([a, b]) %}",
            ),
            (
                "{% macro m(a, b=g(1, c)) %}",
                "{% macro m(a, b=g(1, c))  %}{% do mor_checked([a, b]) %}",
            ),
            (
                "{% call(a) m(b) %}",
                "{% call(a) m(b)  %}{% do mor_checked([a]) %}",
            ),
            (
                "{% call m(b) %}",
                "{% call m(b)  %}{% do mor_checked([]) %}",
            ),
        ] {
            assert_eq!(rewritten(source), expected);
        }
    }

    #[test]
    fn products_have_a_bound() {
        for (source, expected) in [
            ("{{ a * b }}", "multiplies; only"),
            ("{{ [0] * 100000 * 100000 }}", "multiplies by 10000000000"),
            ("{{ 1e15 * [0] }}", "multiplies by"),
        ] {
            assert!(rewritten(source).contains(expected), "{source}");
        }
        let kept = "{{ '-' * 40 }}{{ 2 ** loop.index }}{{ f(*a) }}{{ loop.index0 * 2 }}";
        assert_eq!(rewritten(kept), kept);
    }
}
