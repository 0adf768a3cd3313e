//! The JSON values of an array, or one after another, of a file of unknown quality, each in bounded memory.

use std::io::{BufRead, ErrorKind};
use std::path::{Path, PathBuf};

use crate::data::lines::MAX_LINE_BYTES;
use crate::{Result, TextError};

/// Brackets that may be open at once: what `serde_json` accepts.
const MAX_DEPTH: usize = 128;

/// The elements of `input`, whose brackets may lie on any lines. A comma before a closing bracket, which JSON
/// forbids and people write, is left out.
///
/// An element whose brackets or strings do not match is malformed. The next one then is the first on a line
/// of its own that is indented like the first element of all.
#[derive(Debug)]
pub(super) struct Elements<R> {
    input: R,
    path: PathBuf,
    /// Line breaks read so far.
    breaks: u64,
    /// Bytes of the line before the next one that are white space, until another comes.
    indent: Option<usize>,
    /// The indentation of elements on lines of their own.
    element_indent: Option<usize>,
    /// The line on which the element returned last began.
    number: u64,
    bytes: u64,
    /// Whether the bracket around all elements was seen.
    opened: bool,
    broken: bool,
    buffer: Vec<u8>,
}

/// How an element ended.
enum End {
    Whole,
    TooLong,
    Broken(&'static str),
}

impl<R: BufRead> Elements<R> {
    pub(super) fn new(input: R, path: &Path) -> Self {
        Self {
            input,
            path: path.to_owned(),
            breaks: 0,
            indent: Some(0),
            element_indent: None,
            number: 0,
            bytes: 0,
            opened: false,
            broken: false,
            buffer: Vec::new(),
        }
    }

    /// The line, counted from 1, on which the element returned last began.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A malformed-row error about the element returned last, `below` lines after its first.
    pub(super) fn malformed(&self, below: u64, reason: impl Into<String>) -> TextError {
        TextError::Malformed {
            path: self.path.clone(),
            line: self.number + below,
            reason: reason.into(),
        }
    }

