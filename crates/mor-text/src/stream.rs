//! Whole characters out of tokens that arrive one at a time.

use std::ops::Deref;

use crate::Tokenizer;

/// Turns tokens into text as they come. A token may end inside a character; its bytes wait here for the rest.
///
/// The concatenation of everything returned equals [`Tokenizer::decode`] of all tokens.
///
/// ```
/// use std::path::Path;
///
/// use mor_text::{TokenStream, Tokenizer};
///
/// let tokenizer = Tokenizer::from_dir(Path::new("../../tests/data/tokenizer"))?;
/// let mut stream = TokenStream::new(&tokenizer);
/// let mut text = String::new();
/// // An emoji is four bytes, which may come as four tokens.
/// for id in tokenizer.encode("fine 🙂")? {
///     text.extend(stream.push(id));
/// }
/// text.extend(stream.finish());
/// assert_eq!(text, "fine 🙂");
/// # Ok::<(), mor_text::TextError>(())
/// ```
#[derive(Debug)]
pub struct TokenStream<T> {
    tokenizer: T,
    pending: Vec<u8>,
}

impl<T: Deref<Target = Tokenizer>> TokenStream<T> {
    /// A stream with nothing pending. `tokenizer` is any pointer to one, such as `&Tokenizer` or `Arc<Tokenizer>`.
    pub fn new(tokenizer: T) -> Self {
        Self {
            tokenizer,
            pending: Vec::new(),
        }
    }

    /// Takes one token and returns the characters that are complete now, if any. Bytes that cannot be UTF-8
    /// become U+FFFD; special tokens and unknown ids give nothing.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if !self.tokenizer.is_special(id) {
            self.pending
                .extend_from_slice(self.tokenizer.token_bytes(id));
        }
        drain_complete(&mut self.pending)
    }

    /// Ends the stream: an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

/// Removes from `pending` everything but an incomplete last character, and returns it as text.
pub(crate) fn drain_complete(pending: &mut Vec<u8>) -> Option<String> {
    let mut text = String::new();
    let mut start = 0;
    let keep_from = loop {
        match std::str::from_utf8(&pending[start..]) {
            Ok(valid) => {
                text.push_str(valid);
                break pending.len();
            }
            Err(error) => {
                let end = start + error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&pending[start..end]));
                match error.error_len() {
                    Some(invalid) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        start = end + invalid;
                    }
                    None => break end,
                }
            }
        }
    };
    pending.drain(..keep_from);
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::drain_complete;

    #[test]
    fn characters_come_whole() {
        let text = "naïve 語 🙂";
        for size in 1..5 {
            let (mut pending, mut out) = (Vec::new(), String::new());
            for part in text.as_bytes().chunks(size) {
                pending.extend_from_slice(part);
                out += &drain_complete(&mut pending).unwrap_or_default();
            }
            assert_eq!((out.as_str(), pending.len()), (text, 0));
        }
        let mut damaged = vec![b'a', 0xff, 0xe8, 0xaa];
        assert_eq!(drain_complete(&mut damaged).unwrap(), "a\u{fffd}");
        assert_eq!(damaged, [0xe8, 0xaa]);
        assert_eq!(drain_complete(&mut damaged), None);
        damaged.push(b'b');
        assert_eq!(drain_complete(&mut damaged).unwrap(), "\u{fffd}b");
    }
}
