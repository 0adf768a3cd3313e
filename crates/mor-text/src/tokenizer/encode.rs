//! From text to ids.

use std::ops::Range;

use tokenizers::normalizer::Range as Offsets;

use super::Tokenizer;
use crate::added::Part;
use crate::{Result, TextError};

/// Ids, and the bytes of the text that each stands for.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) ids: Vec<u32>,
    /// As many as ids, or none if nobody asked for them.
    pub(super) places: Vec<Range<usize>>,
    with_places: bool,
}

impl Encoded {
    pub(super) fn new(with_places: bool) -> Self {
        Self {
            with_places,
            ..Self::default()
        }
    }

    fn push(&mut self, id: u32, place: impl FnOnce() -> Range<usize>) {
        self.ids.push(id);
        if self.with_places {
            self.places.push(place());
        }
    }
}

impl Tokenizer {
    /// Appends the ids that the `tokenizers` crate gives for `text`. Special tokens count only where
    /// `may_be_special` accepts the bytes they take; elsewhere they are text.
    pub(super) fn encode_whole(
        &self,
        text: &str,
        may_be_special: &dyn Fn(Range<usize>) -> bool,
        encoded: &mut Encoded,
    ) -> Result<()> {
        for part in self.added.exact(text, may_be_special) {
            match part {
                Part::Token(id, range) => encoded.push(id, || range),
                Part::Text(range) => self.encode_part(text, range, may_be_special, encoded)?,
            }
        }
        Ok(())
    }

    /// Appends the ids of a part of `text`, in which no added token stands as it is.
    fn encode_part(
        &self,
        text: &str,
        part: Range<usize>,
        may_be_special: &dyn Fn(Range<usize>) -> bool,
        encoded: &mut Encoded,
    ) -> Result<()> {
        let start = part.start;
        if self.normalizers.is_empty() {
            let origin = |range: Range<usize>| start + range.start..start + range.end;
            let by_origin = |range: Range<usize>| may_be_special(origin(range));
            return self.encode_normalized(&text[part], &origin, &by_origin, encoded);
        }
        let normalized = self.normalizers.normalize(&text[part.clone()])?;
        let origin =
            |range: Range<usize>| match normalized.convert_offsets(Offsets::Normalized(range)) {
                Some(range) => start + range.start..start + range.end,
                None => part.clone(),
            };
        let by_origin = |range: Range<usize>| {
            let own = origin(range.clone());
            let name = &normalized.get()[range.clone()];
            if name.len() > 1 && text.get(own.clone()) == Some(name) {
                return may_be_special(own);
            }
            // What a normalizer puts in counts as from where the character before it is: what it took out instead
            // reaches to the next character that is from elsewhere.
            let rest = normalized.get().get(range.end..).unwrap_or_default();
            let behind = rest
                .char_indices()
                .map(|(at, c)| origin(range.end + at..range.end + at + c.len_utf8()).start)
                .find(|behind| *behind >= own.end);
            may_be_special(own.start..behind.unwrap_or(part.end))
        };
        self.encode_normalized(normalized.get(), &origin, &by_origin, encoded)
    }

    /// Appends the ids of normalized text; `origin` tells where its bytes come from. Unlike elsewhere, `may_be_special`
    /// is asked about these bytes.
    fn encode_normalized(
        &self,
        text: &str,
        origin: &dyn Fn(Range<usize>) -> Range<usize>,
        may_be_special: &dyn Fn(Range<usize>) -> bool,
        encoded: &mut Encoded,
    ) -> Result<()> {
        let parts = self.added.normalized(text, may_be_special);
        for part in parts {
            match part {
                Part::Token(id, range) => encoded.push(id, || origin(range)),
                Part::Text(range) => {
                    let start = range.start;
                    let origin = |from: usize, to: usize| origin(start + from..start + to);
                    self.encode_words(&text[range], &origin, encoded)?;
                }
            }
        }
        Ok(())
    }

    /// Appends the ids of normalized text without added tokens.
    fn encode_words(
        &self,
        text: &str,
        origin: &dyn Fn(usize, usize) -> Range<usize>,
        encoded: &mut Encoded,
    ) -> Result<()> {
        let words = if encoded.with_places {
            self.pipeline.encode(text, false)
        } else {
            self.pipeline.encode_fast(text, false)
        };
        let words = words.map_err(|error| TextError::Encode {
            reason: error.to_string(),
        })?;
        let letters = &self.vocabulary.letters;
        let mut spelled = Vec::new();
        for (index, &id) in words.get_ids().iter().enumerate() {
            let (from, to) = words.get_offsets().get(index).copied().unwrap_or_default();
            if self.is_special(id) && !letters.is_unknown(id) {
                // A foreign vocabulary may spell a special token with ordinary merges: spell it letter by
                // letter.
                letters.spell(self.token_bytes(id), &mut spelled);
                for id in spelled.drain(..) {
                    encoded.push(id, || origin(from, to));
                }
            } else {
                encoded.push(id, || origin(from, to));
            }
        }
        Ok(())
    }
}
