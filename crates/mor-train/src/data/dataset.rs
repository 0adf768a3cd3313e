//! A data file, tokenized once into memory.

use std::path::{Path, PathBuf};

use mor_text::data::{ChatReader, Format};
use mor_text::{Conversation, TextError, Tokenizer};

use crate::{Result, TrainError};

/// Conversations that are encoded together, in parallel.
const CHUNK: usize = 4096;

/// One training sequence: a conversation, a part of a long one, or a window of plain text.
#[derive(Clone, Copy, Debug)]
struct Row {
    start: usize,
    len: u32,
    bytes: u32,
    source: u16,
}

/// Sequences of token ids with the bytes they stand for and the source they come from.
///
/// A sequence of `n` ids gives `n - 1` inputs, each with the next id as its target; sequences hold
/// at most `context + 1` ids.
#[derive(Debug, Default)]
pub struct Dataset {
    path: PathBuf,
    tokens: Vec<u32>,
    rows: Vec<Row>,
    sources: Vec<String>,
    /// Lines that could not be read.
    pub malformed: u64,
    /// Conversations longer than the context.
    pub overlong: u64,
}

/// What happens to a conversation that is longer than the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlong {
    /// Its end is dropped: for training.
    Truncate,
    /// It is cut into parts, the next starting where the last ended, so that every token is
    /// scored: for measuring.
    Split,
}

impl Dataset {
    /// Reads chat JSON lines, one sequence a conversation, or plain text, cut into windows of the
    /// context. `limit` stops after so many conversations.
    ///
    /// # Errors
    /// [`TrainError::Text`] for an unreadable file; [`TrainError::Data`] if it has nothing to
    /// learn from.
    pub fn read(
        path: &Path,
        tokenizer: &Tokenizer,
        context: usize,
        overlong: Overlong,
        limit: Option<usize>,
    ) -> Result<Self> {
        let mut data = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        if path.is_dir() {
            return Err(data.error("is a folder; expected a .jsonl or .txt file".to_owned()));
        }
        match Format::open(path)? {
            (Format::Chat, file) => {
                let reader = ChatReader::new(file, path);
                data.read_chat(reader, tokenizer, context, overlong, limit)?;
            }
            (Format::Text, _) => data.read_text(tokenizer, context)?,
        }
        if data.rows.is_empty() {
            return Err(data.error(if data.malformed > 0 {
                format!("none of its {} lines is a conversation", data.malformed)
            } else {
                "is empty; expected chat JSON lines ({\"messages\":[…]}) or plain text".to_owned()
            }));
        }
        Ok(data)
    }

