//! Readers that yield one item at a time. A malformed row is an `Err` that names file, line and reason; the
//! reader goes on after it, so the caller decides whether to stop or to count. Any other error ends the
//! reader.

use std::io::BufRead;
use std::path::Path;

use crate::data::elements::Elements;
use crate::data::format::Layout;
use crate::data::lines::Lines;
use crate::data::schema::{Row, Schema, conversation};
#[cfg(feature = "fs")]
use crate::data::signature::{Foreign, foreign};
#[cfg(feature = "fs")]
use crate::data::{Columns, FileReader, Format};
use crate::{Conversation, Result, TextError};

#[cfg(feature = "fs")]
impl Format {
    /// Opens `path` for reading, decompressed, and decides its format.
    ///
    /// # Errors
    /// [`TextError::Io`] if the file cannot be read, [`TextError::TokenFile`] if it holds tokens rather than
    /// text, [`TextError::Unusable`] if it is evidently something else.
    pub fn open(path: &Path) -> Result<(Self, FileReader)> {
        Self::open_with(path, None)
    }

    /// As [`Format::open`], of a table by the columns given, if there are any.
    pub(super) fn open_with(path: &Path, columns: Option<&Columns>) -> Result<(Self, FileReader)> {
        let (reader, head) = FileReader::open(path)?;
        if head.starts_with(&crate::tokens::MAGIC) {
            return Err(TextError::TokenFile {
                path: path.to_owned(),
                reason: "a token file; give the files that it was made of".to_owned(),
            });
        }
        if let Some(Foreign { name, remedy }) = foreign(&head) {
            return Err(TextError::Unusable {
                path: path.to_owned(),
                reason: format!("this is {name}; {remedy}"),
            });
        }
        Ok((Self::with_columns(path, &head, columns), reader))
    }
}

/// Conversations of JSON rows, of any [`Schema`] and [`Layout`]. Empty lines are skipped.
///
/// ```
/// use std::path::Path;
///
/// use mor_text::data::{ChatReader, Schema};
///
/// let file = br#"{"instruction": "Name a noble gas.", "output": "Neon."}
/// {"instruction": "Another?"}"#;
/// let mut rows = ChatReader::new(&file[..], Path::new("rows.jsonl"));
/// let row = rows.next().expect("a row")?;
/// assert_eq!(row.messages[1].content, "Neon.");
/// assert_eq!(rows.schema(), Some(Schema::Alpaca));
/// let error = rows.next().expect("a row").unwrap_err();
/// assert!(error.to_string().starts_with("rows.jsonl:2: "), "{error}");
/// # Ok::<(), mor_text::TextError>(())
/// ```
#[derive(Debug)]
pub struct ChatReader<R> {
    values: Values<R>,
    schema: Option<Schema>,
    unused: Vec<String>,
    ended: bool,
}

/// JSON values, in either way of telling where one ends.
#[derive(Debug)]
enum Values<R> {
    Lines(Lines<R>),
    Elements(Elements<R>, Layout),
}

impl<R: BufRead> ChatReader<R> {
    /// Reads from `input`; `path` is for error messages.
    pub fn new(mut input: R, path: &Path) -> Self {
        // An error here comes again with the first row.
        let layout = Layout::of(input.fill_buf().unwrap_or_default());
        let values = match layout {
            Layout::Lines => Values::Lines(Lines::new(input, path)),
            layout => Values::Elements(Elements::new(input, path), layout),
        };
        Self {
            values,
            schema: None,
            unused: Vec::new(),
            ended: false,
        }
    }

    /// The line on which the item yielded last begins, counted from 1.
    pub fn line(&self) -> u64 {
        match &self.values {
            Values::Lines(lines) => lines.number(),
            Values::Elements(elements, _) => elements.number(),
        }
    }

    /// Bytes read so far, as they are after decompression.
    pub fn bytes(&self) -> u64 {
        match &self.values {
            Values::Lines(lines) => lines.bytes(),
            Values::Elements(elements, _) => elements.bytes(),
        }
    }

    /// How rows follow one another.
    pub fn layout(&self) -> Layout {
        match &self.values {
            Values::Lines(_) => Layout::Lines,
            Values::Elements(_, layout) => *layout,
        }
    }

    /// How the row yielded last writes its conversation.
    pub fn schema(&self) -> Option<Schema> {
        self.schema
    }

    /// Fields of the row yielded last that were not used; a turn's as `messages[].name`.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    fn read(&mut self) -> Result<Option<Conversation>> {
        let row = loop {
            match self.values.next()? {
                None => return Ok(None),
                Some(row) if row.trim().is_empty() => continue,
                Some(row) => break parse(row),
            }
        };
        match row {
            Ok(row) => {
                self.schema = Some(row.schema);
                self.unused = row.unused.0;
                Ok(Some(row.conversation))
            }
            Err((below, reason)) => Err(self.values.malformed(below, reason)),
        }
    }
}

impl<R: BufRead> Values<R> {
    fn next(&mut self) -> Result<Option<&str>> {
        match self {
            Self::Lines(lines) => lines.next(),
            Self::Elements(elements, _) => elements.next(),
        }
    }

    fn malformed(&self, below: u64, reason: String) -> TextError {
        match self {
            Self::Lines(lines) => lines.malformed(reason),
            Self::Elements(elements, _) => elements.malformed(below, reason),
        }
    }
}

#[cfg(feature = "fs")]
impl ChatReader<FileReader> {
    /// Opens a file of JSON rows.
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
pub(super) fn ends<T>(item: &Option<Result<T>>) -> bool {
    match item {
        None => true,
        Some(Err(error)) => !error.is_malformed(),
        Some(Ok(_)) => false,
    }
}

/// The conversation of a row, or which line of it is wrong (from 0) and why.
fn parse(row: &str) -> Result<Row, (u64, String)> {
    // Rows of an array that were split into lines keep their commas.
    let row = row.trim();
    let row = row.strip_suffix(',').unwrap_or(row);
    let value = serde_json::from_str(row).map_err(|error| {
        // The line within the row helps nobody; the column does.
        let (line, column) = (error.line(), error.column());
        let reason = error.to_string();
        let reason = reason
            .strip_suffix(&format!(" at line {line} column {column}"))
            .unwrap_or(&reason);
        let below = line.saturating_sub(1) as u64;
        if row.starts_with(['{', '[']) {
            (below, format!("column {column}: {reason}"))
        } else {
            (
                below,
                "expected a JSON object {\"messages\":[…]}".to_owned(),
            )
        }
    })?;
    conversation(value).map_err(|reason| (0, reason))
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
            (6, "unknown role \"tool\""),
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
