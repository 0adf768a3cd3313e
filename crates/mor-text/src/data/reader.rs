//! Readers that yield one item at a time. A malformed line is an `Err` that names file, line and reason; the
//! reader goes on after it, so the caller decides whether to stop or to count. Any other error ends the reader.

use std::io::BufRead;
use std::path::Path;

#[cfg(feature = "fs")]
use crate::TextError;
use crate::data::lines::Lines;
use crate::{Conversation, Result};

/// The formats of a dataset file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON lines, one conversation each: `{"messages":[{"role":"user","content":"…"}, …]}`.
    Chat,
    /// Plain text, one item a line.
    Text,
}

impl Format {
    /// Decides by the name's extension (`.jsonl`, `.json`, `.ndjson` or `.txt`, `.md`), else by the first
    /// character that is not white space in `head`, the file's beginning: `{` opens a chat row.
    pub fn of(path: &Path, head: &[u8]) -> Self {
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("jsonl" | "ndjson" | "json") => Self::Chat,
            Some("txt" | "text" | "md") => Self::Text,
            _ => {
                let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
                match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
                    Some(b'{') => Self::Chat,
                    _ => Self::Text,
                }
            }
        }
    }

    /// Opens `path` for reading and decides its format.
    ///
    /// # Errors
    /// [`TextError::Io`] if the file cannot be read.
    #[cfg(feature = "fs")]
    pub fn open(path: &Path) -> Result<(Self, FileReader)> {
        let file = std::fs::File::open(path).map_err(|error| TextError::io(path, error))?;
        let mut reader = std::io::BufReader::with_capacity(1 << 18, file);
        let head = reader
            .fill_buf()
            .map_err(|error| TextError::io(path, error))?;
        Ok((Self::of(path, head), reader))
    }
}

/// A buffered file.
#[cfg(feature = "fs")]
pub type FileReader = std::io::BufReader<std::fs::File>;

/// Conversations from chat JSON lines. Empty lines are skipped.
#[derive(Debug)]
pub struct ChatReader<R> {
    lines: Lines<R>,
    ended: bool,
}

impl<R: BufRead> ChatReader<R> {
    /// Reads from `input`; `path` is for error messages.
    pub fn new(input: R, path: &Path) -> Self {
        Self {
            lines: Lines::new(input, path),
            ended: false,
        }
    }

    /// The line of the item yielded last, counted from 1.
    pub fn line(&self) -> u64 {
        self.lines.number()
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.lines.bytes()
    }

    fn read(&mut self) -> Result<Option<Conversation>> {
        loop {
            let Some(line) = self.lines.next()? else {
                return Ok(None);
            };
            if line.trim().is_empty() {
                continue;
            }
            return match parse(line) {
                Ok(conversation) => Ok(Some(conversation)),
                Err(reason) => Err(self.lines.malformed(reason)),
            };
        }
    }
}

#[cfg(feature = "fs")]
impl ChatReader<FileReader> {
    /// Opens a file of chat JSON lines.
    ///
    /// # Errors
    /// [`TextError::Io`] if the file cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::new(Format::open(path)?.1, path))
    }
}

impl<R: BufRead> Iterator for ChatReader<R> {
    type Item = Result<Conversation>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.read().transpose();
        self.ended = ends(&item);
        item
    }
}

/// Lines of plain text. Empty lines are skipped.
#[derive(Debug)]
pub struct TextReader<R> {
    lines: Lines<R>,
    ended: bool,
}

impl<R: BufRead> TextReader<R> {
    /// Reads from `input`; `path` is for error messages.
    pub fn new(input: R, path: &Path) -> Self {
        Self {
            lines: Lines::new(input, path),
            ended: false,
        }
    }

    /// The line of the item yielded last, counted from 1.
    pub fn line(&self) -> u64 {
        self.lines.number()
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.lines.bytes()
    }
}

#[cfg(feature = "fs")]
impl TextReader<FileReader> {
    /// Opens a file of plain text.
    ///
    /// # Errors
    /// [`TextError::Io`] if the file cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::new(Format::open(path)?.1, path))
    }
}

