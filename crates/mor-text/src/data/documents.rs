//! The documents of several files of any format: conversations, and plain text.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::data::format::stem;
use crate::data::pieces::Pieces;
use crate::data::{ChatReader, Columns, FileReader, Format, Schema, TableReader, TextReader};
use crate::{Conversation, Message, Result, Role, TextError};

/// What a model learns from in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// A conversation, with its source.
    Conversation(Conversation),
    /// A part of a running text.
    Text(TextPiece),
}

/// Some 64 KiB of a plain-text file, cut after a line break.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextPiece {
    /// The text, as it is in the file.
    pub text: String,
    /// Whether the file begins here.
    pub opens: bool,
    /// Where the text comes from: the file's name without its extension.
    pub source: String,
}

/// The documents of several files, in order: each conversation is one, and each plain-text file is one
/// running text in pieces. See [`crate::data::Rows`] for a text whose lines are rows. Documents that name no
/// source have their file's name without its extension.
///
/// A malformed row is an `Err` after which the documents go on; any other error is the last item.
#[derive(Debug)]
pub struct Documents {
    inputs: VecDeque<PathBuf>,
    /// Whether each line of a text is an item, rather than each piece.
    lines: bool,
    /// Columns of tables, instead of those that are known.
    columns: Option<Columns>,
    current: Option<Input>,
    finished_bytes: u64,
}

/// A file that is being read.
#[derive(Debug)]
struct Input {
    reader: Reader,
    opens: bool,
    source: String,
    bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Reader {
    Chat(ChatReader<FileReader>),
    Table(Box<TableReader<FileReader>>),
    Pieces(Pieces<FileReader>),
    Lines(TextReader<FileReader>),
}

impl Document {
    /// The document as a row: of text, a conversation of one assistant message, since that is what a model
    /// should learn to write.
    pub fn into_row(self) -> Conversation {
        match self {
            Self::Conversation(row) => row,
            Self::Text(piece) => Conversation {
                messages: vec![Message::new(Role::Assistant, piece.text)],
                source: Some(piece.source),
                licence: None,
            },
        }
    }
}

impl Documents {
    /// The documents of `inputs`. Files are opened when their turn comes.
    pub fn new(inputs: &[PathBuf]) -> Self {
        Self {
            inputs: inputs.iter().cloned().collect(),
            lines: false,
            columns: None,
            current: None,
            finished_bytes: 0,
        }
    }

    /// The documents of `inputs`, of which each line of a text is one.
    pub fn of_lines(inputs: &[PathBuf]) -> Self {
        Self {
            lines: true,
            ..Self::new(inputs)
        }
    }

    /// The same documents, of tables by the columns given, if there are any.
    #[must_use]
    pub fn with_columns(self, columns: Option<Columns>) -> Self {
        Self { columns, ..self }
    }

    /// Bytes read so far, to compare with the sizes of the files.
    pub fn bytes(&self) -> u64 {
        self.finished_bytes + self.current.as_ref().map_or(0, Input::bytes)
    }

    /// How the row yielded last writes its conversation; `None` of text.
    pub fn schema(&self) -> Option<Schema> {
        match &self.current.as_ref()?.reader {
            Reader::Chat(reader) => reader.schema(),
            Reader::Table(reader) => reader.schema(),
            Reader::Pieces(_) | Reader::Lines(_) => None,
        }
    }

    /// Fields or columns of the row yielded last that were not used.
    pub fn unused(&self) -> &[String] {
        match self.current.as_ref().map(|input| &input.reader) {
            Some(Reader::Chat(reader)) => reader.unused(),
            Some(Reader::Table(reader)) => reader.unused(),
            _ => &[],
        }
    }

    /// The source of rows that name none: the name of the file that is being read.
    pub fn source(&self) -> &str {
        self.current.as_ref().map_or("", |input| &input.source)
    }

    /// Ends the documents with `error`.
    fn fail(&mut self, error: TextError) -> Result<Document> {
        self.inputs.clear();
        self.current = None;
        Err(error)
    }
}

impl Input {
    fn open(path: &Path, lines: bool, columns: Option<&Columns>) -> Result<Self> {
        let (format, file) = Format::open_with(path, columns)?;
        let bytes = file.counter();
        let reader = match format {
            Format::Chat => Reader::Chat(ChatReader::new(file, path)),
            Format::Table => Reader::Table(Box::new(TableReader::new(file, path, columns)?)),
            Format::Text if lines => Reader::Lines(TextReader::new(file, path)),
            Format::Text => Reader::Pieces(Pieces::new(file, path)),
        };
        Ok(Self {
            reader,
            opens: true,
            source: stem(path),
            bytes,
        })
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn next(&mut self) -> Option<Result<Document>> {
        let row = match &mut self.reader {
            Reader::Chat(reader) => reader.next()?,
            Reader::Table(reader) => reader.next()?,
            Reader::Pieces(pieces) => {
                let text = pieces.next()?;
                return Some(text.map(|text| self.text(text)));
            }
            Reader::Lines(lines) => {
                let text = lines.next()?;
                return Some(text.map(|text| self.text(text)));
            }
        };
        Some(row.map(|mut row| {
            row.source.get_or_insert_with(|| self.source.clone());
            Document::Conversation(row)
        }))
    }

    fn text(&mut self, text: String) -> Document {
        Document::Text(TextPiece {
            text,
            opens: std::mem::take(&mut self.opens),
            source: self.source.clone(),
        })
    }
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(input) = &mut self.current else {
                match Input::open(&self.inputs.pop_front()?, self.lines, self.columns.as_ref()) {
                    Ok(input) => self.current = Some(input),
                    Err(error) => return Some(self.fail(error)),
                }
                continue;
            };
            match input.next() {
                Some(Err(error)) if !error.is_malformed() => return Some(self.fail(error)),
                Some(document) => return Some(document),
                None => {
                    self.finished_bytes += input.bytes();
                    self.current = None;
                }
            }
        }
    }
}
