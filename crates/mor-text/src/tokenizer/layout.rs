//! Who wrote which part of a rendered conversation: the template, or a message.
//!
//! A template gets the real contents and may do with them what it likes, so its output does not tell. It is rendered
//! again, with every character of the contents replaced by one that no special token has. Where both outputs have
//! the same length, a character that differs is a message's, and a special token is one only where both have it.
//!
//! Outputs of different lengths come from a template that looks into contents. Then only the special tokens that
//! contents spell are replaced; the outputs must have the same length now, and special tokens count where both have
//! them. What else could make one out of contents (joining, replacing, changing case) is ruled out by the first
//! rendering: both must have the same special tokens in the same order. If not, the conversation is refused.

use std::ops::Range;

use super::Tokenizer;
use super::encode::Encoded;
use crate::template::{ChatTemplate, Setting, error, is_space};
use crate::{Message, Result};

/// Who wrote a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    Template,
    /// A message that is not the model's.
    Other,
    Assistant,
}

/// A rendered conversation.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) encoded: Encoded,
    /// Of each byte of the text. Where a template looks into contents, and nobody asked who wrote what, only what must
    /// not become a special token is a message's.
    pub(super) writers: Vec<Writer>,
    /// Where answers without text stand, ascending.
    pub(super) empty_answers: Vec<usize>,
}

/// Characters that stand for those of contents: in none of the texts at hand.
struct Marks {
    /// For a letter, of an assistant's message and of others.
    letters: [char; 2],
    /// For white space, if there are enough kinds.
    spaces: Option<[char; 2]>,
    /// For an answer without text.
    empty: char,
}

/// How contents are replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Replaced {
    /// White space as well, by other white space.
    spaces: bool,
    /// Answers without text as well.
    empty: bool,
}

/// A conversation and how it is rendered.
pub(super) struct Rendering<'a> {
    pub(super) template: &'a ChatTemplate,
    pub(super) messages: &'a [Message],
    pub(super) setting: &'a Setting<'a>,
    /// Whether it matters who wrote what beyond special tokens.
    pub(super) with_writers: bool,
}

impl Tokenizer {
    /// Renders and encodes a conversation.
    pub(super) fn lay_out(&self, rendering: &Rendering<'_>) -> Result<Layout> {
        let contents = rendering.messages.iter().map(|it| it.content.as_str());
        let text = rendering.render(contents)?;
        let marks = Marks::absent_from(&text)?;
        let mut last = Ok(String::new());
        for replaced in rendering.attempts(&marks) {
            last = rendering.render_replaced(&marks, replaced);
            if let Ok(other) = &last
                && let Some((writers, empty_answers)) = marks.align(&text, other)
            {
                let encoded = self.encode_written(&text, &writers, rendering.with_writers)?;
                return Ok(Layout {
                    encoded,
                    writers,
                    empty_answers,
                });
            }
        }
        self.lay_out_by_contents(rendering, &marks, &text, &last?)
    }

    /// As [`Tokenizer::lay_out`], where the template looks into contents: `other` is what it makes of neutral ones.
    fn lay_out_by_contents(
        &self,
        rendering: &Rendering<'_>,
        marks: &Marks,
        text: &str,
        other: &str,
    ) -> Result<Layout> {
        let changes = || {
            error(
                "what these messages say changes the special tokens around them, so it cannot be told which of \
                 these are the template's"
                    .to_owned(),
            )
        };
        let mut writers = vec![Writer::Template; text.len()];
        let contents: Vec<_> = rendering
            .messages
            .iter()
            .map(|message| self.without_specials(message, marks))
            .collect();
        if contents.iter().any(Option::is_some) {
            let contents = contents.iter().zip(rendering.messages);
            let contents = contents.map(|(it, message)| it.as_deref().unwrap_or(&message.content));
            let plain = rendering.render(contents)?;
            (writers, _) = marks.align(text, &plain).ok_or_else(changes)?;
        }
        let encoded = self.encode_written(text, &writers, true)?;
        let other_writers = marks.writers(other);
        let other_encoded = self.encode_written(other, &other_writers, true)?;
        let specials = self.specials(&encoded);
        let other_specials = self.specials(&other_encoded);
        let ids = |specials: &[(u32, Range<usize>)]| -> Vec<u32> {
            specials.iter().map(|(id, _)| *id).collect()
        };
        if ids(&specials) != ids(&other_specials) {
            return Err(changes());
        }
        if rendering.with_writers {
            let text_gaps = gaps(&specials, text.len());
            let other_gaps = gaps(&other_specials, other.len());
            for (gap, other_gap) in text_gaps.into_iter().zip(other_gaps) {
                let (part, other_part) = (&text[gap.clone()], &other[other_gap.clone()]);
                if let Some((range, writer)) =
                    content_between(part, other_part, &other_writers[other_gap])?
                {
                    writers[gap.start + range.start..gap.start + range.end].fill(writer);
                }
            }
        }
        Ok(Layout {
            encoded,
            writers,
            empty_answers: Vec::new(),
        })
    }