impl<R: BufRead> Iterator for TextReader<R> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = loop {
            match self.lines.next() {
                Ok(Some(line)) if line.trim().is_empty() => continue,
                Ok(line) => break line.map(|line| Ok(line.to_owned())),
                Err(error) => break Some(Err(error)),
            }
        };
        self.ended = ends(&item);
        item
    }
}

/// True if nothing can follow `item`: the end, or an error that is not about one line.
fn ends<T>(item: &Option<Result<T>>) -> bool {
    match item {
        None => true,
        Some(Err(error)) => !error.is_malformed(),
        Some(Ok(_)) => false,
    }
}

fn parse(line: &str) -> Result<Conversation, String> {
    if !line.trim_start().starts_with('{') {
        return Err("expected a JSON object {\"messages\":[…]}".to_owned());
    }
    let conversation: Conversation = serde_json::from_str(line).map_err(|error| {
        // Line 1 of 1 helps nobody; the column does.
        let column = error.column();
        let reason = error.to_string();
        let reason = reason
            .strip_suffix(&format!(" at line 1 column {column}"))
            .unwrap_or(&reason);
        format!("column {column}: {reason}")
    })?;
    if conversation.messages.is_empty() {
        return Err("`messages` is empty".to_owned());
    }
    Ok(conversation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;

    const ROWS: &str = concat!(
        "\u{FEFF}{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\\r\"}]}\r\n",
        "\n   \n",
        "{\"messages\":[]}\n",
        "{\"text\":\"no messages\"}\n",
        "{\"messages\":[{\"role\":\"tool\",\"content\":\"\"}]}\n",
        "{\"messages\":[{\"role\":\"user\"\n",
        "[1]\n",
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s\",\"more\":1}],\"source\":\"x\",\"licence\":\"MIT\"}",
    );

    #[test]
    fn malformed_rows_name_file_line_and_reason_and_reading_goes_on() {
        let mut rows = ChatReader::new(ROWS.as_bytes(), Path::new("rows.jsonl"));
        let first = rows.next().unwrap().unwrap();
        assert_eq!(first.messages[1].content, "a\r");
        for (line, reason) in [
            (4, "`messages` is empty"),
            (5, "missing field `messages`"),
            (6, "unknown variant `tool`"),
            (7, "EOF"),
            (8, "expected a JSON object"),
        ] {
            let error = rows.next().unwrap().unwrap_err();
            let text = error.to_string();
            assert!(error.is_malformed());
            assert!(
                text.starts_with(&format!("rows.jsonl:{line}: ")) && text.contains(reason),
                "{text}"
            );
        }
        let last = rows.next().unwrap().unwrap();
        assert_eq!(
            (last.messages[0].role, last.licence.as_deref()),
            (Role::System, Some("MIT"))
        );
        assert_eq!(rows.line(), 9);
        assert!(rows.next().is_none() && rows.next().is_none());
    }

    #[test]
    fn format_by_extension_then_content() {
        let of = |name: &str, head: &[u8]| Format::of(Path::new(name), head);
        assert_eq!(of("a.JSONL", b"text"), Format::Chat);
        assert_eq!(of("a.txt", b"{}"), Format::Text);
        assert_eq!(of("a", b"\xEF\xBB\xBF\n {\"messages\""), Format::Chat);
        assert_eq!(of("a.log", b"text"), Format::Text);
        assert_eq!(of("a", b""), Format::Text);
    }

    #[test]
    fn text_lines() {
        let lines: Vec<_> =
            TextReader::new(&b"one\r\n\n two \n\xC3\nthree"[..], Path::new("t.txt"))
                .map(|line| line.map_err(|error| error.to_string()))
                .collect();
        let expected = [
            Ok("one"),
            Ok(" two "),
            Err("t.txt:4: not UTF-8 at byte 1"),
            Ok("three"),
        ];
        assert_eq!(
            lines,
            expected.map(|line| line.map(str::to_owned).map_err(str::to_owned))
        );
    }
}