    /// The next element, or `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<&str>> {
        let end = self
            .read()
            .map_err(|cause| TextError::io(&self.path, cause))?;
        match end {
            None => return Ok(None),
            Some(End::Whole) => {}
            Some(End::TooLong) => {
                return Err(self.malformed(0, format!("longer than {MAX_LINE_BYTES} bytes")));
            }
            Some(End::Broken(reason)) => {
                let below = self.breaks + 1 - self.number;
                return Err(self.malformed(below, reason));
            }
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.malformed(0, "not UTF-8")),
        }
    }

    fn read(&mut self) -> std::io::Result<Option<End>> {
        self.buffer.clear();
        let first = loop {
            let Some(byte) = self.peek()? else {
                return Ok(None);
            };
            let resumes =
                byte == b'{' && self.indent.is_some() && self.indent == self.element_indent;
            self.broken &= !resumes;
            if byte == b']' && !self.broken {
                // Another array may follow, where files were put together.
                self.opened = false;
            }
            let skipped = self.broken
                || byte.is_ascii_whitespace()
                || matches!(byte, b',' | b']')
                || (byte == b'[' && !std::mem::replace(&mut self.opened, true))
                // A byte-order mark: no JSON value begins with any of its bytes.
                || matches!(byte, 0xEF | 0xBB | 0xBF);
            if !skipped {
                break byte;
            }
            self.take(byte);
        };
        self.number = self.breaks + 1;
        if first == b'{' && self.element_indent.is_none() {
            self.element_indent = self.indent;
        }
        let end = self.element()?;
        self.broken = matches!(end, End::Broken(_));
        Ok(Some(end))
    }

    /// Reads an element into the buffer.
    fn element(&mut self) -> std::io::Result<End> {
        let mut open: Vec<u8> = Vec::new();
        let (mut in_string, mut escaped, mut too_long) = (false, false, false);
        // The last byte outside of strings that is not white space.
        let mut before = 0;
        loop {
            let Some(byte) = self.peek()? else {
                return Ok(if open.is_empty() && !in_string {
                    End::Whole
                } else {
                    End::Broken("the file ends within this row")
                });
            };
            let mut ends = false;
            if in_string {
                match byte {
                    // Not taken yet, so that the error names this line.
                    b'\n' => return Ok(End::Broken("a string is not closed")),
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => {
                        in_string = false;
                        ends = open.is_empty();
                    }
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => in_string = true,
                    b'{' | b'[' => {
                        if open.last() == Some(&b'{') && before != b':' {
                            return Ok(End::Broken("expected a key, or the end of this row"));
                        }
                        if open.len() == MAX_DEPTH {
                            return Ok(End::Broken("too many brackets within one another"));
                        }
                        open.push(byte);
                    }
                    b'}' | b']' => {
                        match open.pop() {
                            None if self.buffer.is_empty() => {
                                self.take(byte);
                                return Ok(End::Broken("a bracket closes that none opened"));
                            }
                            // The end of the array after a number or a word.
                            None => return Ok(End::Whole),
                            Some(bracket) if bracket + 2 != byte => {
                                return Ok(End::Broken("brackets do not match"));
                            }
                            Some(_) => ends = open.is_empty(),
                        }
                        if before == b',' {
                            self.drop_comma();
                        }
                    }
                    b',' if open.is_empty() => return Ok(End::Whole),
                    _ if open.is_empty() && byte.is_ascii_whitespace() => return Ok(End::Whole),
                    _ => {}
                }
                if !byte.is_ascii_whitespace() {
                    before = byte;
                }
            }
            too_long |= self.buffer.len() == MAX_LINE_BYTES;
            if too_long {
                self.buffer.clear();
            } else {
                self.buffer.push(byte);
            }
            self.take(byte);
            if ends {
                return Ok(if too_long { End::TooLong } else { End::Whole });
            }
        }
    }

    /// Removes a comma at the buffer's end.
    fn drop_comma(&mut self) {
        let length = self.buffer.trim_ascii_end().len();
        if self.buffer[..length].ends_with(b",") {
            self.buffer.remove(length - 1);
        }
    }

    /// The next byte.
    fn peek(&mut self) -> std::io::Result<Option<u8>> {
        loop {
            match self.input.fill_buf() {
                Ok(chunk) => return Ok(chunk.first().copied()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes past the byte that was peeked at.
    fn take(&mut self, byte: u8) {
        self.input.consume(1);
        self.bytes += 1;
        if byte == b'\n' {
            self.breaks += 1;
            self.indent = Some(0);
        } else if !byte.is_ascii_whitespace() {
            self.indent = None;
        } else if let Some(indent) = &mut self.indent {
            *indent += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every element: its line and text, or the error about it.
    fn elements(text: &[u8]) -> Vec<Result<(u64, String), String>> {
        let input = std::io::BufReader::with_capacity(7, text);
        let mut elements = Elements::new(input, Path::new("a.json"));
        let mut all = Vec::new();
        loop {
            match elements.next().map(|it| it.map(str::to_owned)) {
                Ok(None) => break,
                Ok(Some(text)) => all.push(Ok((elements.number(), text))),
                Err(error) => all.push(Err(error.to_string())),
            }
            assert!(all.len() < 1000, "does not end");
        }
        assert_eq!(elements.bytes(), text.len() as u64);
        all
    }

    fn good(text: &str) -> Vec<(u64, String)> {
        elements(text.as_bytes())
            .into_iter()
            .map(Result::unwrap)
            .collect()
    }

    #[test]
    fn arrays_objects_and_trailing_commas() {
        let one = |line, text: &str| (line, text.to_owned());
        assert_eq!(good(""), []);
        assert_eq!(good("\u{FEFF}[]"), []);
        assert_eq!(
            good("\u{FEFF}\u{FEFF}[{},\u{FEFF}{\"a\":1}]\n\u{FEFF}[[2]]"),
            [one(1, "{}"), one(1, "{\"a\":1}"), one(2, "[2]")]
        );
        assert_eq!(good("[{}]"), [one(1, "{}")]);
        assert_eq!(
            good("\u{FEFF}[\r\n  {\"a\": \"]}\\\"\"},\r\n  {\"b\": [1, 2 , ] ,\r\n },\r\n]\r\n"),
            [
                one(2, "{\"a\": \"]}\\\"\"}"),
                one(3, "{\"b\": [1, 2  ] \r\n }")
            ]
        );
        assert_eq!(
            good("[{\"a\":1},{\"b\":{}},,]"),
            [one(1, "{\"a\":1}"), one(1, "{\"b\":{}}")]
        );
        assert_eq!(good("{\n}\n{\n}"), [one(1, "{\n}"), one(3, "{\n}")]);
        assert_eq!(
            good("[1, \"a,]\", null\n, [2], true]"),
            [
                one(1, "1"),
                one(1, "\"a,]\""),
                one(1, "null"),
                one(2, "[2]"),
                one(2, "true")
            ]
        );
    }

    #[test]
    fn a_broken_element_costs_no_other_on_a_line_of_its_own() {
        for (broken, line, reason) in [
            ("{\"a\": \"x},", 3, "a string is not closed"),
            ("{\"a\": [1},", 3, "brackets do not match"),
            ("{\"a\": {\"b\": 1},", 4, "expected a key, or the end"),
            (
                "{\"a\":\n      [{\"b\": 1}\n    },",
                5,
                "brackets do not match",
            ),
        ] {
            let text = format!("[\n  {{\"a\": 1}},\n  {broken}\n  {{\"b\": {{\n  \"c\": 2}}}}\n]");
            let found = elements(text.as_bytes());
            assert_eq!(found.len(), 3, "{found:?}");
            assert!(found[0].is_ok());
            let error = found[1].as_ref().unwrap_err();
            assert!(
                error.starts_with(&format!("a.json:{line}: {reason}")),
                "{error}"
            );
            assert_eq!(found[2].as_ref().unwrap().1, "{\"b\": {\n  \"c\": 2}}");
        }
    }

    #[test]
    fn ends_of_files_bad_bytes_and_depth() {
        let last = |text: &[u8]| elements(text).pop().unwrap().unwrap_err();
        assert!(last(b"[{\"a\": 1").contains("the file ends within this row"));
        assert!(last(b"[{}, {\"a").contains("the file ends"));
        assert!(last(b"[{\"a\": \"\xFF\"}]").contains("a.json:1: not UTF-8"));
        assert!(last(b"[{}, }").contains("a bracket closes that none opened"));
        assert!(last("[".repeat(1_000_000).as_bytes()).contains("too many brackets"));
    }

    #[test]
    fn an_endless_element_is_skipped_in_bounded_memory() {
        let long = std::io::Read::take(std::io::repeat(b'x'), MAX_LINE_BYTES as u64);
        let long = std::io::BufReader::new(long);
        let input = std::io::Read::chain(&b"[{\"a\":\""[..], long);
        let input = std::io::Read::chain(input, &b"\"}, {}]"[..]);
        let mut elements = Elements::new(std::io::BufReader::new(input), Path::new("a"));
        assert!(
            elements
                .next()
                .unwrap_err()
                .to_string()
                .contains("longer than")
        );
        assert_eq!(elements.next().unwrap(), Some("{}"));
        assert!(elements.buffer.capacity() <= 2 * MAX_LINE_BYTES);
    }
}