    /// Encodes `text`, in which special tokens that a message wrote are text.
    fn encode_written(&self, text: &str, writers: &[Writer], with_places: bool) -> Result<Encoded> {
        let by_template = |range: Range<usize>| {
            writers[range]
                .iter()
                .all(|writer| *writer == Writer::Template)
        };
        let mut encoded = Encoded::new(with_places);
        self.encode_whole(text, &by_template, &mut encoded)?;
        Ok(encoded)
    }

    /// The content of `message` with its special tokens replaced, if there are any.
    fn without_specials(&self, message: &Message, marks: &Marks) -> Option<String> {
        let content = &message.content;
        let mark = marks.letters[usize::from(message.is_learned())];
        let names = || self.vocabulary.added.iter().filter(|token| token.special);
        let mut replaced = String::new();
        let mut rest = content.as_str();
        while let Some(first) = rest.chars().next() {
            // The longest name comes first.
            match names().find(|token| rest.starts_with(token.name.as_str())) {
                Some(token) => {
                    replaced.extend(token.name.chars().map(|_| mark));
                    rest = &rest[token.name.len()..];
                }
                None => {
                    replaced.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        (replaced != *content).then_some(replaced)
    }

    /// The special tokens among ids, with their places.
    fn specials(&self, encoded: &Encoded) -> Vec<(u32, Range<usize>)> {
        let ids = encoded.ids.iter().copied();
        ids.zip(encoded.places.iter().cloned())
            .filter(|(id, _)| self.is_special(*id) && !self.vocabulary.letters.is_unknown(*id))
            .collect()
    }
}

impl Rendering<'_> {
    fn render<'a>(&self, contents: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let roles = self.messages.iter().map(|message| message.role);
        self.template.render(roles.zip(contents), self.setting)
    }

    fn render_replaced(&self, marks: &Marks, replaced: Replaced) -> Result<String> {
        let contents: Vec<String> = self
            .messages
            .iter()
            .map(|message| marks.replace(message, replaced))
            .collect();
        self.render(contents.iter().map(String::as_str))
    }

    /// What to replace, the most telling first. White space and answers without text only matter to who asks for
    /// writers, and templates are likelier to look at them.
    fn attempts(&self, marks: &Marks) -> Vec<Replaced> {
        let has_empty = self
            .messages
            .iter()
            .any(|it| it.is_learned() && it.content.is_empty());
        let mut attempts = Vec::new();
        for spaces in [true, false] {
            for empty in [true, false] {
                let is_of_use = (!spaces || (self.with_writers && marks.spaces.is_some()))
                    && (!empty || (self.with_writers && has_empty));
                if is_of_use {
                    attempts.push(Replaced { spaces, empty });
                }
            }
        }
        attempts
    }
}

impl Marks {
    fn absent_from(text: &str) -> Result<Self> {
        let absent =
            |range: std::ops::RangeInclusive<char>| range.filter(|mark| !text.contains(*mark));
        let mut letters = absent('\u{E000}'..='\u{F8FF}');
        let (Some(other), Some(assistant), Some(empty)) =
            (letters.next(), letters.next(), letters.next())
        else {
            return Err(error(
                "the messages hold every private-use character".to_owned(),
            ));
        };
        let mut spaces = absent('\u{2000}'..='\u{200A}');
        Ok(Self {
            letters: [other, assistant],
            spaces: spaces.next().zip(spaces.next()).map(|(a, b)| [a, b]),
            empty,
        })
    }

