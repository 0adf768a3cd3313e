//! What is typed or piped into a conversation, line by line: no line can end it.

use std::io::{self, BufRead};

/// Longest line that is kept, in bytes: far more than any context holds, and little memory.
const LONGEST: usize = 1 << 20;

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its text. Bytes that are not UTF-8, as a terminal of another encoding sends them, have become U+FFFD.
    pub(super) text: String,
    /// Why it is not what was typed, for a person.
    pub(super) damage: Option<Damage>,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    /// Bytes that are not UTF-8, each run of them read as U+FFFD.
    NotUtf8,
    /// More bytes than a line may have; the rest was passed over.
    TooLong,
}

/// The next line; `None` at the end of the input.
///
/// # Errors
/// The system's, when the input cannot be read.
pub(super) fn next(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let (mut bytes, mut too_long) = (Vec::new(), false);
    loop {
        let part = match input.fill_buf() {
            Ok(part) => part,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if part.is_empty() {
            if bytes.is_empty() && !too_long {
                return Ok(None);
            }
            break;
        }
        let end = part.iter().position(|byte| *byte == b'\n');
        let text = &part[..end.unwrap_or(part.len())];
        let room = LONGEST - bytes.len();
        too_long |= text.len() > room;
        bytes.extend_from_slice(&text[..text.len().min(room)]);
        let used = text.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let damage = match (too_long, &text) {
        (true, _) => Some(Damage::TooLong),
        (false, std::borrow::Cow::Owned(_)) => Some(Damage::NotUtf8),
        (false, std::borrow::Cow::Borrowed(_)) => None,
    };
    let text = text.trim_end_matches('\r').to_owned();
    Ok(Some(Line { text, damage }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines of `input`, read in small portions.
    fn lines(input: &[u8]) -> Vec<Line> {
        let mut reader = io::BufReader::with_capacity(3, input);
        std::iter::from_fn(|| next(&mut reader).expect("memory")).collect()
    }

    fn whole(text: &str) -> Line {
        Line {
            text: text.to_owned(),
            damage: None,
        }
    }

    #[test]
    fn lines_end_as_on_any_system_and_the_last_needs_no_end() {
        let expected = ["naïve 語", "", "nul \0 inside", "last"].map(whole);
        assert_eq!(
            lines("naïve 語\r\n\nnul \0 inside\nlast".as_bytes()),
            expected
        );
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn bytes_that_are_not_utf8_spoil_their_own_characters_only() {
        let lines = lines(b"caf\xe9?\nnext\n\xff");
        let damage = Some(Damage::NotUtf8);
        let bad = |text: &str| Line {
            text: text.to_owned(),
            damage,
        };
        assert_eq!(lines, [bad("caf\u{fffd}?"), whole("next"), bad("\u{fffd}")]);
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_a_long_one() {
        let mut input = vec![b'a'; LONGEST + 5];
        input.extend_from_slice(b"\nnext\n");
        let mut reader = io::BufReader::new(input.as_slice());
        let long = next(&mut reader).expect("memory").expect("a line");
        assert_eq!(
            (long.text.len(), long.damage),
            (LONGEST, Some(Damage::TooLong))
        );
        assert_eq!(next(&mut reader).expect("memory"), Some(whole("next")));
        // To the byte, nothing is left out.
        let mut reader = io::BufReader::new(&input[5..]);
        let long = next(&mut reader).expect("memory").expect("a line");
        assert_eq!((long.text.len(), long.damage), (LONGEST, None));
    }
}
