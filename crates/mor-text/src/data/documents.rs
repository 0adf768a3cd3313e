//! The documents of several files of any format: conversations, and plain text.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::data::pieces::Pieces;
use crate::data::reader::FileReader;
use crate::data::{ChatReader, Format};
use crate::{Conversation, Result, TextError};

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

/// The documents of several files, in order: each conversation is one, and each plain-text file is one running text in
/// pieces. See [`crate::data::Rows`] for a text whose lines are rows.
///
/// A malformed row is an `Err` after which the documents go on; any other error is the last item.
#[derive(Debug)]
pub struct Documents {
    inputs: VecDeque<PathBuf>,
    current: Option<Source>,
    finished_bytes: u64,
}

#[derive(Debug)]
enum Source {
    Chat(ChatReader<FileReader>, String),
    Text {
        pieces: Pieces<FileReader>,
        opens: bool,
        bytes: u64,
        source: String,
    },
}

impl Documents {
    /// The documents of `inputs`. Files are opened when their turn comes.
    pub fn new(inputs: &[PathBuf]) -> Self {
        Self {
            inputs: inputs.iter().cloned().collect(),
            current: None,
            finished_bytes: 0,
        }
    }

    /// Bytes read so far, to compare with the sizes of the files.
    pub fn bytes(&self) -> u64 {
        self.finished_bytes + self.current.as_ref().map_or(0, Source::bytes)
    }

    /// Ends the documents with `error`.
    fn fail(&mut self, error: TextError) -> Result<Document> {
        self.inputs.clear();
        self.current = None;
        Err(error)
    }
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let source = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(match Format::open(path)? {
            (Format::Chat, file) => Self::Chat(ChatReader::new(file, path), source),
            (Format::Text, file) => Self::Text {
                pieces: Pieces::new(file, path),
                opens: true,
                bytes: 0,
                source,
            },
        })
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Chat(reader, _) => reader.bytes(),
            Self::Text { bytes, .. } => *bytes,
        }
    }

    fn next(&mut self) -> Option<Result<Document>> {
        match self {
            Self::Chat(reader, source) => Some(reader.next()?.map(|mut row| {
                row.source.get_or_insert_with(|| source.clone());
                Document::Conversation(row)
            })),
            Self::Text {
                pieces,
                opens,
                bytes,
                source,
            } => Some(pieces.next()?.map(|text| {
                *bytes += text.len() as u64;
                Document::Text(TextPiece {
                    text,
                    opens: std::mem::take(opens),
                    source: source.clone(),
                })
            })),
        }
    }
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(source) = &mut self.current else {
                match Source::open(&self.inputs.pop_front()?) {
                    Ok(source) => self.current = Some(source),
                    Err(error) => return Some(self.fail(error)),
                }
                continue;
            };
            match source.next() {
                Some(Err(error)) if !error.is_malformed() => return Some(self.fail(error)),
                Some(document) => return Some(document),
                None => {
                    self.finished_bytes += source.bytes();
                    self.current = None;
                }
            }
        }
    }
}