    fn replace(&self, message: &Message, replaced: Replaced) -> String {
        let is_answer = message.is_learned();
        if replaced.empty && is_answer && message.content.is_empty() {
            return self.empty.to_string();
        }
        let of = |pair: [char; 2]| pair[usize::from(is_answer)];
        let spaces = self.spaces.filter(|_| replaced.spaces);
        let replace = |c: char| match spaces {
            Some(spaces) if is_space(c) => of(spaces),
            None if is_space(c) => c,
            _ => of(self.letters),
        };
        message.content.chars().map(replace).collect()
    }

    /// Who wrote a character of a text with replaced contents.
    fn writer(&self, c: char) -> Writer {
        let is = |index: usize| {
            c == self.letters[index] || self.spaces.is_some_and(|spaces| c == spaces[index])
        };
        match (is(0), is(1)) {
            (true, _) => Writer::Other,
            (_, true) => Writer::Assistant,
            _ => Writer::Template,
        }
    }

    /// Who wrote the bytes of a text with replaced contents.
    fn writers(&self, text: &str) -> Vec<Writer> {
        text.chars()
            .flat_map(|c| std::iter::repeat_n(self.writer(c), c.len_utf8()))
            .collect()
    }

    /// Who wrote the bytes of `text`, and where answers without text stand, if `other` is the same text with
    /// replaced contents.
    fn align(&self, text: &str, other: &str) -> Option<(Vec<Writer>, Vec<usize>)> {
        let mut writers: Vec<Writer> = Vec::with_capacity(text.len());
        let mut empty = Vec::new();
        let mut chars = text.chars();
        // White space since the last letter of a content.
        let mut gap: Option<(usize, Writer)> = None;
        for mark in other.chars() {
            if mark == self.empty {
                empty.push(writers.len());
                continue;
            }
            let c = chars.next()?;
            let writer = self.writer(mark);
            if writer == Writer::Template && c != mark {
                return None;
            }
            let at = writers.len();
            writers.extend(std::iter::repeat_n(writer, c.len_utf8()));
            match (writer, gap) {
                (Writer::Template, _) if is_space(c) => {}
                (Writer::Template, _) => gap = None,
                (writer, Some((from, before))) => {
                    if writer == before {
                        writers[from..at].fill(writer);
                    }
                    gap = Some((writers.len(), writer));
                }
                (writer, None) => gap = Some((writers.len(), writer)),
            }
        }
        chars.next().is_none().then_some((writers, empty))
    }
}

/// What lies between special tokens, before the first and behind the last.
fn gaps(specials: &[(u32, Range<usize>)], len: usize) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(specials.iter().map(|(_, place)| place.end));
    let ends = specials.iter().map(|(_, place)| place.start).chain([len]);
    starts
        .zip(ends)
        .map(|(start, end)| start.min(end)..end)
        .collect()
}

/// Which bytes of `text` a message wrote, going by what surrounds the content in `other`, the same text with replaced
/// contents.
fn content_between(
    text: &str,
    other: &str,
    writers: &[Writer],
) -> Result<Option<(Range<usize>, Writer)>> {
    let is_content = |writer: &Writer| *writer != Writer::Template;
    let (Some(first), Some(last)) = (
        writers.iter().position(is_content),
        writers.iter().rposition(is_content),
    ) else {
        return Ok(None);
    };
    let writer = writers[first];
    if !writers.contains(&Writer::Assistant) {
        return Ok(Some((0..text.len(), writer)));
    }
    let (before, after) = (&other[..first], &other[last + 1..]);
    let content = before.len()..text.len().saturating_sub(after.len());
    if writers.contains(&Writer::Other)
        || content.start > content.end
        || !text.starts_with(before)
        || !text.ends_with(after)
    {
        return Err(error(
            "it looks into these messages, so it cannot be told which text is an answer to learn"
                .to_owned(),
        ));
    }
    Ok(Some((content, writer)))
}