    fn read_chat(
        &mut self,
        reader: impl Iterator<Item = Result<Conversation, TextError>>,
        tokenizer: &Tokenizer,
        context: usize,
        overlong: Overlong,
        limit: Option<usize>,
    ) -> Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut first_error = None;
        let mut count = 0;
        for item in reader {
            if limit.is_some_and(|limit| count >= limit) {
                break;
            }
            match item {
                Ok(conversation) => chunk.push(conversation),
                Err(error) if error.is_malformed() => {
                    self.malformed += 1;
                    first_error.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            count += 1;
            if chunk.len() == CHUNK {
                self.push_chat(&chunk, tokenizer, context, overlong)?;
                chunk.clear();
            }
        }
        self.push_chat(&chunk, tokenizer, context, overlong)?;
        match first_error {
            // Only malformed lines: the first one says more than "no conversations" could.
            Some(error) if self.rows.is_empty() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn push_chat(
        &mut self,
        conversations: &[Conversation],
        tokenizer: &Tokenizer,
        context: usize,
        overlong: Overlong,
    ) -> Result<()> {
        let messages: Vec<_> = conversations.iter().map(|c| &c.messages[..]).collect();
        let encoded = tokenizer.encode_chat_batch(&messages, false)?;
        for (conversation, ids) in conversations.iter().zip(encoded) {
            let source = self.source(conversation.source.as_deref().unwrap_or(""));
            let bytes = conversation.content_bytes();
            if ids.len() > context + 1 {
                self.overlong += 1;
            }
            match overlong {
                Overlong::Truncate => {
                    self.push(&ids[..ids.len().min(context + 1)], bytes, source);
                }
                Overlong::Split => self.push_windows(&ids, context, bytes, source),
            }
        }
        Ok(())
    }

    fn read_text(&mut self, tokenizer: &Tokenizer, context: usize) -> Result<()> {
        let raw = std::fs::read(&self.path).map_err(TrainError::io(&self.path))?;
        let text = String::from_utf8(raw)
            .map_err(|error| self.error(format!("is not UTF-8 text: {error}")))?;
        if text.trim().is_empty() {
            return Ok(());
        }
        let mut ids: Vec<u32> = tokenizer.bos_id().into_iter().collect();
        ids.extend(tokenizer.encode(&text)?);
        let source = self.source("");
        self.push_windows(&ids, context, text.len(), source);
        Ok(())
    }

    /// Windows of `context` inputs; each begins with the last target of the one before, so every
    /// id but the first is a target exactly once. The bytes count with the first window.
    fn push_windows(&mut self, ids: &[u32], context: usize, bytes: usize, source: u16) {
        let mut start = 0;
        let mut bytes = Some(bytes);
        while start + 1 < ids.len() {
            let end = (start + context + 1).min(ids.len());
            self.push(&ids[start..end], bytes.take().unwrap_or(0), source);
            start = end - 1;
        }
    }

    fn push(&mut self, ids: &[u32], bytes: usize, source: u16) {
        if ids.len() < 2 {
            return; // nothing to predict
        }
        self.rows.push(Row {
            start: self.tokens.len(),
            len: ids.len() as u32,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            source,
        });
        self.tokens.extend_from_slice(ids);
    }

    fn source(&mut self, name: &str) -> u16 {
        let known = self.sources.iter().position(|source| source == name);
        let index = known.unwrap_or_else(|| {
            // Past this many sources the last one collects the rest.
            if self.sources.len() < usize::from(u16::MAX) {
                self.sources.push(name.to_owned());
            }
            self.sources.len() - 1
        });
        index as u16
    }

    fn error(&self, problem: String) -> TrainError {
        TrainError::Data {
            path: self.path.clone(),
            problem,
        }
    }

    /// The file this was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The ids of a sequence, at least two.
    pub fn ids(&self, row: usize) -> &[u32] {
        let Row { start, len, .. } = self.rows[row];
        &self.tokens[start..start + len as usize]
    }

    /// Inputs (and targets) of a sequence.
    pub fn inputs(&self, row: usize) -> usize {
        self.rows[row].len as usize - 1
    }

    /// UTF-8 bytes that a sequence stands for.
    pub fn bytes(&self, row: usize) -> usize {
        self.rows[row].bytes as usize
    }

    /// The index of a sequence's source in [`Self::sources`].
    pub fn source_of(&self, row: usize) -> usize {
        usize::from(self.rows[row].source)
    }

    /// Names of the sources; rows that name none share an empty one.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// Targets in all.
    pub fn targets(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.len) - 1).sum()
    }

    /// UTF-8 bytes in all.
    pub fn total_bytes(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.bytes)).sum()
    }

    /// The largest id, for the check that a tokenizer fits a model.
    pub fn largest_id(&self) -> u32 {
        self.tokens.iter().copied().max().unwrap_or(0)
    }

    /// A dataset of given sequences, each of at least two ids, one byte a target; for tests.
    #[cfg(test)]
    pub(crate) fn from_sequences(sequences: &[Vec<u32>]) -> Self {
        let mut data = Self::default();
        let source = data.source("");
        for ids in sequences {
            data.push(ids, ids.len() - 1, source);
        }
        data
    }
}
