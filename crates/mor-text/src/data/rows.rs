//! Rows of several files of either format.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::data::reader::FileReader;
use crate::data::{ChatReader, Format, TextReader};
use crate::{Conversation, Message, Result, Role};

/// The rows of several files, in order. Of plain text each line is a row: a conversation of one assistant
/// message, since that is what a model should learn to write.
///
/// A malformed line is an `Err` after which the rows go on; any other error is the last item.
#[derive(Debug)]
pub struct Rows {
    inputs: VecDeque<PathBuf>,
    current: Option<Source>,
    finished_bytes: u64,
}

#[derive(Debug)]
enum Source {
    Chat(ChatReader<FileReader>),
    Text(TextReader<FileReader>),
}

impl Rows {
    /// The rows of `inputs`. Files are opened when their turn comes.
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
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let (format, file) = Format::open(path)?;
        Ok(match format {
            Format::Chat => Self::Chat(ChatReader::new(file, path)),
            Format::Text => Self::Text(TextReader::new(file, path)),
        })
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Chat(reader) => reader.bytes(),
            Self::Text(reader) => reader.bytes(),
        }
    }

    fn next(&mut self) -> Option<Result<Conversation>> {
        match self {
            Self::Chat(reader) => reader.next(),
            Self::Text(reader) => reader.next().map(|line| {
                line.map(|line| Conversation {
                    messages: vec![Message::new(Role::Assistant, line)],
                    ..Conversation::default()
                })
            }),
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Conversation>;

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
                Some(row) => return Some(row),
                None => {
                    self.finished_bytes += source.bytes();
                    self.current = None;
                }
            }
        }
    }
}

impl Rows {
    /// Ends the rows with `error`.
    fn fail(&mut self, error: crate::TextError) -> Result<Conversation> {
        self.inputs.clear();
        self.current = None;
        Err(error)
    }
}
