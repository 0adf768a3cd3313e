//! Lines of a file of unknown quality: byte-order mark, CRLF, bytes that are not UTF-8, lines without end.

use std::io::{BufRead, ErrorKind};
use std::path::{Path, PathBuf};

use crate::{Result, TextError};

/// Longest line accepted, in bytes. A longer one is reported as malformed and skipped, so that a file without
/// line breaks cannot fill the memory.
pub const MAX_LINE_BYTES: usize = 16 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Without the byte-order marks at the beginning.
pub(super) fn without_marks(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(BYTE_ORDER_MARK) {
        bytes = rest;
    }
    bytes
}

/// The lines of `input`, without their ends and the byte-order marks before them, numbered from 1.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    path: PathBuf,
    number: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, path: &Path) -> Self {
        Self {
            input,
            path: path.to_owned(),
            number: 0,
            bytes: 0,
            buffer: Vec::new(),
        }
    }

    /// The number of the line returned last.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes read so far, line ends included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A malformed-line error about the line returned last.
    pub(super) fn malformed(&self, reason: impl Into<String>) -> TextError {
        TextError::Malformed {
            path: self.path.clone(),
            line: self.number,
            reason: reason.into(),
        }
    }

    /// The next line, or `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<&str>> {
        let Some(start) = self.advance()? else {
            return Ok(None);
        };
        match std::str::from_utf8(&self.buffer[start..]) {
            Ok(line) => Ok(Some(line)),
            Err(error) => Err(TextError::Malformed {
                path: self.path.clone(),
                line: self.number,
                reason: format!("not UTF-8 at byte {}", start + error.valid_up_to() + 1),
            }),
        }
    }

    /// As [`Lines::next`], of a line that need not be UTF-8.
    pub(super) fn next_bytes(&mut self) -> Result<Option<&[u8]>> {
        let start = self.advance()?;
        Ok(start.map(|start| &self.buffer[start..]))
    }

    /// Reads a line into the buffer, without its end, and returns where it begins there.
    fn advance(&mut self) -> Result<Option<usize>> {
        let Some(too_long) = self
            .fill()
            .map_err(|error| TextError::io(&self.path, error))?
        else {
            return Ok(None);
        };
        if too_long {
            return Err(self.malformed(format!("longer than {MAX_LINE_BYTES} bytes")));
        }
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
        }
        if self.buffer.last() == Some(&b'\r') {
            self.buffer.pop();
        }
        // Not only in the first line: files that begin with one may have been put together.
        let start = self.buffer.len() - without_marks(&self.buffer).len();
        Ok(Some(start))
    }

    /// Reads one line with its end into the buffer: `Some(too_long)`, or `None` at the end of the file.
    fn fill(&mut self) -> std::io::Result<Option<bool>> {
        self.buffer.clear();
        let (mut any, mut too_long) = (false, false);
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                break;
            }
            if !any {
                any = true;
                self.number += 1;
            }
            let end = chunk
                .iter()
                .position(|&byte| byte == b'\n')
                .map(|at| at + 1);
            let taken = end.unwrap_or(chunk.len());
            too_long |= self.buffer.len() + taken > MAX_LINE_BYTES;
            if too_long {
                self.buffer.clear();
            } else {
                self.buffer.extend_from_slice(&chunk[..taken]);
            }
            self.input.consume(taken);
            self.bytes += taken as u64;
            if end.is_some() {
                break;
            }
        }
        Ok(any.then_some(too_long))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every line of `bytes`: its text, or the error about it.
    fn lines(bytes: &[u8]) -> Vec<Result<String, String>> {
        // A tiny buffer, so that lines cross its end.
        let input = std::io::BufReader::with_capacity(7, bytes);
        let mut lines = Lines::new(input, Path::new("file.txt"));
        let mut all = Vec::new();
        while let Some(line) = lines
            .next()
            .map(|line| line.map(str::to_owned))
            .map_err(|e| e.to_string())
            .transpose()
        {
            all.push(line);
        }
        assert_eq!(lines.bytes(), bytes.len() as u64);
        all
    }

    #[test]
    fn ends_marks_and_bad_bytes() {
        let text = |text: &str| Ok(text.to_owned());
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"\n"), [text("")]);
        assert_eq!(
            lines(b"\xEF\xBB\xBFfirst line\r\nsecond\n\nlast"),
            ["first line", "second", "", "last"].map(text)
        );
        assert_eq!(
            lines("\u{FEFF}\u{FEFF}a\n\u{FEFF}b\nc\u{FEFF}d".as_bytes()),
            ["a", "b", "c\u{FEFF}d"].map(text)
        );
        assert_eq!(
            lines(b"a\nb\xFFc\nd"),
            [
                text("a"),
                Err("file.txt:2: not UTF-8 at byte 2".to_owned()),
                text("d")
            ]
        );
    }

    #[test]
    fn an_endless_line_is_skipped_in_bounded_memory() {
        let long = std::io::Read::take(std::io::repeat(b'x'), MAX_LINE_BYTES as u64 + 1);
        let input = std::io::Read::chain(std::io::BufReader::new(long), &b"\nnext\n"[..]);
        let mut lines = Lines::new(std::io::BufReader::new(input), Path::new("file.txt"));
        assert!(
            lines
                .next()
                .unwrap_err()
                .to_string()
                .contains("longer than")
        );
        assert_eq!(lines.next().unwrap(), Some("next"));
        assert!(lines.buffer.capacity() <= 2 * MAX_LINE_BYTES);
    }
}
