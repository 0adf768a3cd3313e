//! How much of a data file's conversations the context leaves, for a person to know.

use super::{Overlong, Reading};
use crate::recipe::Learn;

/// What the context and the choice of tokens leave of a data file's documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// Documents of which something is left.
    pub left: u64,
    /// Of these, conversations that lost their end to the context.
    pub cut: u64,
    /// Of these, conversations that are read in several parts, since they are longer than the context.
    pub split: u64,
    /// Tokens that those which are cut lose.
    pub tokens_lost: u64,
    /// Conversations that are left out, since the context ends before the first token to learn.
    pub beyond: u64,
    /// Conversations that are left out, since nothing in them is to be learned.
    pub unlearned: u64,
}

impl Fit {
    /// Of one document of so many `tokens`, whose sequences have `used` inputs in all; `learns` says whether any of its
    /// tokens is to be learned.
    pub(super) fn of_document(
        reading: Reading,
        tokens: usize,
        is_text: bool,
        used: usize,
        learns: impl Fn() -> bool,
    ) -> Self {
        let targets = tokens.saturating_sub(1);
        let long = u64::from(!is_text && targets > reading.context);
        let truncates = reading.overlong == Overlong::Truncate;
        if used > 0 {
            let [cut, split] = if truncates { [long, 0] } else { [0, long] };
            return Self {
                left: 1,
                cut,
                split,
                tokens_lost: cut * targets.saturating_sub(used) as u64,
                ..Self::default()
            };
        }
        let beyond = long == 1 && learns();
        Self {
            beyond: u64::from(beyond),
            unlearned: u64::from(!beyond && !is_text),
            ..Self::default()
        }
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            left: self.left + other.left,
            cut: self.cut + other.cut,
            split: self.split + other.split,
            tokens_lost: self.tokens_lost + other.tokens_lost,
            beyond: self.beyond + other.beyond,
            unlearned: self.unlearned + other.unlearned,
        }
    }

    /// What a person who trains with it is told, a line each; nothing where all is used.
    pub(super) fn notes(self, reading: Reading) -> Vec<String> {
        let mut notes = Vec::new();
        if self.beyond > 0 {
            notes.push(self.beyond_context(reading) + "; left out");
        }
        if self.unlearned > 0 {
            let [some, ..] = words(self.unlearned);
            notes.push(format!("{some} with nothing to learn; left out"));
        }
        if self.cut > 0 {
            let [some, are, their] = words(self.cut);
            notes.push(format!(
                "{some} {are} longer than the context of {} tokens and {} {their} end: {} tokens are not used; \
                 train.overlong = \"split\" uses them",
                reading.context,
                if self.cut == 1 { "loses" } else { "lose" },
                self.tokens_lost,
            ));
        }
        notes
    }

    /// Why nothing can be learned.
    pub(super) fn nothing_left(self, reading: Reading) -> String {
        if self.beyond > 0 {
            return format!(
                "nothing to learn from: {}; raise train.context, or set train.overlong = \"split\"",
                self.beyond_context(reading)
            );
        }
        match reading.learn {
            Learn::Assistant if self.unlearned > 0 => {
                "nothing to learn from: no conversation has an answer that is to be learned"
            }
            _ => "has no text to learn from",
        }
        .to_owned()
    }

    fn beyond_context(self, reading: Reading) -> String {
        let [some, are, their] = words(self.beyond);
        format!(
            "{some} {are} longer than the context of {} tokens; nothing of {their} answers is left",
            reading.context
        )
    }
}

/// So many conversations, with the verb and the pronoun that go with them.
fn words(count: u64) -> [String; 3] {
    match count {
        1 => ["1 conversation", "is", "its"].map(str::to_owned),
        _ => [
            format!("{count} conversations"),
            "are".to_owned(),
            "their".to_owned(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: Reading = Reading {
        context: 4,
        overlong: Overlong::Truncate,
        learn: Learn::Assistant,
        weights: false,
        limit: None,
    };

    #[test]
    fn counts_what_is_cut_beyond_the_context_and_without_an_answer() {
        let fits = Fit::of_document(READING, 5, false, 4, || true);
        assert_eq!((fits.left, fits.cut, fits.tokens_lost), (1, 0, 0));
        let cut = Fit::of_document(READING, 9, false, 4, || true);
        assert_eq!((cut.left, cut.cut, cut.tokens_lost), (1, 1, 4));
        let beyond = Fit::of_document(READING, 9, false, 0, || true);
        assert_eq!((beyond.left, beyond.beyond, beyond.unlearned), (0, 1, 0));
        let unlearned = Fit::of_document(READING, 9, false, 0, || false);
        assert_eq!((unlearned.beyond, unlearned.unlearned), (0, 1));
        let text = Fit::of_document(READING, 9, true, 8, || true);
        assert_eq!((text.left, text.cut, text.tokens_lost), (1, 0, 0));

        let all = [fits, cut, beyond, unlearned];
        let all = all.into_iter().fold(Fit::default(), Fit::and);
        let notes = all.notes(READING);
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(
            notes[0].starts_with("1 conversation is longer than the context of 4 tokens"),
            "{notes:?}"
        );
        assert!(fits.notes(READING).is_empty());
    }

    #[test]
    fn conversations_in_parts_lose_nothing() {
        let split = Reading {
            overlong: Overlong::Split,
            ..READING
        };
        let fit = Fit::of_document(split, 9, false, 8, || true);
        assert_eq!((fit.split, fit.cut, fit.tokens_lost), (1, 0, 0));
    }
}
