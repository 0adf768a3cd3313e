//! A text of any length in pieces of a size that fits in memory.

use std::io::{BufRead, ErrorKind};
use std::path::{Path, PathBuf};

use crate::{Result, TextError};

/// Bytes after which a piece ends at the next line break.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes after which it ends even without one, between two characters.
const MAX_PIECE_BYTES: usize = 1 << 20;

/// The pieces of a text, which together are the file byte for byte but for byte-order marks before lines, which stay
/// where files were put together.
#[derive(Debug)]
pub(super) struct Pieces<R> {
    input: R,
    path: PathBuf,
    /// Bytes of the file before the buffer.
    before: u64,
    buffer: Vec<u8>,
    /// Whether the buffer begins where a line does.
    begins_line: bool,
    ended: bool,
}

impl<R: BufRead> Pieces<R> {
    pub(super) fn new(input: R, path: &Path) -> Self {
        Self {
            input,
            path: path.to_owned(),
            before: 0,
            buffer: Vec::new(),
            begins_line: true,
            ended: false,
        }
    }

    /// The next piece, or `None` at the end of the file.
    fn read(&mut self) -> Result<Option<String>> {
        self.fill()
            .map_err(|cause| TextError::io(&self.path, cause))?;
        let text = match std::str::from_utf8(&self.buffer) {
            Ok(text) => text,
            // A character that the end of the piece cuts belongs to the next one.
            Err(error) if error.error_len().is_none() && self.buffer.len() >= MAX_PIECE_BYTES => {
                std::str::from_utf8(&self.buffer[..error.valid_up_to()]).unwrap_or_default()
            }
            Err(error) => {
                return Err(TextError::NotText {
                    path: self.path.clone(),
                    byte: self.before + error.valid_up_to() as u64,
                });
            }
        };
        let length = text.len();
        let text = (length > 0).then(|| without_marks(text, self.begins_line));
        self.begins_line = self.buffer[..length].ends_with(b"\n");
        self.before += length as u64;
        self.buffer.drain(..length);
        Ok(text)
    }

    /// Reads until the buffer is a whole piece, or the file ends.
    fn fill(&mut self) -> std::io::Result<()> {
        while self.buffer.len() < MAX_PIECE_BYTES {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let room = MAX_PIECE_BYTES - self.buffer.len();
            let chunk = &chunk[..chunk.len().min(room)];
            // Line breaks count from here on in the chunk.
            let from = PIECE_BYTES.saturating_sub(self.buffer.len() + 1);
            let found = chunk.iter().skip(from).position(|&byte| byte == b'\n');
            let taken = found.map_or(chunk.len(), |at| from + at + 1);
            self.buffer.extend_from_slice(&chunk[..taken]);
            self.input.consume(taken);
            if found.is_some() || taken == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// A text without the byte-order marks before its lines.
fn without_marks(text: &str, begins_line: bool) -> String {
    const MARK: char = '\u{FEFF}';
    if !text.contains(MARK) {
        return text.to_owned();
    }
    let lines = text.split_inclusive('\n').enumerate();
    let line = |(at, line): (usize, &'_ str)| match at > 0 || begins_line {
        true => line.trim_start_matches(MARK).to_owned(),
        false => line.to_owned(),
    };
    lines.map(line).collect()
}

impl<R: BufRead> Iterator for Pieces<R> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let piece = self.read().transpose();
        self.ended = !matches!(piece, Some(Ok(_)));
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8]) -> Vec<Result<String, String>> {
        // A small odd buffer, so that line breaks and characters cross its end.
        let input = std::io::BufReader::with_capacity(977, bytes);
        Pieces::new(input, Path::new("a.txt"))
            .map(|piece| piece.map_err(|error| error.to_string()))
            .collect()
    }

    #[test]
    fn pieces_end_at_line_breaks_and_together_are_the_text() {
        let text = "\u{FEFF}".to_owned() + &"a line, 日本語\r\n".repeat(20_000);
        let found: Vec<String> = pieces(text.as_bytes())
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(found.concat(), text[3..]);
        assert!(found.iter().all(|piece| piece.ends_with("\r\n")));
        let sizes = found[..found.len() - 1].iter().map(String::len);
        assert!(
            sizes.clone().all(|size| (65_500..65_600).contains(&size)),
            "{found:?}"
        );
        assert!(found.len() > 5);
        assert_eq!(pieces(b""), []);
        assert_eq!(pieces(b"\xEF\xBB\xBF"), [Ok(String::new())]);
        assert_eq!(
            pieces("\u{FEFF}\u{FEFF}a\n\u{FEFF}b\u{FEFF}".as_bytes()),
            [Ok("a\nb\u{FEFF}".to_owned())]
        );
        assert_eq!(pieces(b"\n"), [Ok("\n".to_owned())]);
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        let text = "日".repeat(700_000);
        let found: Vec<String> = pieces(text.as_bytes())
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(found.concat(), text);
        assert!(
            found.len() == 3 && found[0].len() == 1_048_575,
            "{}",
            found.len()
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_named_by_their_place() {
        let mut bytes = "line\n".repeat(40_000).into_bytes();
        bytes[150_003] = 0xFF;
        let found = pieces(&bytes);
        let error = found.last().unwrap().clone().unwrap_err();
        assert!(
            error.starts_with("a.txt: not UTF-8 at byte 150003"),
            "{error}"
        );
        assert_eq!(found.len(), 3);
        let cut = pieces(b"ab\xE6\x97").pop().unwrap().unwrap_err();
        assert!(cut.contains("at byte 2;"), "{cut}");
    }
}
